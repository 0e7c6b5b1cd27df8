"""Pickles read through an allow-list: a downloaded data set stays data, whatever it asks for.

A pickle is a program that may call any function it names. Here it may name only what `ALLOWED` lists, and even those
names lead to stand-ins of ours that check what they are given: nothing of numpy is called with a pickle's arguments
before its type, shape and length are known to fit the bytes that are really there.
"""

import bz2
import gzip
import io
import math
import mmap
import pickle
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from labkit.common.errors import DataError
from labkit.common.files import first_bytes, instead


class Refused(pickle.UnpicklingError):
    """The pickle is well-formed but wants what data has no need of."""


class Table(dict[str | int, Any]):
    """A dictionary. Python-2 keys come out as str; others than str and int are refused (hashing nests can hang)."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]] = ()) -> None:
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        key = _text(key) if isinstance(key, bytes) else int(key) if isinstance(key, np.integer) else key
        if not isinstance(key, str | int):
            raise Refused(f"a dictionary key of type {type(key).__name__}")
        super().__setitem__(key, value)


class _Dtype:
    """Stands in for `numpy.dtype`: plain numbers and fixed-length strings, never objects."""

    def __init__(self, code: Any, *_: Any) -> None:
        name = _text(code)
        if not re.fullmatch(r"[biufSU][1-9]\d{0,4}", name):
            raise Refused(f"an array of dtype {name[:40]!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(_text(state[1]))  # type: ignore[arg-type]  # it checks


class _Array(np.ndarray[Any, Any]):
    """Stands in for `numpy.ndarray`, and is one; filled by `__setstate__` from bytes of the right length only."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        _check_fits(shape, dtype, raw)
        super().__setstate__((1, shape, dtype.dtype, bool(fortran), bytes(raw)))  # type: ignore[arg-type]


def _check_fits(shape: Any, dtype: Any, raw: Any) -> None:
    if not (isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)):
        raise Refused("an array whose shape is not a tuple of whole numbers")
    if not (isinstance(dtype, _Dtype) and isinstance(raw, bytes | bytearray)):
        raise Refused("an array that is not made of a dtype and bytes")
    if math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise Refused(f"a {dtype.dtype} array of shape {list(shape)[:8]} made of {len(raw)} bytes")


def _reconstruct(*_: Any) -> NDArray[Any]:
    return np.empty(0, np.uint8).view(_Array)


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    _check_fits(shape, dtype, raw)
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, raw: Any) -> Any:
    _check_fits((), dtype, raw)
    return np.frombuffer(raw, dtype.dtype)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    if _text(encoding) not in ("latin1", "latin-1"):
        raise Refused(f"the encoding {_text(encoding)[:40]!r}")
    return _text(text).encode("latin1")


def _text(value: Any) -> str:
    if not isinstance(value, str | bytes):  # never str(value): lists that share lists print exponentially long
        raise Refused(f"a {type(value).__name__} where a string belongs")
    return value.decode("latin1") if isinstance(value, bytes) else value


def _default_table(*_: Any) -> Table:
    return Table()  # of a defaultdict; its items follow


# All that a pickle may name, and what it gets. numpy 2 says numpy._core where numpy 1 said numpy.core.
ALLOWED: Mapping[str, Any] = {
    "numpy.ndarray": "ndarray",  # only ever an argument of _reconstruct, so it need not be callable
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _encode,
    "collections.OrderedDict": Table,
    "collections.defaultdict": _default_table,
    # The first value of a missing key of a defaultdict: never called, so a name will do.
    **{f"builtins.{name}": name for name in ("int", "float", "str", "list", "dict", "bool", "tuple")},
}
# Protocols 0 to 2 write the names of Python 2, which had these two besides.
PYTHON2 = {"__builtin__.long": "builtins.int", "__builtin__.unicode": "builtins.str"}

# Instructions that data has no need of: instances of classes, sets, references to objects outside the file.
_NEEDLESS = {
    instruction[0]
    for instruction in (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EMPTY_SET, pickle.ADDITEMS),
        *(pickle.FROZENSET, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    )
}


class Reader(pickle._Unpickler):
    """The pure-Python unpickler, whose every instruction can be replaced and whose memo is a dictionary.

    The one in C would allocate a memo of any length the file names. What calls are given is added up: a file may not
    make a short string long by copying it over and over, and honest ones use no byte more than twice.

    Attributes:
        allowed: what the pickle may name, and what it gets.
    """

    allowed: ClassVar[Mapping[str, Any]] = ALLOWED

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, data: mmap.mmap | io.BytesIO, length: int) -> None:
        super().__init__(data, encoding="bytes")  # Python-2 strings as they are: no second copy of the pixels
        self.allowance = 2 * length

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        known = PYTHON2.get(full_name, full_name.replace("__builtin__.", "builtins."))
        if known not in self.allowed:
            raise Refused(f"{module[:80]}.{name[:80]}")
        return self.allowed[known]

    def charge(self, arguments: Iterable[Any]) -> None:
        self.allowance -= sum(len(argument) for argument in arguments if isinstance(argument, Sized))
        if self.allowance < 0:
            raise Refused("more bytes than it holds")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.charge(arguments)
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise Refused(f"setting the state of a {type(self.stack[-1]).__name__}")
        self.charge(state)
        self.stack[-1].__setstate__(state)

    def load_empty_dictionary(self) -> None:
        self.append(Table())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(Table(zip(items[::2], items[1::2], strict=True)))

    def load_needless(self) -> None:
        raise Refused("an instance of a class, a set, or an object outside the file")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys(_NEEDLESS, load_needless),
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.EMPTY_DICT[0]: load_empty_dictionary,
        pickle.DICT[0]: load_dict,
    }


# Packed files that are unpacked as they are read, by their first bytes.
PACKED: Mapping[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
ROOM, TIMES = 2**24, 20  # a packed file may unpack to so many bytes, and to so many times its own length


@contextmanager
def unpacked(file: Path) -> Iterator[BinaryIO]:
    """A file, or what a gzip or bzip2 file holds, in a scratch file that goes with the block.

    A small file may unpack to any length: numbers do not shrink twentyfold, and what does is refused.

    Raises:
        Refused: it unpacks to more.
        DataError: there is no room to unpack it.
        EOFError, OSError, zlib.error: it is damaged.
    """
    start = first_bytes(file, 3)
    opener = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)
    if opener is None:
        with file.open("rb") as handle:
            yield handle
        return
    most = max(ROOM, TIMES * file.stat().st_size)
    with opener(file, "rb") as packed, tempfile.TemporaryFile() as scratch:
        while block := packed.read(2**20):
            if scratch.tell() + len(block) > most:
                raise Refused(f"more than {most} bytes when it is unpacked; unpack it yourself if that is right")
            try:
                scratch.write(block)
                scratch.flush()
            except OSError as error:
                place = tempfile.gettempdir()
                raise DataError(
                    f"{file}: cannot be unpacked in {place} ({error}); free some room, or set $TMPDIR"
                ) from error
        yield scratch


def load_pickle(file: Path) -> Any:
    """What a pickle of Python 2 or 3 holds: numbers, strings, lists, tuples, dictionaries and arrays of numbers.

    Strings of Python 2 come as bytes, but for the keys of dictionaries, which are always str or int. One that is packed
    with gzip or bzip2 is unpacked on the way.

    Raises:
        DataError: the file asks for anything outside `ALLOWED`, or is truncated, packed, or no pickle at all.
    """
    start = first_bytes(file)
    if (other := instead(start)) and not start.startswith(tuple(PACKED)):
        raise DataError(f"{file}: expected a pickle, this file is {other}")
    try:
        with unpacked(file) as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if other := instead(data[:64]):
                raise DataError(f"{file}: expected a packed pickle, what it holds is {other}")
            return Reader(data, len(data)).load()
    except DataError:
        raise
    except Refused as refusal:
        raise DataError(
            f"{file}: refused, this pickle asks for {refusal}; only numpy arrays and built-in types are read"
        ) from None
    except Exception as error:  # a broken pickle can raise nearly anything
        reason = f"{type(error).__name__}: {error}"[:200]
        raise DataError(f"{file}: truncated or not a pickle ({reason}); copy or download it again") from error
