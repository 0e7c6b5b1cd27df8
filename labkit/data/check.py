"""Which data set lies in a folder, whether it is whole, and whether it is the copy that the lab's numbers come from."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labkit.common.errors import DataError, few, printable
from labkit.data import cifar_fs, tinyimagenet
from labkit.data.folders import real_root
from labkit.data.layouts import FOLDERS, Layout
from labkit.data.own_folder import split_folders
from labkit.data.prints import SplitPrint, differences, digest_of_rows, print_of, reference
from labkit.data.real import CLASS_COUNTS, LAYOUTS
from labkit.data.source import SPLITS, Source
from labkit.data.sums import sum_of

# Pictures of each split, by the papers.
IMAGE_COUNTS = {
    "miniimagenet": {"train": 38_400, "val": 9_600, "test": 12_000},
    "tieredimagenet": {"train": 448_695, "val": 124_261, "test": 206_209},
    "cifar-fs": {"train": 38_400, "val": 9_600, "test": 12_000},
    tinyimagenet.NAME: {"test": 87_000},
}
SHARED = ("folders", "hdf5")  # layouts that several data sets come in


@dataclass(frozen=True)
class CheckedSplit:
    """One split as it lies there.

    Attributes:
        split: ``"train"``, ``"val"`` or ``"test"``; ``"all"`` of own images that no folders split.
        images: how many.
        per_class: pictures of each class, by its name.
        sizes: how many pictures are of each width and height, in pixels.
        problems: what is wrong, in sentences; a split that cannot be read has nothing else.
    """

    split: str
    images: int
    per_class: dict[str, int]
    sizes: dict[tuple[int, int], int]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckedData:
    """A data set as it lies in a folder; `str` of it is the report.

    Attributes:
        root: the folder.
        dataset: what `labkit.load_images` calls it.
        layout: and its layout.
        splits: those that are there.
        digest: sha256 of the source: of the pictures' names and contents in order, or of the files that hold them.
        is_reference: whether these are the pictures that the lab's numbers come from; None where it knows none.
        differences: in what it differs from them, or from what the papers say is whole; sentences.
        notes: what was left out.
    """

    root: Path
    dataset: str
    layout: str
    splits: tuple[CheckedSplit, ...]
    digest: str
    is_reference: bool | None
    differences: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all its splits can be read (of own images: what is there)."""
        there = {split.split for split in self.splits}
        return not any(split.problems for split in self.splits) and there >= set(IMAGE_COUNTS.get(self.dataset, ()))

    def __str__(self) -> str:
        lines = [f"{self.root}: {self.dataset}, layout {self.layout}"]
        for split in self.splits:
            counts = sorted(split.per_class.values())
            sizes = sorted(split.sizes, key=lambda size: size[0] * size[1])
            each = " to ".join(str(count) for count in dict.fromkeys((*counts[:1], *counts[-1:])))
            size = " .. ".join(f"{w}x{h}" for w, h in dict.fromkeys((*sizes[:1], *sizes[-1:])))
            of_each = f", {each} a class, {size} px" if counts else ""
            lines.append(f"  {split.split:<6}{split.images:>7} pictures of {len(counts)} classes{of_each}")
            lines += [f"        {problem}" for problem in split.problems]
        verdict = {
            True: "the copy that the lab's numbers come from",
            False: "not the copy that the lab's numbers come from",
            None: "of this data set the lab knows no copy by its digest",
        }[self.is_reference]
        lines.append(f"  digest {self.digest[:16]}: {verdict}")
        return printable("\n".join([*lines, *(f"  - {text}" for text in (*self.differences, *self.notes))]))


def check_data(root: Path | str) -> tuple[CheckedData, ...]:
    """What lies under `root`: every data set and layout there, read through as `labkit.load_images` would, uncached.

    It takes seconds for miniImageNet as JPEG files, and minutes for tieredImageNet.

    Args:
        root: a folder as for `labkit.load_images`.

    Raises:
        DataError: no such folder, or nothing in it that is known.
    """
    folder = real_root(root)
    found = list(_published(folder)) or list(_own(folder))
    if not any(split.images for data in found for split in data.splits):
        below = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(_published(path))]
        if below:
            raise DataError(
                f"{folder}: no data set in this folder itself, but in {few(list(map(str, below)))}; give that"
            )
    if not found:
        raise DataError(
            f"{folder}: no known data set; expected one of the layouts of miniImageNet, tieredImageNet, CIFAR-100 or "
            "Tiny ImageNet, or a folder for each class"
        )
    return tuple(found)


def _published(root: Path) -> Iterator[CheckedData]:
    """Every data set that is not somebody's own."""
    yield from _known(root)
    yield from _cifar(root)
    if tinyimagenet.find(root) is not None:
        yield _checked(root, tinyimagenet.NAME, tinyimagenet.LAYOUT, {"test": partial(tinyimagenet.read, root)}, [])


def _known(root: Path) -> Iterator[CheckedData]:
    """miniImageNet and tieredImageNet, in every layout that is there."""
    for dataset, layouts in LAYOUTS.items():
        for layout in layouts:
            paths = {split: found for split in SPLITS if (found := layout.find(root, split)) is not None}
            if not paths or (layout.name in SHARED and _whose(root, layout, paths) != dataset):
                continue
            readers = {split: partial(layout.read, root, *found) for split, found in paths.items()}
            files = [path for found in paths.values() for path in found if path.is_file()]
            yield _checked(root, dataset, layout.name, readers, files)


def _whose(root: Path, layout: Layout, paths: dict[str, list[Path]]) -> str:
    """Which data set a layout that several have holds: by the number of classes of most of its splits."""
    classes: dict[str, int] = {}
    for split, found in paths.items():
        with suppress(DataError):
            classes[split] = len(layout.read(root, *found).class_names)
    fits = {name: sum(counts[s] == n for s, n in classes.items()) for name, counts in CLASS_COUNTS.items()}
    best = max(fits, key=lambda name: fits[name])
    if fits[best] >= min(2, len(paths)):  # one split may be incomplete; one alone that fits says nothing
        return best
    return "folder" if layout.name == "folders" else "miniimagenet"


def _cifar(root: Path) -> Iterator[CheckedData]:
    files = cifar_fs.find(root)
    if files is not None:
        readers = {split: partial(cifar_fs.read_split, split, files) for split in SPLITS}
        yield _checked(root, "cifar-fs", cifar_fs.FOLDER, readers, files)
    elif cifar_fs.is_in_folders(root):
        readers = {split: partial(cifar_fs.read_folders, split, root) for split in SPLITS}
        yield _checked(root, "cifar-fs", "folders", readers, [])


def _own(root: Path) -> Iterator[CheckedData]:
    """Own images in folders, split or not."""
    splits = split_folders(root)
    if splits is None and not any(path.is_dir() and not path.name.startswith(".") for path in root.iterdir()):
        return
    folders = splits or {"all": root}
    readers = {split: partial(FOLDERS.read, root, folder) for split, folder in folders.items()}
    yield _checked(root, "folder", "split folders" if splits else "folders", readers, [])


def _checked(
    root: Path, dataset: str, layout: str, readers: Mapping[str, Callable[[], Source]], files: list[Path]
) -> CheckedData:
    splits, prints, said = [], {}, []
    with _warned() as notes:
        for split, read in readers.items():
            try:
                found = print_of(read())
            except DataError as error:
                splits.append(CheckedSplit(split, 0, {}, {}, (str(error),)))
                continue
            prints[split] = found
            counts = {name: each.images for name, each in found.classes.items()}
            broken = found.sizes.get((0, 0), 0)
            problems = (f"{broken} pictures cannot be opened",) if broken else ()
            splits.append(CheckedSplit(split, sum(counts.values()), counts, found.sizes, problems))
            said += [f"{split}: {text}" for text in _against(dataset, split, found)]
    expected = IMAGE_COUNTS.get(dataset, {})
    said = [*(f"the {split} split is not there" for split in expected if split not in readers), *said]
    if dataset == "cifar-fs":
        said += [f"{name} is not the file that was published, by its MD5" for name in cifar_fs.not_as_published(files)]
    rows = [each for each in prints.values() if each.rows]
    digest = digest_of_rows(rows) if rows else hashlib.sha256("".join(map(sum_of, files)).encode()).hexdigest()
    ours = {"miniimagenet": reference()["digest"], tinyimagenet.NAME: tinyimagenet.digest()}.get(dataset)
    known = None if ours is None else digest == ours
    if dataset == "miniimagenet" and not known and not said:
        said.append("holds other files, but classes, numbers, sizes and mean colours agree where they can be compared")
    return CheckedData(root, dataset, layout, tuple(splits), digest, known, tuple(said), tuple(notes))


def _against(dataset: str, split: str, found: SplitPrint) -> list[str]:
    """In what a split differs from the lab's copy, or from what the papers say it holds."""
    if dataset == "folder":
        return []
    images = sum(each.images for each in found.classes.values())
    classes = {"cifar-fs": cifar_fs.CLASSES.get(split), tinyimagenet.NAME: tinyimagenet.novel_classes()}.get(dataset)
    expected = CLASS_COUNTS[dataset][split] if classes is None else len(classes)
    said = []
    if len(found.classes) != expected or images != IMAGE_COUNTS[dataset][split]:
        whole = f"{IMAGE_COUNTS[dataset][split]} pictures of {expected} classes"
        said.append(f"expected {whole}, found {images} of {len(found.classes)}")
    return [*said, *(differences(split, found) if dataset == "miniimagenet" else ())]


@contextmanager
def _warned() -> Iterator[list[str]]:
    """The texts of the warnings that came, in place of the warnings."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += dict.fromkeys(str(each.message) for each in caught if each.category is UserWarning)
