"""Hostile checkpoints: torch's files and our own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.dmf.authors_checkpoint import load_released
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.models.checkpoints import UNKNOWN, load_model, sealed
from labkit.training.checkpoints import load_state, save_state
from tests.helpers.hostile.cases import Build, Read, case
from tests.helpers.hostile_pickles import Call, nested_tuples

# --- Checkpoints of torch, the authors' and those of a running training.


def torch_zip(pickled: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """A file as torch.save writes it, with any pickle in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", **members}.items():
            archive.writestr(f"x/{name.replace('__', '/')}", content)
    return out.getvalue()


def storage(count: int, key: str = "0", kind: str = "ctorch\nFloatStorage\n") -> bytes:
    """The instructions for a storage of `count` numbers."""
    text = b"X" + struct.pack("<I", len(key)) + key.encode()
    number = b"\x8a\x08" + struct.pack("<q", count)
    return b"(X\x07\x00\x00\x00storage" + kind.encode() + text + b"X\x03\x00\x00\x00cpu" + number + b"tQ"


def tensor(count: int, size: int, stride: int) -> bytes:
    """A pickle of a one-dimensional tensor."""
    numbers = [b"\x8a\x08" + struct.pack("<q", n) + b"\x85" for n in (size, stride)]
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage(count) + b"K\x00" + b"".join(numbers) + b"\x89NtR."


def _released(make: Callable[[Path], bytes]) -> Build:
    def build(folder: Path, canary: Path) -> Read:
        file = folder / "theirs.pth.tar"
        file.write_bytes(make(canary))
        return lambda: load_released(file)

    return build


def _touch(canary: Path, protocol: int = 2) -> bytes:
    return pickle.dumps({"state_dict": Call(os.system, f"touch {canary}")}, protocol)


def _legacy_tar(canary: Path) -> bytes:
    """A checkpoint as torch 0.1 wrote it: a tar of pickles."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            member = tarfile.TarInfo(name)
            content = _touch(canary)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _stream(body: bytes) -> bytes:
    """A checkpoint as torch before 1.6 wrote it, with any pickle in it."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)) + body


BYTES_OF_6_GB = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (6 * 10**9).to_bytes(5, "little") + b"\x85R."
THEIRS = "theirs.pth.tar"
for _what, _said, _make in (
    ("a call in the zipped form", "asks for posix.system", lambda canary: torch_zip(_touch(canary))),
    ("a call in the form before 1.6", "asks for posix.system", lambda canary: _stream(_touch(canary))),
    ("a call as the type of a storage", "asks for os.system", lambda canary: torch_zip(
        b"\x80\x02" + storage(1, kind=f"cos\nsystem\n(S'touch {canary}'\ntR") + b".")),
    ("a legacy tar with calls", "truncated, or not torch.save's", _legacy_tar),
    ("TorchScript, which is code", "asks for __torch__.Net", lambda canary: torch_zip(
        b"\x80\x02c__torch__\nNet\n)\x81}b.", constants__pkl=b"\x80\x02).", code____torch____py=b"def forward(): ...")),
    ("a bytearray of 6 GB, which torch's restricted reader makes", "asks for builtins.bytearray",
        lambda canary: torch_zip(BYTES_OF_6_GB)),
    ("a hash without end, which torch's restricted reader computes", "key of type tuple",
        lambda canary: torch_zip(b"\x80\x02}" + nested_tuples(60)[2:] + b"K\x01s.")),
    ("a storage of 100 million numbers without data", "more numbers than it holds",
        lambda canary: torch_zip(tensor(10**8, 1, 1), data__0=b"\0" * 4)),
    ("a storage packed a thousandfold", "more numbers than it holds", lambda canary: torch_zip(
        tensor(10**8, 10**8, 1), zipfile.ZIP_DEFLATED, data__0=bytes(4 * 10**8))),
    ("a pickle packed a thousandfold", "more room for x/data.pkl than it holds", lambda canary: torch_zip(
        pickle.dumps(bytes(4 * 10**8), 3), zipfile.ZIP_DEFLATED)),
    ("a tensor beyond its storage, which would read foreign memory", r"shape \[2\] from 2 numbers",
        lambda canary: torch_zip(tensor(2, 2, 10**9), data__0=b"\0" * 8)),
    ("one number spread over 100 million places", r"shape \[100000000\] from 1 numbers",
        lambda canary: torch_zip(tensor(1, 10**8, 0), data__0=b"\0" * 4)),
    ("a storage named ../../x", "KeyError", lambda canary: torch_zip(
        b"\x80\x02" + storage(1, "../../x") + b".", data__0=b"\0" * 4)),
):  # fmt: skip
    case(f"checkpoint: {_what}", THEIRS, _said)(_released(_make))


@case("checkpoint: the state of a training, rightly sealed, with a call", "last.pt", "asks for posix.system")
def _(folder: Path, canary: Path) -> Read:
    save_state({"step": Call(os.system, f"touch {canary}")}, folder / "last.pt")
    return lambda: load_state(folder / "last.pt")


@case("checkpoint: a pipe instead of a file", "pipe.pth.tar", "there is no checkpoint")
def _(folder: Path, canary: Path) -> Read:
    os.mkfifo(folder / "pipe.pth.tar")
    return lambda: load_released(folder / "pipe.pth.tar")


# --- Models of ours, in safetensors.


def _network(alignment: str = "rk4") -> DMF:
    net = DMF("conv4", 4, "released", classes=5, backbone_options={"width": 8}, alignment=alignment)
    net.preprocessing = Preprocessing(40, "none")
    return net


def _model(change: Callable[[dict[str, Any]], object]) -> Build:
    """A file of ours, rightly sealed, whose header a stranger wrote."""

    def build(folder: Path, canary: Path) -> Read:
        net = _network()
        recipe = json.loads(json.dumps(net.recipe()))
        header = {"method": "dmf", "recipe": recipe, "preprocessing": vars(net.preprocessing), "about": {}}
        change(header)
        (folder / "model.safetensors").write_bytes(sealed(net.state_dict(), header))
        return lambda: load_model(folder / "model.safetensors")

    return build


def _other(name: str, backbone: str = "conv4", depth: int | None = None, **options: Any) -> Build:
    """A file that says to be of another method."""
    of_backbone = {"width": 8} if depth is None else {"depth": depth}
    recipe = {"backbone": backbone, "classes": 5, "backbone_options": of_backbone} | options
    return _model(lambda header: header.update(method=name, recipe=recipe))


for _what, _said, _build in (
    ("10^9 gradient steps, with a layer each", "steps must be from 0 to 1000", _other("leo", steps=10**9)),
    ("10^9 networks in one", "members must be from 1 to 1000", _other("robust_dist", members=10**9)),
    ("10^9 residual blocks", "head_blocks must be from 0 to 100", _other("cc_rot", head_blocks=10**9)),
    ("a backbone of 6 * 10^9 + 4 layers", "depth must be from 10 to 1000",
        _other("protonet", "wrn28", 6 * 10**9 + 4)),
    ("10^9 passes over an episode", "sfc_epochs must be from 0 to 1000", _other("deepemd", sfc_epochs=10**9)),
):  # fmt: skip
    case(f"safetensors: {_what}", "model.safetensors", _said)(_build)

for _what, _said, _change in (
    ("a method that is code", r"holds a 'os\.system', and there are only", lambda h: h.update(method="os.system")),
    ("a network of 700 MB, without its weights", "size mismatch",
        lambda h: h["recipe"].update(backbone_options={"width": 2500})),
    ("an alignment of 10^9 steps", "with T from 1 to 1000",
        lambda h: h["recipe"].update(alignment="euler(1000000000)")),
    ("an attribute as an argument", "unknown choices", lambda h: h["recipe"].update(__class__="os")),
    ("images of 10^9 pixels a side", "from 1 to 1024 pixels", lambda h: h["preprocessing"].update(size=10**9)),
):  # fmt: skip
    case(f"safetensors: {_what}", "model.safetensors", _said)(_model(_change))


def _header(text: bytes, length: int | None = None, data: bytes = b"") -> Build:
    """A safetensors file with a header as it is, rightly sealed where it has room for a digest."""

    def build(folder: Path, canary: Path) -> Read:
        size = len(text) if length is None else length
        content = struct.pack("<Q", size) + text + data
        digest = hashlib.sha256(content).hexdigest().encode()
        (folder / "model.safetensors").write_bytes(content.replace(UNKNOWN.encode(), digest))
        return lambda: load_model(folder / "model.safetensors")

    return build


def _ours(**tensors: Any) -> bytes:
    """A header of ours whose tensors lie where `tensors` says."""
    recipe = {"backbone": "conv4", "classes": 5, "backbone_options": {"width": 8}}
    about = json.dumps({"method": "protonet", "recipe": recipe, "preprocessing": None, "about": {}, "sha256": UNKNOWN})
    return json.dumps({"__metadata__": {"labkit": about}, **tensors}).encode()


def _at(shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}


for _what, _said, _build in (
    ("a header of 2^63 bytes", "is not a model", _header(b"{}", 2**63)),
    ("a header nested 100 000 deep", "RecursionError", _header(b"[" * 10**5)),
    ("a header with a number of a million digits", "is not a model", _header(b"1" * 10**6)),
    ("tensors that lie over each other", "invalid offset",
        _header(_ours(a=_at([2], 0, 8), b=_at([2], 4, 12)), data=bytes(12))),
    ("a tensor of 100 million numbers without data", "not fully covered",
        _header(_ours(a=_at([10**8], 0, 4 * 10**8)), data=bytes(8))),
    ("a tensor whose size overflows", "overflow", _header(_ours(a=_at([2**62, 4], 0, 8)), data=bytes(8))),
):  # fmt: skip
    case(f"safetensors: {_what}", "model.safetensors", _said)(_build)
