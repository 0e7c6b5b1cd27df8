"""tieredImageNet: 608 classes of ImageNet in 34 categories, as three kinds of download hold it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labkit.common.errors import DataError
from labkit.common.safe_pickle import load_pickle
from labkit.data.fields import check_images, integers, kind, same_length, strings, table
from labkit.data.layouts import FOLDERS, Layout
from labkit.data.source import Source, numbered


def read_png(root: Path, images_file: Path, labels_file: Path) -> Source:
    """A list of PNG files as byte arrays; labels with the names of classes and of their categories.

    ``label_specific`` and ``label_general`` number the class and the category of each image;
    ``label_specific_str`` and ``label_general_str`` name them, one string a number. The names of categories are
    fewer than the numbers in some copies; a category without a name is called by its number.
    """
    keys = ("label_specific", "label_general", "label_specific_str", "label_general_str")
    fields = dict(zip(keys, table(load_pickle(labels_file), labels_file, *keys), strict=True))
    specific, general = (integers(fields[key], f"{labels_file}, {key!r}") for key in keys[:2])
    names, category_names = (strings(fields[key], f"{labels_file}, {key!r}") for key in keys[2:])
    pictures = load_pickle(images_file)
    if not isinstance(pictures, list | tuple) or not all(_is_encoded(picture) for picture in pictures):
        raise DataError(f"{images_file}: expected a list of PNG byte arrays, got {kind(pictures)}")
    same_length(
        f"{images_file} and {labels_file.name}", images=len(pictures), classes=len(specific), categories=len(general)
    )
    labels, ids = numbered(specific.tolist())
    if ids and not 0 <= ids[0] <= ids[-1] < len(names):
        raise DataError(
            f"{labels_file}: {len(names)} names in 'label_specific_str' but classes from {ids[0]} to {ids[-1]}"
        )
    class_names = [names[i] for i in ids]
    if len(set(class_names)) < len(class_names):
        raise DataError(f"{labels_file}: expected a name of its own for every class, 'label_specific_str' repeats some")
    categories = []
    for label, name in enumerate(class_names):
        of_class = np.unique(general[labels == label])
        if len(of_class) > 1:
            raise DataError(f"{labels_file}, class {name!r}: expected one category, got {of_class[:5].tolist()}")
        number = int(of_class[0])
        categories.append(category_names[number] if 0 <= number < len(category_names) else str(number))
    encoded = (bytes(picture) for picture in pictures)
    return Source(encoded, lambda i: f"{images_file.name}, image {i}", labels, class_names, categories)


def _is_encoded(picture: object) -> bool:
    return isinstance(picture, bytes) or (isinstance(picture, np.ndarray) and picture.dtype == np.uint8)


def read_npz(root: Path, images_file: Path, labels_file: Path) -> Source:
    """``images`` uint8 [N, h, w, 3] in an .npz, ``labels`` [N] in a pickle; classes are named by number."""
    (values,) = table(load_pickle(labels_file), labels_file, "labels")
    labels, ids = numbered(integers(values, f"{labels_file}, 'labels'").tolist())
    return Source(
        _npz_images(images_file, len(labels), labels_file.name),
        lambda i: f"{images_file.name}, image {i}",
        labels,
        [str(name) for name in ids],
    )


def _npz_images(file: Path, count: int, labels_name: str) -> Iterator[NDArray[np.uint8]]:
    """One image after the other: the whole array is 9 GB, and a small file can unpack to any length."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("images.npy") as member:
            version = np.lib.format.read_magic(member)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran_order, dtype = read_header[version](member)
            check_images(shape, dtype, f"{file}, 'images'")
            if fortran_order:
                raise DataError(f"{file}: expected 'images' in C order, got Fortran order; save it again with numpy")
            same_length(f"{file} and {labels_name}", images=shape[0], labels=count)
            for _ in range(count):
                yield np.frombuffer(member.read(3 * shape[1] * shape[2]), np.uint8).reshape(shape[1:])
            if member.read(1):  # reading to the end also checks the checksum
                raise DataError(f"{file}: 'images' goes on after its {count} images; copy or download it again")
    except DataError:
        raise
    except Exception as error:  # damaged archives raise nearly anything
        raise DataError(f"{file}: truncated, or no .npz with 'images' ({error}); copy or download it again") from error


LAYOUTS = (
    Layout("png-pkl", (("{split}_images_png.pkl", "{split}_labels.pkl"),), read_png),
    Layout("npz", (("{split}_images.npz", "{split}_labels.pkl"),), read_npz),
    FOLDERS,
)
