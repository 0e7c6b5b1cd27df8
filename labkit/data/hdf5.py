"""HDF5 as torchmeta writes it: a dataset for each class, of pixels or of encoded pictures."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from labkit.common.errors import DataError
from labkit.common.files import first_bytes, instead
from labkit.data.decode import Picture
from labkit.data.fields import MAX_IMAGES, check_images, strings
from labkit.data.source import CHUNK, Source

MAX_HDF5_CHUNK = 2**28  # bytes that reading one image may unpack
POINTER = 16  # bytes that HDF5 keeps for each picture of no fixed size


def read_hdf5(root: Path, file: Path, names_file: Path) -> Source:
    """A group ``datasets`` with the images of each class, and the list of the classes in JSON.

    The images of a class are uint8 [n, h, w, 3] (miniImageNet), or n encoded pictures, each uint8 of its own length
    (tieredImageNet). A class may name its category in its attribute ``label_general``.
    """
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
        classes = [_member(group, name, h5py.Dataset, file) for name in names]
        counts = [_count(dataset, f"{file}, class {name!r}") for dataset, name in zip(classes, names, strict=True)]
        categories = [_category(dataset) for dataset in classes]
    labels = np.repeat(np.arange(len(names)), counts)
    starts = np.cumsum([0, *counts])
    return Source(
        _hdf5_images(file, names),
        lambda i: f"{file.name}, class {names[labels[i]]!r}, image {i - starts[labels[i]]}",
        labels,
        names,
        [category or "unnamed" for category in categories] if any(categories) else None,
    )


@contextmanager
def _hdf5(file: Path) -> Iterator[Any]:
    if other := instead(first_bytes(file)):
        raise DataError(f"{file}: expected an HDF5 file, this file is {other}")
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


def _category(dataset: Any) -> str | None:
    name = dataset.attrs.get("label_general")
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    return name if isinstance(name, str) else None


def _is_encoded(dataset: Any) -> bool:
    """Whether a dataset holds encoded pictures: a row of byte strings, each of its own length."""
    return bool(dataset.ndim == 1 and h5py.check_vlen_dtype(dataset.dtype) == np.uint8)


def _count(dataset: Any, where: str) -> int:
    """How many images a dataset holds: really, in this file, whatever its header promises."""
    if dataset.external is not None or dataset.is_virtual:
        raise DataError(f"{where}: keeps its images in another file, which is not opened")
    if dataset.shape is None or dataset.shape == ():
        raise DataError(f"{where}: expected images uint8 [n, h, w, 3], got nothing")
    if not _is_encoded(dataset):
        check_images(dataset.shape, dataset.dtype, where)
    elif len(dataset) > MAX_IMAGES:
        raise DataError(f"{where}: expected at most {MAX_IMAGES} images, got {len(dataset)}")
    if len(dataset) == 0:
        raise DataError(f"{where}: expected images, the class is empty")
    if dataset.chunks is None:
        promised = POINTER * len(dataset) if _is_encoded(dataset) else dataset.nbytes
        complete = dataset.id.get_storage_size() == promised
    else:
        if math.prod(dataset.chunks) > MAX_HDF5_CHUNK:
            raise DataError(f"{where}: stored in chunks of {dataset.chunks}, more than {MAX_HDF5_CHUNK} bytes each")
        pieces = (-(-side // piece) for side, piece in zip(dataset.shape, dataset.chunks, strict=True))
        complete = dataset.id.get_num_chunks() == math.prod(pieces)
    if not complete:
        raise DataError(f"{where}: promises {len(dataset)} images but does not hold them; copy or download it again")
    return len(dataset)


def _hdf5_images(file: Path, names: list[str]) -> Iterator[Picture]:
    allowance = 2 * file.stat().st_size  # encoded pictures are not packed: together no longer than the file
    with _hdf5(file) as opened:
        for name in names:
            dataset = opened["datasets"][name]
            for start in range(0, len(dataset), CHUNK):
                if not _is_encoded(dataset):
                    yield from dataset[start : start + CHUNK]
                    continue
                for place in range(start, min(start + CHUNK, len(dataset))):
                    picture = dataset[place].tobytes()
                    allowance -= len(picture)
                    if allowance < 0:
                        raise DataError(f"{file}: promises more bytes of pictures than it holds; download it again")
                    yield picture
