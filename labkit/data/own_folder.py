"""Images of your own: a folder a class, or a CSV table; split by listed classes or by a seeded share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from labkit.common import checks
from labkit.common.errors import DataError
from labkit.common.names import find, shown
from labkit.data.folders import class_folders, csv_images, real_root, source_of
from labkit.data.imageset import ImageSet
from labkit.data.source import SPLITS, check_choice, load


def load_folder(
    root: Path | str,
    split: str,
    *,
    size: int = 84,
    resampling: str = "bilinear",
    classes: Mapping[str, Sequence[str]] | None = None,
    shares: Sequence[float] = (0.64, 0.16, 0.2),
    seed: int = 0,
    csv: Path | str | None = None,
    progress: bool = True,
) -> ImageSet:
    """One split of your own images. No class is in two splits.

    Args:
        root: holds a folder for each class with images in it; with `csv`, the folder where its paths start.
        split: ``"train"``, ``"val"`` or ``"test"``.
        size: side of the images in pixels; whole pictures are squashed into the square, see `decode`.
        resampling: filter of that resize, a name of `PIL.Image.Resampling`.
        classes: the class names of each split, for example ``{"train": ["cat", ...], "test": ["owl", ...]}``.
        shares: without `classes`, the share of the classes that train, val and test get.
        seed: without `classes`, which classes go where; the same names and seed always give the same splits.
        csv: table of images, ``path,class`` or ``filename,label``; relative to `root`.
        progress: show a bar while decoding.

    Raises:
        DataError: the files are not as described, or the split has no class.
        ValueError: an argument has none of the allowed values.
    """
    check_choice("split", split, SPLITS)
    folder = real_root(root)
    if csv is None:
        layout, images, tables = "folders", class_folders(folder, folder), []
    else:
        table = folder / Path(csv).expanduser()
        layout, images, tables = "csv", csv_images(folder, table, folder), [table]
    where = str(folder if csv is None else tables[0])
    chosen = share_out(list(images), shares, seed) if classes is None else check_listed(list(images), classes, where)
    if not chosen[split]:
        how = f"classes= lists none for {split!r}" if classes else f"shares {tuple(shares)} leave none for {split!r}"
        raise DataError(f"{where}: the {split} split is empty, of {len(images)} classes {how}")
    mine = {name: images[name] for name in chosen[split]}
    return load(
        folder.name or "folder",
        split,
        layout,
        folder,
        [file for files in mine.values() for file in files] + tables,
        lambda: source_of(folder, mine),
        size=size,
        resampling=resampling,
        details={"classes": "listed"} if classes else {"shares": list(shares), "seed": seed},
        progress=progress,
    )


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
    ordered = sorted(names)
    parts = np.split(shuffled, edges)
    return {split: sorted(ordered[i] for i in part) for split, part in zip(SPLITS, parts, strict=True)}


def check_listed(names: Sequence[str], classes: Mapping[str, Sequence[str]], where: str) -> dict[str, list[str]]:
    """The listed classes of each split, sorted.

    Raises:
        DataError: a listed class does not exist.
        ValueError: a split of another name, or a class in two splits.
    """
    expected = "the class names of each split, {'train': ['cat', 'dog'], 'test': ['owl']}"
    checks.kind("classes", classes, Mapping, expected)
    home: dict[str, str] = {}
    for split, listed in classes.items():
        check_choice("a split in classes", split, SPLITS)
        for asked in checks.several(f"the classes of {split!r}", listed, expected, least=0):
            name = find(checks.text("a class", asked, "a name"), names)
            if name is None:
                raise DataError(
                    f"{where}: class {asked!r} of the {split} split is not there; there are {_some(shown(list(names)))}"
                )
            if name in home:
                raise ValueError(f"class {name!r} is listed for {home[name]!r} and for {split!r}; one split only")
            home[name] = split
    return {split: sorted(name for name, of in home.items() if of == split) for split in SPLITS}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
