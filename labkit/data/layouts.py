"""Layouts: which files make one, and which of them lies under a root."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.common.errors import DataError
from labkit.data.folders import class_folders, inside, source_of
from labkit.data.source import Source

# What people call the three splits, in folders and in file names; the first is ours.
_WORDS = {
    "train": ("train", "training", "base"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing", "novel"),
}
SPLIT_NAMES = {
    split: (*words, *(f"meta{between}{word}" for between in ("_", "-", "") for word in words))
    for split, words in _WORDS.items()
}


def _themselves(root: Path, *found: Path) -> list[Path]:
    return list(found)


@dataclass(frozen=True)
class Layout:
    """One way in which people keep a data set.

    Attributes:
        name: what `layout=` calls it.
        paths: alternatives, the first that is all there counts; relative to the root, folders with a
            slash at the end, with the fields ``{split}``, ``{phase}`` (``train_phase_train``, val, test) and ``{long}``
            (train, ``validation``, test). Where none is there, `SPLIT_NAMES` are tried for ``{split}``.
        read: opens the split, from the root and the found paths in the order of the alternative.
        files: every file that shapes the images, from the same; only looked at, not read.
    """

    name: str
    paths: tuple[tuple[str, ...], ...]
    read: Callable[..., Source]
    files: Callable[..., list[Path]] = _themselves

    def alternatives(self, split: str) -> list[tuple[str, ...]]:
        """The paths of one split, relative to the root, under the names that the layout was published with."""
        phase, long = {"train": "train_phase_train"}.get(split, split), {"val": "validation"}.get(split, split)
        return self._filled([{"split": split, "phase": phase, "long": long}])

    def find(self, root: Path, split: str) -> list[Path] | None:
        """The paths of the first alternative that is all there, or None."""
        spelled = [form(name) for form in (str, str.capitalize, str.upper) for name in SPLIT_NAMES[split]]
        others = [{"split": name, "phase": name, "long": name} for name in spelled]
        for paths in (*self.alternatives(split), *self._filled(others)):
            if all((root / path).is_dir() if path.endswith("/") else (root / path).is_file() for path in paths):
                return [inside(root, root / path) for path in paths]
        return None

    def _filled(self, fields: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
        filled = [tuple(path.format(**field) for path in paths) for paths in self.paths for field in fields]
        return list(dict.fromkeys(filled))


def recognise(
    dataset: str, layouts: Sequence[Layout], root: Path, split: str, wanted: str | None = None
) -> tuple[Layout, list[Path]]:
    """The layout that lies under `root`, and its paths.

    Args:
        root: a folder, links followed.
        split: ``"train"``, ``"val"`` or ``"test"``.
        wanted: only this layout, where more than one lies there.

    Raises:
        DataError: none of them is there, or several and `wanted` names none.
        ValueError: `wanted` names no layout.
    """
    names = [layout.name for layout in layouts]
    if wanted is not None and wanted not in names:
        raise ValueError(f"layout must be one of {', '.join(map(repr, names))}, got {wanted!r}")
    tried = [layout for layout in layouts if wanted in (None, layout.name)]
    found = [(layout, paths) for layout in tried if (paths := layout.find(root, split)) is not None]
    if not found:
        looked_for = "; ".join(
            f"{layout.name}: {' or '.join(' + '.join(paths) for paths in layout.alternatives(split))}"
            for layout in tried
        )
        others = f"(or {', '.join(_WORDS[split][1:])} in its place, or one of them behind meta_)"
        raise DataError(f"{root}: no known layout of the {split} split {others} of {dataset}, looked for {looked_for}")
    if len(found) > 1:
        there = "; ".join(
            f"{layout.name}: {' + '.join(str(path.relative_to(root)) for path in paths)}" for layout, paths in found
        )
        raise DataError(
            f"{root}: several layouts of the {split} split of {dataset}, pass layout= to say which ({there})"
        )
    return found[0]


def _folder_files(root: Path, folder: Path) -> list[Path]:
    return [file for images in class_folders(root, folder).values() for file in images]


FOLDERS = Layout(
    "folders",
    (("{split}/",),),
    read=lambda root, folder: source_of(root, class_folders(root, folder)),
    files=_folder_files,
)


def _read_hdf5(root: Path, file: Path, names_file: Path) -> Source:
    from labkit.data.hdf5 import read_hdf5  # slow to import, and most people have no such file

    return read_hdf5(root, file, names_file)


HDF5 = Layout("hdf5", (("{split}_data.hdf5", "{split}_labels.json"),), _read_hdf5)
