"""Memory-mapped arrays that reach another process as a file name instead of a copy."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_reference(array: NDArray[Any]) -> Any:
    """What to pickle for an array: where it lies, if it is a memory-mapped file as a whole, or itself."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
        return _Mapped(str(array.filename), array.dtype.str, array.shape, array.offset)
    return array


class _Mapped:
    """Unpickles as the memory map it describes, so that processes share a file's pages instead of copies."""

    def __init__(self, *where: Any) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return _reopen, self.where


def _reopen(filename: str, dtype: str, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    return np.memmap(filename, dtype=dtype, mode="r", offset=offset, shape=shape)
