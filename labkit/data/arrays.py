"""Pixels and data sets that Python holds already, made into the arrays of an `ImageSet`."""

import hashlib
import io
from collections.abc import Mapping, Sequence, Set
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Subset
from tqdm.auto import tqdm

from labkit.common import checks
from labkit.common.errors import DataError
from labkit.data.decode import RESAMPLINGS, decode, to_rgb
from labkit.data.source import CHUNK, check_choice, check_size, numbered

Labelled = tuple[NDArray[np.int64], tuple[str, ...]]


def check_pixels(pixels: Any) -> NDArray[np.uint8]:
    """`pixels` as uint8 [n, h, w, 3]; grey [n, h, w] or [n, h, w, 1] gets three equal channels.

    Raises:
        TypeError: no array.
        ValueError: another type of number or another shape, with what to do about it.
    """
    array = _of_tensor(pixels) if isinstance(pixels, torch.Tensor) else pixels
    if isinstance(array, Sequence) and not isinstance(array, str | bytes):
        array = _stacked(array)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"pixels must be an array uint8 [n, h, w, 3], got a {type(pixels).__name__}")
    found = f"{array.dtype} {list(array.shape)}"
    if array.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 [n, h, w, 3] from 0 to 255, got {found}{_as_uint8(array)}")
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        raise ValueError(f"pixels must be [n, h, w, 3], got {found}: put the channels last, with transpose(0, 2, 3, 1)")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
        raise ValueError(f"pixels must be uint8 [n, h, w, 3], or grey [n, h, w], got {found}")
    return np.repeat(array, 3, axis=3) if array.shape[3] == 1 else np.ascontiguousarray(array)


def _of_tensor(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor on whichever device; NumPy knows no bfloat16."""
    known = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: NDArray[Any] = known.detach().cpu().numpy()
    return array


def _as_uint8(array: NDArray[Any]) -> str:
    """The range of numbers of another type, and what keeps the pictures that they are."""
    if array.dtype.kind not in "bfiu" or not array.size:
        return ""
    least, most = float(array.min()), float(array.max())
    scale = 1 if most > 1.001 else 255  # what was computed from 0 to 1 may be a little more
    if not -0.5 < scale * least <= scale * most < 255.5:  # NaN too
        return f" from {least:g} to {most:g}: bring them to 0 to 255 first, and undo a normalisation"
    value = "pixels" if scale == 1 else "255 * pixels"
    whole = f"np.rint({value})" if array.dtype.kind == "f" else f"({value})"
    return f" from {least:g} to {most:g}: convert them with {whole}.astype('uint8')"


def _stacked(pictures: Sequence[Any]) -> NDArray[Any]:
    try:
        return np.asarray(pictures)
    except ValueError:  # NumPy's own speaks of an inhomogeneous shape
        shapes = [getattr(each, "shape", getattr(each, "size", type(each).__name__)) for each in pictures]
        found = [str(shape if isinstance(shape, str) else list(shape)) for shape in dict.fromkeys(shapes)]
        raise ValueError(
            f"pixels must be pictures of one shape, got {' and '.join(found[:3])}: resize them before, or pass "
            "list(zip(pixels, labels)) to ImageSet.from_dataset with size=84"
        ) from None


def resized(pixels: NDArray[np.uint8], size: int | None, resampling: str) -> NDArray[np.uint8]:
    """uint8 [n, size, size, 3]: every picture squashed into the square, or as it is where `size` is None.

    Raises:
        ValueError: pictures that are not square and no size.
    """
    check_choice("resampling", resampling, RESAMPLINGS)
    height, width = pixels.shape[1:3]
    if size is None:
        if height != width:
            raise ValueError(f"images must be square, got {height} x {width} pixels: pass size=84 to have them resized")
        check_size(height)
        return pixels
    size = check_size(size)
    if (height, width) == (size, size):
        return pixels
    return np.stack([decode(image, size, resampling)[0] for image in pixels])


def check_names(what: str, names: Any, expected: str = "a list of texts, one a class") -> list[str]:
    """Names in their order.

    Raises:
        TypeError: no series of texts, or a set, whose order is chance.
    """
    if isinstance(names, Set):
        raise TypeError(f"{what} must be {expected}: a set has no order; got {names!r:.60}")
    found = checks.several(what, names, expected, least=0)
    if odd := [name for name in found if not isinstance(name, str)]:
        raise TypeError(f"{what} must be {expected}, got {odd[0]!r:.60} among them")
    return [str(name) for name in found]


def check_labels(labels: Any, names: Sequence[str] | Mapping[int, str] | None, count: int) -> Labelled:
    """Labels int64 [n] from 0, and the names of the classes; classes that `names` has and nobody is of are left out.

    Args:
        labels: n whole numbers, or n names.
        names: of the whole numbers, as a list or by number; None calls classes by their number.
        count: n, to be met.

    Raises:
        TypeError: something else.
        ValueError: another number of labels, or one without a name.
    """
    if not isinstance(labels, torch.Tensor | np.ndarray):
        labels = checks.several("labels", labels, "whole numbers [n] or names [n]", least=0)
    found = labels.tolist() if isinstance(labels, torch.Tensor | np.ndarray) else list(labels)
    found = [each.item() if isinstance(each, torch.Tensor | np.ndarray) and not each.shape else each for each in found]
    if len(found) != count:
        raise ValueError(f"{count} images but {len(found)} labels")
    numbers = list(names) if isinstance(names, Mapping) else None
    known = list(names.values()) if isinstance(names, Mapping) else names
    listed = None if names is None else check_names("names", known)
    if found and all(isinstance(label, str) for label in found):
        if listed is not None and not set(found) <= set(listed):
            raise ValueError(f"labels {sorted(set(found) - set(listed))[:5]} are not among the names")
        values, distinct = numbered(found)
        return values, tuple(str(name) for name in distinct)
    if not all(isinstance(label, Integral) and not isinstance(label, bool) for label in found):
        odd = next(label for label in found if not isinstance(label, Integral) or isinstance(label, bool))
        raise TypeError(f"labels must be whole numbers [n] or names [n], got {odd!r:.60}")
    values, distinct = numbered([int(label) for label in found])
    if listed is None:
        return values, tuple(str(number) for number in distinct)
    table = dict(zip(numbers or range(len(listed)), listed, strict=True))
    if missing := [number for number in distinct if number not in table]:
        raise ValueError(f"label {missing[0]} has no name; there are {len(table)}: {list(table.items())[:3]!r:.80}")
    chosen = [table[number] for number in distinct]
    if len(set(chosen)) < len(chosen):
        raise ValueError("every class needs a name of its own, names repeats some")
    return values, tuple(chosen)


def digest_of_pixels(pixels: NDArray[Any], in_a_file: bool = False) -> str:
    """First 16 hex digits of the sha256 of the pixels in order, or of the .npy file that would hold them."""
    found, header = hashlib.sha256(), io.BytesIO()
    if in_a_file:
        kind = np.lib.format.dtype_to_descr(pixels.dtype)
        about = {"descr": kind, "fortran_order": False, "shape": pixels.shape}
        np.lib.format.write_array_header_1_0(header, about)
        found.update(header.getvalue())
    for start in range(0, len(pixels), CHUNK):  # they may lie on the disk, or be every second row of something
        found.update(np.ascontiguousarray(pixels[start : start + CHUNK]).data)
    return found.hexdigest()[:16]


def read_dataset(
    dataset: Any, size: int | None, resampling: str, keys: tuple[str, str], progress: bool
) -> tuple[NDArray[np.uint8], list[Any], set[tuple[int, int]]]:
    """The pixels uint8 [n, size, size, 3], the labels as they are, and the widths and heights there were.

    Raises:
        TypeError: no data set, items of another kind, or a key or `progress` that is none.
        ValueError: pictures of several sizes and no `size`.
        DataError: an item cannot be read; says which.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            "dataset must have a length and items dataset[i] -> (picture, label), got a "
            f"{type(dataset).__name__}; of a stream make a list first"
        )
    check_choice("resampling", resampling, RESAMPLINGS)
    size, progress = None if size is None else check_size(size), checks.flag("progress", progress)
    for what, key in zip(("image_key", "label_key"), keys, strict=True):
        checks.text(what, key, "the name of a column")
    count = len(dataset)
    if count == 0:
        raise DataError(f"the dataset ({type(dataset).__name__}) holds no image")
    pixels: NDArray[np.uint8] | None = None
    labels, sizes = [], set()
    for i in tqdm(range(count), desc=type(dataset).__name__, unit="image", disable=not progress):
        try:
            picture, label = _pair(dataset[i], keys)
            image = _as_image(picture)
        except TypeError as error:
            raise TypeError(f"dataset[{i}]: {error}") from error
        except Exception as error:  # whatever a stranger's data set raises
            raise DataError(f"dataset[{i}] cannot be read: {type(error).__name__}: {error}") from error
        sizes.add(image.size)
        if size is None and (len(sizes) > 1 or image.width != image.height):
            there = " and ".join(f"{w} x {h}" for w, h in sorted(sizes))
            raise ValueError(f"images must be square and of one size, dataset[{i}] makes it {there}: pass size=84")
        side = check_size(size or image.width)
        if pixels is None:  # all of it at once, so that no second copy is made
            pixels = np.empty((count, side, side, 3), np.uint8)
        pixels[i] = decode(image, side, resampling)[0]
        labels.append(label)
    assert pixels is not None
    return pixels, labels, sizes


def names_of(dataset: Any, key: str) -> Sequence[str] | None:
    """The class names that a data set knows: `classes` of torchvision, or `features`; of a `Subset` those of the whole.

    Only a `Subset` is known to leave labels as they are: what else wraps a data set may number the classes anew.
    """
    while True:
        classes = getattr(dataset, "classes", None)
        if isinstance(classes, Sequence) and classes and all(isinstance(name, str) for name in classes):
            return classes
        if isinstance(classes, Sequence) and classes and all(isinstance(name, Sequence) for name in classes):
            return [", ".join(map(str, name)) for name in classes]  # synonyms, as torchvision has them for ImageNet
        features = getattr(dataset, "features", None)
        named = getattr(features.get(key), "names", None) if isinstance(features, Mapping) else None
        if named:
            return list(named)
        if not isinstance(dataset, Subset):
            return None
        dataset = dataset.dataset


def _pair(item: Any, keys: tuple[str, str]) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        if missing := [key for key in keys if key not in item]:
            raise ValueError(
                f"has no {' and no '.join(map(repr, missing))}, it has {', '.join(map(str, item))}; pass "
                'image_key="..." and label_key="..."'
            )
        return item[keys[0]], item[keys[1]]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise TypeError(f"expected (picture, label), got a {type(item).__name__}")
    return item[0], item[1]


def _as_image(picture: Any) -> Image.Image:
    """A Pillow picture of what a data set gives: one of its own, a tensor [3, h, w] or [h, w], an array [h, w, 3]."""
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if not isinstance(picture, torch.Tensor | np.ndarray):
        raise TypeError(f"expected a Pillow picture, a tensor [3, h, w] or an array [h, w, 3], got {picture!r:.60}")
    array = _of_tensor(picture) if isinstance(picture, torch.Tensor) else picture
    shape, first = list(array.shape), isinstance(picture, torch.Tensor)
    if array.ndim == 3 and array.shape[0 if first else 2] in (1, 3):
        array = np.moveaxis(array, 0, 2) if first else array
    elif array.ndim == 2:
        array = array[..., None]
    else:
        raise ValueError(f"expected {'a tensor [3, h, w]' if first else 'an array [h, w, 3]'}, got {shape}")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"floats must be from 0 to 1, got {array.min():.3g} to {array.max():.3g}; leave out Normalize: the lab "
                "normalises by itself"
            )
        array = np.rint(255 * array).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"expected uint8 from 0 to 255 or floats from 0 to 1, got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3))))
