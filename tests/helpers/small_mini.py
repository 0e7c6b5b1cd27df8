"""A split of miniImageNet with three classes of two images, written in any of its layouts and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labkit.data.imageset import ImageSet
from labkit.data.real import load_real
from tests.helpers.real_files import (
    WNIDS,
    by_class,
    some_pixels,
    write_folders,
    write_mini_cache,
    write_mini_csv,
    write_mini_hdf5,
    write_mini_pickle,
)

PIXELS = some_pixels(6)
BY_CLASS = by_class(PIXELS)


def load(root: Path, split: str = "val", **options: Any) -> ImageSet:
    return load_real("miniimagenet", split, root, **{"check_counts": False, "progress": False, **options})


def write(layout: str, root: Path, split: str = "val") -> Path:
    """The split in a layout; the file that holds the images."""
    match layout:
        case "pickle":
            return write_mini_pickle(root, split, PIXELS, [64, 64, 65, 65, 79, 79])
        case "images+csv":
            return write_mini_csv(root, split, per_class=2)
        case "cache-pkl":
            return write_mini_cache(root, split, PIXELS, {WNIDS[1]: [2, 3], WNIDS[0]: [0, 1], WNIDS[2]: [4, 5]})
        case "hdf5":
            return write_mini_hdf5(root, split, BY_CLASS)[0]
        case "hdf5, packed":
            return write_mini_hdf5(root, split, BY_CLASS, chunks=(1, 84, 84, 3), compression="gzip")[0]
        case _:
            return write_folders(root / split, BY_CLASS)
