"""What the fields of a data file must look like before anything is made of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.common.errors import DataError

MAX_SIDE = 1024  # pixels; the arrays that people pass around are 84 x 84
MAX_IMAGES = 2_000_000  # of one split; tieredImageNet's largest has 448 695


def table(value: Any, file: Path, *keys: str) -> list[Any]:
    """The values of `keys` in a dictionary read from `file`.

    Raises:
        DataError: it is no dictionary, or a key is missing.
    """
    if not isinstance(value, dict):
        raise DataError(f"{file}: expected a dictionary of {' and '.join(keys) or 'classes'}, got {kind(value)}")
    for key in keys:
        if key not in value:
            there = ", ".join(str(other)[:40] for other in list(value)[:8]) or "nothing"
            raise DataError(f"{file}: expected {key!r} in its dictionary, it has {there}")
    return [value[key] for key in keys]


def check_images(shape: tuple[int, ...], dtype: Any, where: str) -> None:
    """Images must be uint8 [n, h, w, 3], at most `MAX_IMAGES`, with sides of at most `MAX_SIDE` pixels.

    Raises:
        DataError: they are something else.
    """
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise DataError(f"{where}: expected images uint8 [n, h, w, 3], got {dtype} {list(shape)[:8]}")
    if shape[0] > MAX_IMAGES or not all(0 < side <= MAX_SIDE for side in shape[1:3]):
        raise DataError(
            f"{where}: expected at most {MAX_IMAGES} images with sides of 1 to {MAX_SIDE} pixels, got {list(shape)}"
        )


def images(value: Any, where: str) -> NDArray[np.uint8]:
    """`value` if it is an array of images, uint8 [n, h, w, 3].

    Raises:
        DataError: it is something else.
    """
    if not isinstance(value, np.ndarray):
        raise DataError(f"{where}: expected images uint8 [n, h, w, 3], got {kind(value)}")
    check_images(value.shape, value.dtype, where)
    return np.asarray(value)


def integers(value: Any, where: str) -> NDArray[np.int64]:
    """A list or array of whole numbers, int64 [n].

    Raises:
        DataError: it is something else; lists in lists are refused unread.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        return value.astype(np.int64)
    if isinstance(value, list | tuple) and all(type(item) is int and abs(item) < 2**63 for item in value):
        return np.array(value, dtype=np.int64)
    raise DataError(f"{where}: expected a list of whole numbers, got {kind(value)}")


def class_ids(value: Any, where: str) -> list[Any]:
    """The class of each image, as whole numbers or as names: a list or array [n] of ints, or of strings.

    Raises:
        DataError: it is something else; lists in lists are refused unread.
    """
    items = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
    if isinstance(items, list | tuple) and items and isinstance(items[0], str | bytes):
        return strings(value, where)
    return list(integers(value, where).tolist())


def strings(value: Any, where: str) -> list[str]:
    """A list or array of strings, those of Python 2 included.

    Raises:
        DataError: it is something else.
    """
    items = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
    if isinstance(items, list | tuple) and all(isinstance(item, str | bytes) for item in items):
        return [_decoded(item) if isinstance(item, bytes) else item for item in items]
    raise DataError(f"{where}: expected a list of strings, got {kind(value)}")


def _decoded(name: bytes) -> str:
    """A string of Python 2, which does not say its encoding."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin1")


def same_length(file: Path | str, **lengths: int) -> None:
    """Raises:
    DataError: the lengths differ.
    """
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise DataError(f"{file}: expected as many of each, found {found}; the file is damaged or not of this split")


def kind(value: Any) -> str:
    """A short description of any value, whatever it holds."""
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {list(value.shape)[:8]}"
    if isinstance(value, dict):
        return f"dict of {len(value)}"
    if isinstance(value, list | tuple):
        held = sorted({type(item).__name__ for item in value})
        return f"{type(value).__name__} of {len(value)} ({', '.join(held[:4]) or 'empty'})"
    return type(value).__name__
