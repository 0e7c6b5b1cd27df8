"""Hostile data: pickles, .npz, HDF5."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from labkit.common.safe_pickle import load_pickle
from labkit.data import load_images
from tests.helpers.hostile.cases import Build, Read, case
from tests.helpers.hostile_pickles import Call, hostile
from tests.helpers.real_files import WNIDS, some_pixels, write_mini_hdf5, write_tiered_npz

# --- Pickles of data. Of those in `hostile_pickles`, one a mechanism.

PICKLES = {
    "call of a function": "os.system",
    "call of a function, in protocol 0 by its name in Python 2": "Python 2 name",
    "call deep inside containers": "deep inside",
    "call inside a numpy array of objects": "object array",
    "builtins.eval": "eval",
    "builtins.getattr": "getattr",
    "a method of an allowed class, by a dotted name": "dotted name",
    "instance by INST": "INST",
    "class call by OBJ": "OBJ",
    "instance by NEWOBJ": "NEWOBJ",
    "persistent id": "persistent id",
    "copyreg's extension code": "extension code",
    "state of a function": "state of a function",
    "array of 100 million without data": "array without data",
    "an allowed codec that is not latin-1": "other encoding",
    "memo of 68 GB": "memo of 68 GB",
    "string of an exabyte": "string of an exabyte",
    "one string copied 10 000 times": "one string copied 10 000 times",
    "hash of 2 ** 60 leaves": "hash of 2 ** 60 leaves",
    "print of 2 ** 60 leaves": "string of 2 ** 60 leaves",
}


def _pickled(name: str) -> Build:
    def build(folder: Path, canary: Path) -> Read:
        (folder / "data.pkl").write_bytes(hostile(canary)[name][0])
        return lambda: load_pickle(folder / "data.pkl")

    return build


for _what, _name in PICKLES.items():
    _said = hostile(Path("x"))[_name][1]
    case(f"pickle: {_what}", "data.pkl", _said)(_pickled(_name))


# --- Archives and arrays.


def _npz(write: Callable[[Path, Path], object]) -> Build:
    def build(folder: Path, canary: Path) -> Read:
        write(write_tiered_npz(folder, "train", some_pixels(6), [0, 1, 2, 0, 1, 2])[0], canary)
        options = {"channel_order": "rgb", "check_counts": False, "progress": False}
        return lambda: load_images("tieredimagenet", "train", root=folder, **options)

    return build


def _objects(file: Path, canary: Path) -> None:
    np.savez(file, images=np.array([Call(os.system, f"touch {canary}"), 1], dtype=object))


def _npy(shape: tuple[int, ...], descr: str = "|u1", body: int = 0, name: str = "images.npy") -> Callable[..., None]:
    """An .npz whose header is free to lie; `body` zeros, which pack a thousandfold."""

    def write(file: Path, canary: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
            np.lib.format.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": shape})
            for _ in range(body // 10**6):
                member.write(bytes(10**6))

    return write


for _what, _said, _write in (
    ("members that are pickles", r"got object \[2\]", _objects),
    ("100 million rows without data", "at most 2000000 images", _npy((10**8, 84, 84, 3))),
    ("a bomb behind a true header", "goes on after its 6 images", _npy((6, 84, 84, 3), body=6 * 10**8)),
    ("a dtype that is code", "truncated, or no .npz", _npy((6, 84, 84, 3), "__import__('os').system('x')")),
    ("a member named ../images.npy", "truncated, or no .npz", _npy((6, 84, 84, 3), name="../images.npy")),
):
    case(f"npz: {_what}", "train_images.npz", _said)(_npz(_write))


# --- HDF5.


def _hdf5(edit: Callable[[Any, Path], object]) -> Build:
    """miniImageNet's HDF5, in which a class is replaced by what `edit` makes of the group and of a secret file."""

    def build(folder: Path, canary: Path) -> Read:
        images = {w: some_pixels(2, seed=i) for i, w in enumerate(WNIDS)}
        file, _ = write_mini_hdf5(folder, "val", images)
        secret = folder.parent / "secret.hdf5"
        secret.write_bytes(file.read_bytes())
        with h5py.File(file, "r+") as opened:
            del opened["datasets"][WNIDS[0]]
            edit(opened["datasets"], secret)
        return lambda: load_images("miniimagenet", "val", root=folder, check_counts=False, progress=False)

    return build


def _virtual(group: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout((2, 84, 84, 3), "u1")
    layout[:] = h5py.VirtualSource(str(secret), f"datasets/{WNIDS[0]}", (2, 84, 84, 3))
    group.create_virtual_dataset(WNIDS[0], layout)


def _absent(count: int, **options: Any) -> Callable[[Any, Path], object]:
    return lambda group, secret: group.create_dataset(WNIDS[0], (count, 84, 84, 3), "u1", **options)


for _what, _said, _edit in (
    ("an external link", "links are not followed",
        lambda g, secret: g.__setitem__(WNIDS[0], h5py.ExternalLink(str(secret), f"datasets/{WNIDS[0]}"))),
    ("a soft link to itself", "links are not followed",
        lambda g, secret: g.__setitem__(WNIDS[0], h5py.SoftLink(f"/datasets/{WNIDS[0]}"))),
    ("images kept in another file", "keeps its images in another file", lambda g, secret: g.create_dataset(
        WNIDS[0], (2, 84, 84, 3), "u1", external=[(str(secret), 0, 2 * 84 * 84 * 3)])),
    ("a virtual dataset", "keeps its images in another file", _virtual),
    ("100 million rows", "at most 2000000 images", _absent(10**8, chunks=(1, 84, 84, 3))),
    ("a million rows without data", "promises 1000000 images but does not hold them",
        _absent(10**6, chunks=(1, 84, 84, 3))),
    ("chunks of 2 GB", "stored in chunks of", _absent(10**5, chunks=(10**5, 84, 84, 3))),
    ("numbers of no fixed size", "expected images uint8", lambda g, secret: g.create_dataset(
        WNIDS[0], (2, 84, 84, 3), h5py.vlen_dtype(np.uint8))),
    ("a class that is a group", "to be a Dataset, got a Group", lambda g, secret: g.create_group(WNIDS[0])),
):  # fmt: skip
    case(f"HDF5: {_what}", "val_data.hdf5", _said)(_hdf5(_edit))


@case("JSON: a list nested 100 000 deep", "val_labels.json", "expected a JSON list of class names")
def _(folder: Path, canary: Path) -> Read:
    read = _hdf5(lambda g, secret: None)(folder, canary)
    (folder / "val_labels.json").write_text("[" * 10**5)
    return read
