"""miniImageNet: 100 classes of ImageNet, 600 images each, as five kinds of download hold it."""

from pathlib import Path

import numpy as np

from labkit.common.errors import DataError
from labkit.common.safe_pickle import load_pickle
from labkit.data.fields import class_ids, images, integers, same_length, table
from labkit.data.folders import csv_images, source_of
from labkit.data.layouts import FOLDERS, HDF5, Layout
from labkit.data.source import Source, numbered


def read_pickle(root: Path, file: Path) -> Source:
    """``data`` uint8 [N, h, w, 3] and ``labels``, N ids that count on from split to split, or N names of classes."""
    data, labels = table(load_pickle(file), file, "data", "labels")
    pixels = images(data, f"{file}, 'data'")
    ids = class_ids(labels, f"{file}, 'labels'")
    same_length(file, images=len(pixels), labels=len(ids))
    numbers, distinct = numbered(ids)
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


def csv_files(root: Path, folder: Path, table: Path) -> list[Path]:
    """The table and every file it lists, in whatever subfolder."""
    return [*(file for files in csv_images(root, table, folder).values() for file in files), table]


LAYOUTS = (
    Layout("pickle", (("miniImageNet_category_split_{phase}.pickle",),), read_pickle),
    Layout("images+csv", (("images/", "split/{split}.csv"), ("images/", "{split}.csv")), read_csv, files=csv_files),
    Layout("cache-pkl", (("mini-imagenet-cache-{split}.pkl",), ("mini-imagenet-cache-{long}.pkl",)), read_cache),
    HDF5,
    FOLDERS,
)
