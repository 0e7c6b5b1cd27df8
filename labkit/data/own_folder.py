"""Images of your own: folders or a CSV table; split by folders, by listed classes or by a seeded share."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit.common import checks
from labkit.common.errors import DataError, printable
from labkit.common.files import expanded
from labkit.common.names import composed
from labkit.data.decode import SUFFIXES
from labkit.data.folders import class_folders, csv_images, entries_of, inside, real_root, source_of
from labkit.data.imageset import ImageSet
from labkit.data.layouts import SPLIT_NAMES
from labkit.data.left_out import LeftOut
from labkit.data.source import SPLITS, check_choice, load

SHARES = (0.64, 0.16, 0.2)


def load_folder(
    root: Path | str,
    split: str,
    *,
    size: int = 84,
    resampling: str = "bilinear",
    classes: Mapping[str, Sequence[str]] | None = None,
    shares: Sequence[float] | None = None,
    seed: int = 0,
    csv: Path | str | None = None,
    progress: bool = True,
) -> ImageSet:
    """One split of your own images. No class is in two splits, unless your own folders put it there.

    Where all folders in `root` are called as splits are (``train``, ``val``, ``test`` and other names of theirs, see
    `labkit.data.layouts.SPLIT_NAMES`) and hold folders themselves, these are the splits; otherwise every folder is a
    class, and the classes are split by `classes`, or dealt out by `shares` and `seed`.

    Args:
        root: holds a folder for each class with images in it, or a folder for each split with such folders; with
            `csv`, the folder where its paths start.
        split: ``"train"``, ``"val"`` or ``"test"``.
        size: side of the images in pixels; whole pictures are squashed into the square, see `decode`.
        resampling: filter of that resize, a name of `PIL.Image.Resampling`.
        classes: the class names of each split, for example ``{"train": ["cat", ...], "test": ["owl", ...]}``.
        shares: without `classes`, the share of the classes that train, val and test get; None for `SHARES`.
        seed: without `classes`, which classes go where; the same names and seed always give the same splits.
        csv: table of images, ``path,class`` or ``filename,label``; relative to `root`.

    Warns:
        UserWarning: pictures of formats that are not read, and what systems leave behind, are left out; or your
            folders have a class in two splits.

    Raises:
        DataError: the files are not as described, or the split has no class.
        ValueError: an argument has none of the allowed values.
        TypeError: `classes` or `shares` are of another kind.
    """
    check_choice("split", split, SPLITS)
    seed = checks.check_seed(seed)
    _check_kinds(classes, shares)
    folder = real_root(root)
    splits = split_folders(folder) if csv is None else None
    tables: list[Path] = []
    how: dict[str, Any]
    if splits is not None:
        if classes is not None or shares is not None:
            raise ValueError(
                f"{folder} is split already, into {', '.join(path.name for path in splits.values())}: pass neither "
                "classes= nor shares=, or put all class folders into one folder"
            )
        layout, how = "split folders", {"folder": ""}
        images = _of_split(folder, splits, split)
        chosen = list(images)
    else:
        if csv is None:
            layout, images = "folders", class_folders(folder, folder)
        else:
            checks.kind("csv", csv, (str, Path), "the path of a CSV table")
            tables = [folder / expanded(csv)]
            layout, images = "csv", csv_images(folder, tables[0], folder)
        where = str(tables[0] if tables else folder)
        by_share = [float(share) for share in (SHARES if shares is None else shares)]
        if classes is None:
            chosen = share_out(list(images), by_share, seed)[split]
            how = {"shares": by_share, "seed": seed}
        else:
            chosen, how = check_listed(list(images), classes, where)[split], {"classes": "listed"}
        if not chosen:
            why = f"shares {tuple(by_share)} leave no class for {split!r}"
            if classes is not None:
                why = f"the argument classes= names no class for {split!r}"
            raise DataError(f"{where}: the {split} split is empty; of {len(images)} classes {why}")
    mine = {name: images[name] for name in chosen}
    return load(
        folder.name or "folder",
        split,
        layout,
        folder,
        [file for files in mine.values() for file in files] + tables,
        lambda: source_of(folder, mine),
        size=size,
        resampling=resampling,
        details=how,
        progress=progress,
    )


def split_folders(root: Path) -> dict[str, Path] | None:
    """The folders of the splits in `root`, by our name for them; None where its folders are classes.

    Raises:
        DataError: some folders are splits and others classes, or two are the same split.
    """
    names = {name: split for split, others in SPLIT_NAMES.items() for name in others}
    found: dict[str, list[Path]] = {}
    others: list[str] = []
    left_out = LeftOut()
    for entry in entries_of(root, root, left_out):
        if entry.is_symlink():
            inside(root, Path(entry.path))
        if not entry.is_dir():
            continue
        split, path = names.get(entry.name.lower()), Path(entry.path)
        lying = entries_of(root, path, LeftOut())
        if split is not None and any(each.is_dir() for each in lying):  # a class may be called "train" too
            found.setdefault(split, []).append(path)
        elif any(Path(each.name).suffix.lower() in SUFFIXES for each in lying):
            others.append(entry.name)
        else:
            left_out.pictures.append(f"{entry.name}/ (no split, and no pictures in it)")
    if not found:
        return None
    if others:
        splits = ", ".join(path.name for paths in found.values() for path in paths)
        raise DataError(
            f"{root}: expected a folder for each class, or for each split with class folders in it; {splits} look like "
            f"splits, {_some(others)} like classes; pass the folder that holds only one kind"
        )
    left_out.warn(root)
    for split, paths in found.items():
        if len(paths) > 1:
            raise DataError(
                f"{root}: {' and '.join(path.name for path in paths)} are both the {split} split; keep one of them"
            )
    return {split: found[split][0] for split in SPLITS if split in found}


def _of_split(root: Path, splits: Mapping[str, Path], split: str) -> dict[str, list[Path]]:
    """The images of each class of a split that has a folder of its own."""
    if split not in splits:
        there = ", ".join(f"{path.name}/ ({name})" for name, path in splits.items())
        raise DataError(f"{root}: the {split} split is not there; there are {there}")
    images = class_folders(root, splits[split])
    for other, path in splits.items():
        theirs = {composed(entry.name) for entry in path.iterdir()}
        if other != split and (shared := sorted(name for name in images if composed(name) in theirs)):
            both = f"{_some(shared)} in {splits[split].name}/ and in {path.name}/"
            why = "a class that was trained on is not new, and accuracy on it says nothing about few-shot learning"
            warnings.warn(printable(f"{root}: {both}: {why}"), stacklevel=3)
    return images


def share_out(names: Sequence[str], shares: Sequence[float], seed: int) -> dict[str, list[str]]:
    """Deal the classes out to train, val and test: a pure function of the names, the shares and the seed.

    Args:
        names: all classes, in any order.
        shares: three numbers, not negative, that add up to 1.
        seed: of the shuffle.

    Raises:
        ValueError: the shares are something else.
    """
    shares = [checks.finite("a share", v) for v in checks.several("shares", shares, "three numbers that add up to 1")]
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6:
        raise ValueError(f"shares must be three numbers from 0 that add up to 1 (train, val, test), got {shares!r}")
    shuffled = np.random.default_rng(seed).permutation(len(names))
    edges = np.rint(np.cumsum(shares) * len(names)).astype(int)[:2]
    ordered = sorted(names, key=composed)
    parts = np.split(shuffled, edges)
    return {split: sorted(ordered[i] for i in part) for split, part in zip(SPLITS, parts, strict=True)}


def check_listed(names: Sequence[str], classes: Mapping[str, Sequence[str]], where: str) -> dict[str, list[str]]:
    """The listed classes of each split, sorted, by the names that they have in the files.

    Accents may be written in either way that Unicode knows: ``é`` as one letter, or as ``e`` with an accent.

    Raises:
        DataError: a listed class does not exist.
        ValueError: a split of another name, or a class in two splits.
        TypeError: no mapping of lists of names.
    """
    _check_kinds(classes, None)
    spelled = {composed(name): name for name in names}
    home: dict[str, str] = {}
    chosen: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, listed in classes.items():
        check_choice("a split in classes", split, SPLITS)
        for asked in listed:
            name = asked if asked in names else spelled.get(composed(asked))
            if name is None:
                raise DataError(f"{where}: class {asked!r} of the {split} split is not there; there are {_some(names)}")
            if name in home:
                twice = "twice" if home[name] == split else f"for {home[name]!r} and"
                raise ValueError(f"class {name!r} is listed {twice} for {split!r}; list it once, in one split")
            home[name] = split
            chosen[split].append(name)
    return {split: sorted(listed) for split, listed in chosen.items()}


def _check_kinds(classes: Any, shares: Any) -> None:
    """Raises:
    TypeError: `classes` is no mapping of lists of names, or `shares` no sequence of numbers.
    """
    if classes is not None:
        expected = 'the class names of each split, such as {"train": ["cat", "dog"], "test": ["owl"]}'
        checks.kind("classes", classes, Mapping, expected)
        for split, listed in classes.items():
            if not isinstance(listed, Sequence | set | frozenset | np.ndarray) or isinstance(listed, str | bytes):
                raise TypeError(f"classes must be {expected}, got {listed!r:.60} for {split!r}")
            names = tuple(listed)
            if not all(isinstance(name, str) for name in names):
                raise TypeError(f"classes must be {expected}, got {list(names)!r:.60} for {split!r}; quote the names")
    if shares is not None:
        if isinstance(shares, str) or not isinstance(shares, Sequence | np.ndarray):
            raise TypeError(f"shares must be three numbers (train, val, test), got {shares!r}")
        for share in shares:
            checks.kind("a share", share, (int, float, np.number), "a number")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
