"""tieredImageNet: 608 classes of ImageNet in 34 categories, as four kinds of download hold it."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.common.errors import DataError
from labkit.common.files import first_bytes, instead
from labkit.common.safe_pickle import load_pickle
from labkit.data.fields import check_images, class_ids, kind, same_length, strings, table
from labkit.data.layouts import FOLDERS, HDF5, Layout
from labkit.data.source import Source, numbered


def read_png(root: Path, images_file: Path, labels_file: Path) -> Source:
    """A list of PNG files as byte arrays; labels with the names of classes and of their categories, or without.

    ``label_specific`` and ``label_general`` number the class and the category of each image, or name them;
    ``label_specific_str`` and ``label_general_str`` give a name for every number. Copies lack some of them, or have
    ``labels`` in the place of ``label_specific``. A class or a category without a name is called by its number.
    """
    fields = _label_fields(labels_file)
    key = "label_specific" if "label_specific" in fields else "labels"
    if key not in fields:
        table(fields, labels_file, "label_specific")  # raises, and says what is there
    specific = class_ids(fields[key], f"{labels_file}, {key!r}")
    pictures = load_pickle(images_file)
    if not isinstance(pictures, list | tuple) or not all(_is_encoded(picture) for picture in pictures):
        raise DataError(f"{images_file}: expected a list of PNG byte arrays, got {kind(pictures)}")
    lengths = {"images": len(pictures), "classes": len(specific)}
    general = None
    if "label_general" in fields:
        general = class_ids(fields["label_general"], f"{labels_file}, 'label_general'")
        lengths["categories"] = len(general)
    same_length(f"{images_file} and {labels_file.name}", **lengths)
    labels, ids = numbered(specific)
    class_names = _names(fields, "label_specific_str", labels_file, ids)
    if len(set(class_names)) < len(class_names):
        raise DataError(f"{labels_file}: expected a name of its own for every class, 'label_specific_str' repeats some")
    categories = None
    if general is not None:
        of_image, category_ids = numbered(general)
        of_class = []
        for label, name in enumerate(class_names):
            found = np.unique(of_image[labels == label])
            if len(found) > 1:
                several = [category_ids[i] for i in found[:5]]
                raise DataError(f"{labels_file}, class {name!r}: expected one category, got {several}")
            of_class.append(category_ids[found[0]])
        categories = _names(fields, "label_general_str", labels_file, of_class, complete=False)
    encoded = (bytes(picture) for picture in pictures)
    return Source(encoded, lambda i: f"{images_file.name}, image {i}", labels, class_names, categories)


def _label_fields(file: Path) -> dict[Any, Any]:
    """What a file of labels holds; a bare list is that of the classes."""
    value = load_pickle(file)
    if isinstance(value, list | tuple | np.ndarray):
        return {"labels": value}
    table(value, file)
    return dict(value)


def _names(fields: dict[Any, Any], key: str, file: Path, ids: Sequence[Any], complete: bool = True) -> list[str]:
    """The names of `ids`: those in the list `key`, or, of what has none there, the number or the name that it is."""
    if key not in fields or not all(isinstance(number, int) for number in ids):
        return [str(number) for number in ids]
    names = strings(fields[key], f"{file}, {key!r}")
    if complete and ids and not 0 <= min(ids) <= max(ids) < len(names):
        raise DataError(f"{file}: {len(names)} names in {key!r} but classes from {min(ids)} to {max(ids)}")
    return [names[number] if 0 <= number < len(names) else str(number) for number in ids]


def _is_encoded(picture: object) -> bool:
    return isinstance(picture, bytes) or (isinstance(picture, np.ndarray) and picture.dtype == np.uint8)


def read_npz(root: Path, images_file: Path, labels_file: Path) -> Source:
    """``images`` uint8 [N, h, w, 3] in an .npz, ``labels`` [N] in a pickle; classes are named by number, or name."""
    (values,) = table(_label_fields(labels_file), labels_file, "labels")
    labels, ids = numbered(class_ids(values, f"{labels_file}, 'labels'"))
    return Source(
        _npz_images(images_file, len(labels), labels_file.name),
        lambda i: f"{images_file.name}, image {i}",
        labels,
        [str(name) for name in ids],
    )


def _npz_images(file: Path, count: int, labels_name: str) -> Iterator[NDArray[np.uint8]]:
    """One image after the other: the whole array is 9 GB, and a small file can unpack to any length."""
    content = first_bytes(file)
    if (other := instead(content)) and not content.startswith(b"PK"):
        raise DataError(f"{file}: expected an .npz with 'images', this file is {other}")
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
    HDF5,
    FOLDERS,
)
