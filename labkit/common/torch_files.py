"""Files that any release of torch.save wrote are read here, without PyTorch's unpickler.

PyTorch's own restricted unpickler runs no code, but a file of 400 bytes can make it fill the whole memory, and one of
700 bytes can make it run for ever. Here a file may name only what `ALLOWED` lists, and its storages together get no
more memory than the file is long.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from labkit.common import safe_pickle
from labkit.common.files import instead
from labkit.common.safe_pickle import Reader, Refused, Table

MAGIC = 0x1950A86A20F9469CFC6C  # what the files before PyTorch 1.6 begin with
STORAGES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor in a storage, within its bounds, and with no more elements than it has."""
    if not (isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(stride, tuple)):
        raise Refused("a tensor that is not made of a storage, a shape and strides")
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
        raise Refused("a tensor whose shape and strides are not whole numbers")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(storage.content) or (math.prod(size) and last >= len(storage.content)):
        raise Refused(f"a tensor of shape {list(size)[:8]} from {len(storage.content)} numbers")
    return storage.content.as_strided(size, stride, offset)


def _parameter(data: Any, *_: Any) -> Any:
    return data


class _Namespace(Table):
    """Stands in for an `argparse.Namespace`, the options of a training, which many keep beside the weights."""


def _counter(items: Any = ()) -> Table:
    return Table(items.items() if isinstance(items, Table) else ())


def _series(items: Any = ()) -> Any:
    if not isinstance(items, list | tuple):
        raise Refused(f"a set or a shape of a {type(items).__name__}")
    return items


def _text(*parts: Any) -> str:
    if not all(isinstance(part, str | bytes | int) for part in parts):
        raise Refused("a device or a path that is not made of text")
    return "/".join(part.decode("latin1") if isinstance(part, bytes) else str(part) for part in parts)


# All that a file may name, and what it gets. Beside weights lie an accuracy, options, the states of optimiser, schedule
# and random numbers.
ALLOWED: Mapping[str, Any] = {
    **safe_pickle.ALLOWED,
    "argparse.Namespace": _Namespace,
    "types.SimpleNamespace": _Namespace,
    "collections.Counter": _counter,
    "builtins.set": _series,
    "builtins.frozenset": _series,
    "torch.Size": _series,
    "torch.device": _text,
    **{f"pathlib.{name}": _text for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
    **{f"torch.{str(dtype)[6:]}": str(dtype) for dtype in STORAGES.values()},
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **{f"torch.{name}Storage": dtype for name, dtype in STORAGES.items()},
}


class _Storage:
    """Numbers that lie elsewhere in the file, and are filled in once everything else is known."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.content = torch.empty(count, dtype=dtype)

    def fill(self, raw: bytes) -> None:
        if len(raw) != self.content.nbytes:
            raise Refused(f"{self.content.nbytes} bytes of numbers where it has {len(raw)}")
        if raw:
            numbers = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
            self.content.view(torch.uint8).copy_(numbers != 0 if self.content.dtype == torch.bool else numbers)


class _TorchReader(Reader):
    """Reads storages too, which together get no more memory than the file is long."""

    allowed: ClassVar[Mapping[str, Any]] = ALLOWED

    def __init__(self, data: io.BytesIO, length: int) -> None:
        super().__init__(data, length)
        self.storages: dict[str, _Storage] = {}
        self.room = length

    def persistent_load(self, wanted: Any) -> _Storage:
        if not (isinstance(wanted, tuple) and len(wanted) in (5, 6) and wanted[0] in ("storage", b"storage")):
            raise Refused("something outside the file")
        _, dtype, key, _, count = wanted[:5]
        key = key.decode("latin1") if isinstance(key, bytes) else key
        if not (isinstance(key, str) and isinstance(dtype, torch.dtype) and type(count) is int and count >= 0):
            raise Refused("a storage without a name, a type or a length")
        if wanted[5:] not in ((), (None,)):
            raise Refused("a view of a storage, as the earliest PyTorch wrote them")
        if key not in self.storages:
            self.room -= count * dtype.itemsize
            if self.room < 0:
                raise Refused("more numbers than it holds")
            self.storages[key] = _Storage(dtype, count)
        return self.storages[key]

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class("pathlib" if module == "pathlib._local" else module, name)

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is not _Namespace or arguments != ():
            raise Refused("an instance of a class")
        self.append(_Namespace())

    def load_build(self) -> None:
        if isinstance(self.stack[-2], _Namespace):
            state = self.stack.pop()
            if not isinstance(state, Table):
                raise Refused("options that are no dictionary")
            self.charge([state])
            for key, value in state.items():
                self.stack[-1][key] = value
        elif isinstance(self.stack[-2], Table):
            self.stack.pop()  # a state dict's version numbers
        else:
            super().load_build()

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **Reader.dispatch,
        pickle.BINPERSID[0]: pickle._Unpickler.dispatch[pickle.BINPERSID[0]],
        pickle.BUILD[0]: load_build,
        pickle.NEWOBJ[0]: load_newobj,
    }


def read_torch(content: bytes, file: Path) -> Any:
    """The tensors, numbers, strings, lists, tuples and dictionaries that torch.save wrote.

    Raises:
        ValueError: it asks for anything outside `ALLOWED`, or is damaged, or no file of torch's at all.
    """
    if (other := instead(content)) and not content.startswith(b"PK"):
        raise ValueError(f"{file} is not a checkpoint that can be read: it is {other}")
    try:
        return _read_zipped(content) if content.startswith(b"PK") else _read_stream(content)
    except Refused as refusal:
        raise ValueError(
            f"{file} is not a checkpoint that can be read: it asks for {refusal}, "
            "and only tensors and plain values are read; save model.state_dict(), without objects of classes"
        ) from None
    except Exception as error:  # a broken file can raise nearly anything
        raise ValueError(
            f"{file} is not a checkpoint that can be read: truncated, or not torch.save's "
            f"({type(error).__name__}: {f'{error}':.200})"
        ) from None


def _read_zipped(content: bytes) -> Any:
    """Read the format since PyTorch 1.6: a zip of ``NAME/data.pkl``, ``NAME/byteorder`` and every ``NAME/data/KEY``."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (found,) = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        folder = found.removesuffix("data.pkl")

        def member(name: str) -> bytes:
            if archive.getinfo(name).file_size > len(content):
                raise Refused(f"more room for {name[:80]} than it holds")
            return archive.read(name)

        if f"{folder}byteorder" in archive.namelist() and member(f"{folder}byteorder") != b"little":
            raise Refused("another byte order")
        reader = _TorchReader(io.BytesIO(member(found)), len(content))
        result = reader.load()
        for key, storage in reader.storages.items():
            storage.fill(member(f"{folder}data/{key}"))
    return result


def _read_stream(content: bytes) -> Any:
    """Read the format before PyTorch 1.6: five pickles, and after them the numbers of the storages.

    The pickles hold `MAGIC`, a version, the writer's system, the object, and the keys of its storages.
    """
    stream = io.BytesIO(content)
    magic, version, system = (Reader(stream, len(content)).load() for _ in range(3))
    if (magic, version) != (MAGIC, 1001) or not system.get("little_endian"):
        raise Refused(f"another format (version {version!r:.40})")
    reader = _TorchReader(stream, len(content))
    result = reader.load()
    for key in Reader(stream, len(content)).load():
        storage = reader.storages[key]
        if int.from_bytes(stream.read(8), "little") != len(storage.content):
            raise Refused(f"other numbers than its storage {key[:80]} holds")
        storage.fill(stream.read(storage.content.nbytes))
    return result
