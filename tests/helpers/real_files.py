"""Writes small data sets in the exact formats of the downloads."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from labkit.data.imageset import ImageSet
from labkit.data.own_folder import load_folder

WNIDS = ("n01532829", "n01558993", "n01704323")


def some_pixels(n: int, size: int = 84, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [n, size, size, 3], every image another."""
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def by_class(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Six images as two of each of three classes."""
    return {wnid: pixels[2 * i : 2 * i + 2] for i, wnid in enumerate(WNIDS)}


def python2_pickle(value: Any, protocol: int) -> bytes:
    """What Python 2's cPickle with numpy 1 writes, at protocol 0 (text) or 2 (binary); str stands for Python-2 str."""
    body = _Python2(binary=protocol == 2).dump(value)
    return (b"\x80\x02" if protocol == 2 else b"") + body + b"."


class _Python2:
    def __init__(self, binary: bool) -> None:
        self.binary = binary
        self.marks = 0

    def put(self) -> bytes:
        self.marks += 1
        return b"r" + struct.pack("<I", self.marks) if self.binary else b"p%d\n" % self.marks

    def dump(self, value: Any) -> bytes:
        if value is None:
            return b"N"
        if isinstance(value, bool):
            return (b"\x88" if value else b"\x89") if self.binary else b"I0%d\n" % value
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value) if self.binary else b"I%d\n" % value
        if isinstance(value, str):
            return self.dump(value.encode("latin1"))
        if isinstance(value, bytes):
            text = b"T" + struct.pack("<i", len(value)) + value if self.binary else b"S%s\n" % repr(value)[1:].encode()
            return text + self.put()
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self.dump, value)) + b"t" + self.put()
        if isinstance(value, list):
            items = b"".join(map(self.dump, value))
            if self.binary:
                return b"]" + self.put() + b"(" + items + b"e"
            return b"(l" + self.put() + b"".join(self.dump(item) + b"a" for item in value)
        if isinstance(value, dict):
            start = (b"}" if self.binary else b"(d") + self.put()
            return start + b"".join(self.dump(key) + self.dump(item) + b"s" for key, item in value.items())
        if isinstance(value, np.ndarray):
            code = value.dtype.str[1:]
            dtype = b"cnumpy\ndtype\n" + self.dump((code, 0, 1)) + b"R"
            size = (value.itemsize, 1) if value.dtype.kind == "S" else (-1, -1)
            dtype += self.dump((3, value.dtype.str[0], None, None, None, *size, 0)) + b"b"
            shell = (
                b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + self.dump((0,)) + self.dump("b") + b"tR"
            )
            state = self.dump(1) + self.dump(value.shape) + dtype + self.dump(False) + self.dump(value.tobytes())
            return shell + self.put() + b"(" + state + b"tb"
        raise TypeError(type(value))


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """An image file's bytes."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def write_mini_pickle(root: Path, split: str, pixels: NDArray[np.uint8], ids: Sequence[int], protocol: int = 2) -> Path:
    """``miniImageNet_category_split_*.pickle``, labels as the split's global ids."""
    phase = "train_phase_train" if split == "train" else split
    file = root / f"miniImageNet_category_split_{phase}.pickle"
    file.write_bytes(python2_pickle({"data": pixels, "labels": list(ids)}, protocol))
    return file


def write_mini_csv(root: Path, split: str, per_class: int, size: int = 84, folder: str = "split") -> Path:
    """``images/`` and ``split/train.csv`` (or ``train.csv``), JPEG files named like n0153282900000005.jpg."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / folder).mkdir(exist_ok=True)
    rows = ["filename,label"]
    for c, wnid in enumerate(WNIDS):
        for i, pixels in enumerate(some_pixels(per_class, size, seed=c)):
            name = f"{wnid}{i:08d}.jpg"
            (root / "images" / name).write_bytes(encoded(pixels, "JPEG"))
            rows.append(f"{name},{wnid}")
    table = root / folder / f"{split}.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def write_mini_cache(
    root: Path, split: str, pixels: NDArray[np.uint8], class_dict: dict[str, list[int]], protocol: int = 4
) -> Path:
    """``mini-imagenet-cache-*.pkl``, as Python 3 writes it."""
    file = root / f"mini-imagenet-cache-{split}.pkl"
    file.write_bytes(pickle.dumps({"image_data": pixels, "class_dict": class_dict}, protocol))
    return file


def write_mini_hdf5(root: Path, split: str, classes: dict[str, NDArray[np.uint8]], **options: Any) -> tuple[Path, Path]:
    """``*_data.hdf5`` and ``*_labels.json``."""
    file, names = root / f"{split}_data.hdf5", root / f"{split}_labels.json"
    with h5py.File(file, "w") as out:
        group = out.create_group("datasets")
        for name, pixels in classes.items():
            group.create_dataset(name, data=pixels, **options)
    names.write_text(json.dumps(sorted(classes)))
    return file, names


def write_folders(folder: Path, classes: dict[str, NDArray[np.uint8]], suffix: str = ".png") -> Path:
    """A folder a class; ``.JPEG`` as ImageNet has it, or another suffix."""
    kind = {".jpeg": "JPEG", ".jpg": "JPEG"}.get(suffix.lower(), "PNG")
    for name, pixels in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(pixels):
            (folder / name / f"{name}_{i}{suffix}").write_bytes(encoded(image, kind))
    return folder


def load_all(root: Path, **options: Any) -> ImageSet:
    """Every picture of a folder of classes, as its training split, with sides of 8 pixels."""
    return load_folder(root, "train", size=8, progress=False, shares=(1, 0, 0), **options)


def write_tiered_png(
    root: Path, split: str, pixels: NDArray[np.uint8], protocol: int = 2, **changed: Any
) -> tuple[Path, Path]:
    """``*_images_png.pkl`` and ``*_labels.pkl``: image i is of class i modulo 3; classes 0 and 2 share a category."""
    images, labels = root / f"{split}_images_png.pkl", root / f"{split}_labels.pkl"
    pngs = [np.frombuffer(encoded(image), np.uint8).reshape(-1, 1) for image in pixels]  # as cv2.imencode gives them
    images.write_bytes(python2_pickle(pngs, protocol))
    specific = np.arange(len(pixels)) % 3
    table = {
        "label_specific": specific,
        "label_general": np.array([1, 0, 1])[specific],
        "label_specific_str": ["limpkin", "otterhound", "barracouta"],
        "label_general_str": ["working dog", "aquatic bird, fish"],
    }
    labels.write_bytes(python2_pickle(table | changed, protocol))
    return images, labels


def write_tiered_npz(root: Path, split: str, pixels: NDArray[np.uint8], labels: Sequence[int]) -> tuple[Path, Path]:
    """``*_images.npz`` and ``*_labels.pkl``."""
    images, table = root / f"{split}_images.npz", root / f"{split}_labels.pkl"
    np.savez(images, images=pixels)
    table.write_bytes(pickle.dumps({"labels": list(labels)}, 4))
    return images, table


def write_tiered_hdf5(
    root: Path, split: str, classes: dict[str, NDArray[np.uint8]], categories: dict[str, str]
) -> tuple[Path, Path]:
    """torchmeta's ``*_data.hdf5``: PNG files as rows of their own lengths, and ``*_labels.json``."""
    file, names = root / f"{split}_data.hdf5", root / f"{split}_labels.json"
    with h5py.File(file, "w") as out:
        group = out.create_group("datasets")
        for name, pixels in classes.items():
            dataset = group.create_dataset(name, (len(pixels),), dtype=h5py.vlen_dtype(np.uint8))
            if name in categories:
                dataset.attrs["label_general"] = categories[name]
            dataset.attrs["label_specific"] = name
            for i, image in enumerate(pixels):
                dataset[i] = np.frombuffer(encoded(image), np.uint8)
    names.write_text(json.dumps(list(classes)))
    return file, names


def damage(file: Path, data: st.DataObject) -> None:
    """Cut `file` off somewhere, or flip one bit of it, as hypothesis draws."""
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
