"""A split as it lies on the disk, and its way into the cache: decoded one picture at a time, once."""

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from tqdm.auto import tqdm

from labkit.common.errors import DataError, few, printable
from labkit.common.names import read_alike, shown
from labkit.data.cache import build_once, digest_of
from labkit.data.decode import RESAMPLINGS, Picture, decode, explain
from labkit.data.imageset import ImageSet, Provenance, read_arrays, write_arrays
from labkit.data.sums import State, contents_of, state_of
from labkit.data.unchanged import check_unchanged

SPLITS = ("train", "val", "test")
MAX_SIZE = 1024  # pixels a side
CHUNK = 64  # pictures in memory at a time


@dataclass(frozen=True)
class Source:
    """What a reader gives: the pictures of one split, not yet decoded.

    Attributes:
        pictures: in order; read once, so a generator will do.
        name_of: how an error calls picture i.
        labels: int64 [n], values 0 .. classes - 1.
        class_names: one a class, in the order of the labels.
        categories: the superclass of each class, or None.
    """

    pictures: Iterable[Picture]
    name_of: Callable[[int], str]
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    categories: Sequence[str] | None = None


def numbered(classes: Sequence[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    """Labels 0 .. C - 1 for the class of each image, and the C distinct classes, sorted."""
    distinct = sorted(set(classes))
    label_of = {name: label for label, name in enumerate(distinct)}
    return np.array([label_of[name] for name in classes], dtype=np.int64), distinct


def load(
    dataset: str,
    split: str,
    layout: str,
    root: Path,
    files: Sequence[Path],
    read: Callable[[], Source],
    *,
    size: int,
    resampling: str,
    channel_order: str = "rgb",
    details: dict[str, Any] | None = None,
    expected: int | None = None,
    progress: bool = True,
) -> ImageSet:
    """The decoded images of a split, from the cache or, the first time, through `read` into it.

    Args:
        dataset, split, layout: recorded in the provenance.
        root: folder from which the names of `files` count.
        files: every file that shapes the images. What the cache was made from is known by their names and their
            content, so that no other data set gets its pixels; one that changed is read anew.
        size: side of the images, in pixels.
        resampling: filter of the resize, one of `RESAMPLINGS`.
        channel_order: ``"rgb"``, or ``"bgr"`` where the files hold the channels the other way round.
        details: what else shapes the images; JSON types.
        expected: classes that the split must have, or None.

    Raises:
        DataError: `read` failed, or images cannot be decoded, or there are none; or another number of classes; or files
            are not what they were when first read, or the cache is damaged.
        ValueError: an argument has none of the allowed values.
    """
    check_choice("split", split, SPLITS)
    check_choice("resampling", resampling, RESAMPLINGS)
    check_choice("channel_order", channel_order, ("rgb", "bgr"))
    size = check_size(size)
    dataset, where = printable(dataset), f"{dataset} {split} ({layout} in {root})"
    seen = states_of(where, files)
    details = {
        "files": [printable(file.name) for file in files] if len(files) <= 4 else f"{len(files)} files",
        "contents": contents_of(root, files),
        "channel_order": channel_order,
        "pillow": PIL.__version__,
        **(details or {}),
    }

    def check(classes: int) -> None:
        if expected not in (None, classes):
            raise DataError(
                f"{root}: {dataset} {split} ({layout}) has {classes} classes, expected {expected}; complete it, or "
                "pass check_counts=False to load a subset"
            )

    def build(folder: Path) -> None:
        source = read()
        check(len(source.class_names))
        if len(source.labels) == 0:
            raise DataError(f"{where}: expected images, the split is empty")
        for name in source.class_names:
            if name != printable(name):
                raise DataError(f"{where}: class name {name!r} is not valid text in UTF-8; rename it")
        if alike := read_alike(source.class_names):
            raise DataError(f"{where}: two classes have names that read alike: {', '.join(shown(alike))}; rename one")
        pixels = folder / "pixels.npy"
        with tqdm(total=len(source.labels), desc=f"{dataset} {split}", unit="image", disable=not progress) as bar:
            sizes, broken = write_pixels(pixels, source, size, resampling, channel_order == "bgr", bar.update)
        if broken:
            few_of_them = few(broken, between="; ")
            raise DataError(f"{where}: {len(broken)} of {len(source.labels)} images cannot be read: {few_of_them}")
        smallest, largest = (f"{w}x{h}" for w, h in (min(sizes, key=_area), max(sizes, key=_area)))
        provenance = Provenance(
            dataset=dataset,
            split=split,
            layout=layout,
            source_size=smallest if len(sizes) == 1 else f"{smallest} .. {largest}",
            resampling="none" if sizes == {(size, size)} else resampling,
            digest=digest_of(pixels),
            details=details,
        )
        if states_of(where, files) != seen:
            raise DataError(f"{where}: files changed while they were read; try again when nobody writes there")
        write_arrays(folder, source.labels, source.class_names, source.categories, provenance)
        check_unchanged(f"{dataset}-{split}", root, files)

    asked = {"dataset": dataset, "split": split, "layout": layout, "size": size, "resampling": resampling}
    images = read_arrays(build_once(f"{dataset}-{split}-{size}px", asked | details, build))
    check(len(images.class_names))  # a cache may have been made without the check
    check_unchanged(f"{dataset}-{split}", root, files)  # a cache may have been made from another copy
    return images


def write_pixels(
    file: Path, source: Source, size: int, resampling: str, reverse: bool, done: Callable[[int], object]
) -> tuple[set[tuple[int, int]], list[str]]:
    """Decode all pictures into an .npy file, uint8 [n, size, size, 3], holding `CHUNK` of them at a time.

    Written rather than memory-mapped, because a full disk is then an error and not a SIGBUS.

    Returns:
        The widths and heights that the pictures had, in pixels, and those that cannot be decoded, each with the reason.
    """
    sizes: set[tuple[int, int]] = set()
    broken: list[str] = []
    attempt = partial(_attempt, size=size, resampling=resampling)
    pictures = iter(source.pictures)
    shape = (len(source.labels), size, size, 3)
    count = 0
    with file.open("wb") as out, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
        while chunk := list(itertools.islice(pictures, CHUNK)):
            for number, result in enumerate(pool.map(attempt, chunk), start=count):
                if isinstance(result, Exception):
                    broken.append(f"{source.name_of(number)} ({explain(result)})")
                    continue
                pixels, source_size = result
                sizes.add(source_size)
                out.write((pixels[..., ::-1] if reverse else pixels).tobytes())
            count += len(chunk)
            done(len(chunk))
    return sizes, broken


def _attempt(picture: Picture, size: int, resampling: str) -> tuple[NDArray[np.uint8], tuple[int, int]] | Exception:
    try:
        return decode(picture, size, resampling)
    except Exception as error:  # reported with the others, once all have been tried
        return error


def states_of(where: str, files: Sequence[Path]) -> list[State]:
    """What changes when one of the files does, see `state_of`.

    Raises:
        DataError: one of them vanished.
    """
    try:
        return [state_of(file) for file in files]
    except OSError as error:
        raise DataError(f"{where}: {error}; restore the file, or take it off the list") from error


def check_size(size: Any) -> int:
    """`size` as an int; NumPy's integers are taken too.

    Raises:
        ValueError: it is no whole number of pixels, or more than `MAX_SIZE`.
    """
    whole = isinstance(size, Integral) and not isinstance(size, bool)
    if not (whole and 1 <= size <= MAX_SIZE):
        raise ValueError(f"size must be a whole number from 1 to {MAX_SIZE} pixels, got {size!r}")
    return int(size)


def check_choice(argument: str, value: str, choices: Sequence[str]) -> None:
    """Raises:
    ValueError: `value` is none of the choices.
    """
    if value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _area(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]
