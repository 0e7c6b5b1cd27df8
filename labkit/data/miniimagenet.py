"""miniImageNet: 100 classes of ImageNet, 600 images each, as five kinds of download hold it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labkit.common.errors import DataError
from labkit.common.safe_pickle import load_pickle
from labkit.data.fields import check_images, images, integers, same_length, strings, table
from labkit.data.folders import csv_images, images_in, source_of
from labkit.data.layouts import FOLDERS, Layout
from labkit.data.source import CHUNK, Source, numbered

MAX_HDF5_CHUNK = 2**28  # bytes that reading one image may unpack


def read_pickle(root: Path, file: Path) -> Source:
    """``data`` uint8 [N, h, w, 3] and ``labels``, N ids that count on from split to split; they name the classes."""
    data, labels = table(load_pickle(file), file, "data", "labels")
    pixels = images(data, f"{file}, 'data'")
    ids = integers(labels, f"{file}, 'labels'")
    same_length(file, images=len(pixels), labels=len(ids))
    numbers, distinct = numbered(ids.tolist())
    return Source(pixels, lambda i: f"{file.name}, image {i}", numbers, [str(name) for name in distinct])


def read_cache(root: Path, file: Path) -> Source:
    """``image_data`` uint8 [N, h, w, 3] and ``class_dict``, the indices of each class."""
    image_data, class_dict = table(load_pickle(file), file, "image_data", "class_dict")
    pixels = images(image_data, f"{file}, 'image_data'")
    table(class_dict, file)
    names = sorted(class_dict, key=str)
    labels = np.full(len(pixels), -1, dtype=np.int64)
    for label, name in enumerate(names):
        where = f"{file}, class {name!r:.100}"
        indices = integers(class_dict[name], where)
        if len(indices) == 0:
            raise DataError(f"{where}: expected indices of images, there are none")
        if indices.min() < 0 or indices.max() >= len(pixels):
            raise DataError(
                f"{where}: expected indices from 0 to {len(pixels) - 1}, got {indices.min()} to {indices.max()}"
            )
        if (labels[indices] >= 0).any() or len(np.unique(indices)) < len(indices):
            raise DataError(f"{where}: expected every image in one class, some of these are in two or listed twice")
        labels[indices] = label
    if (labels < 0).any():
        raise DataError(f"{file}: expected every image in one class, {(labels < 0).sum()} of {len(pixels)} are in none")
    return Source(pixels, lambda i: f"{file.name}, image {i}", labels, [str(name) for name in names])


def read_csv(root: Path, folder: Path, table: Path) -> Source:
    """Files in one folder, listed with their class in a CSV table a split."""
    return source_of(root, csv_images(root, table, folder))


def read_hdf5(root: Path, file: Path, names_file: Path) -> Source:
    """A group ``datasets`` with uint8 [n, h, w, 3] for each class, and the list of the classes in JSON."""
    try:
        listed = json.loads(names_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{names_file}: expected a JSON list of class names ({error})") from error
    names = sorted(strings(listed, str(names_file)))
    if len(set(names)) < len(names):
        raise DataError(f"{names_file}: expected every class once, some are listed twice")
    with _hdf5(file) as opened:
        group = _member(opened, "datasets", h5py.Group, file)
        if set(group) != set(names):
            odd = sorted(set(group) ^ set(names))
            raise DataError(f"{file}: expected the classes of {names_file.name}; only in one of them: {odd[:5]}")
        counts = [_count(_member(group, name, h5py.Dataset, file), f"{file}, class {name!r}") for name in names]
    labels = np.repeat(np.arange(len(names)), counts)
    starts = np.cumsum([0, *counts])
    return Source(
        _hdf5_images(file, names),
        lambda i: f"{file.name}, class {names[labels[i]]!r}, image {i - starts[labels[i]]}",
        labels,
        names,
    )


@contextmanager
def _hdf5(file: Path) -> Iterator[Any]:
    try:
        with h5py.File(file, "r") as opened:
            yield opened
    except DataError:
        raise
    except Exception as error:  # HDF5 reports damage in many ways
        raise DataError(f"{file}: truncated or not an HDF5 file ({error}); copy or download it again") from error


def _member(group: Any, name: str, kind: type, file: Path) -> Any:
    """A member that lies in this very file; soft and external links may lead anywhere, and are not followed."""
    if "/" in name or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise DataError(
            f"{file}: expected {name!r} in the file itself, it is missing or a link; links are not followed"
        )
    member = group[name]
    if not isinstance(member, kind):
        raise DataError(f"{file}: expected {name!r} to be a {kind.__name__}, got a {type(member).__name__}")
    return member


def _count(dataset: Any, where: str) -> int:
    """How many images a dataset holds: really, in this file, whatever its header promises."""
    if dataset.external is not None or dataset.is_virtual:
        raise DataError(f"{where}: keeps its images in another file, which is not opened")
    if dataset.shape is None or dataset.shape == ():
        raise DataError(f"{where}: expected images uint8 [n, h, w, 3], got nothing")
    check_images(dataset.shape, dataset.dtype, where)
    if len(dataset) == 0:
        raise DataError(f"{where}: expected images, the class is empty")
    if dataset.chunks is None:
        complete = dataset.id.get_storage_size() == dataset.nbytes
    else:
        if math.prod(dataset.chunks) > MAX_HDF5_CHUNK:
            raise DataError(f"{where}: stored in chunks of {dataset.chunks}, more than {MAX_HDF5_CHUNK} bytes each")
        pieces = (-(-side // piece) for side, piece in zip(dataset.shape, dataset.chunks, strict=True))
        complete = dataset.id.get_num_chunks() == math.prod(pieces)
    if not complete:
        raise DataError(f"{where}: promises {len(dataset)} images but does not hold them; copy or download it again")
    return len(dataset)


def _hdf5_images(file: Path, names: list[str]) -> Iterator[NDArray[np.uint8]]:
    with _hdf5(file) as opened:
        for name in names:
            dataset = opened["datasets"][name]
            for start in range(0, len(dataset), CHUNK):
                yield from dataset[start : start + CHUNK]


LAYOUTS = (
    Layout("pickle", (("miniImageNet_category_split_{phase}.pickle",),), read_pickle),
    Layout(
        "images+csv",
        (("images/", "split/{split}.csv"), ("images/", "{split}.csv")),
        read_csv,
        files=lambda root, folder, table: [*images_in(root, folder), table],
    ),
    Layout("cache-pkl", (("mini-imagenet-cache-{split}.pkl",), ("mini-imagenet-cache-{long}.pkl",)), read_cache),
    Layout("hdf5", (("{split}_data.hdf5", "{split}_labels.json"),), read_hdf5),
    FOLDERS,
)
