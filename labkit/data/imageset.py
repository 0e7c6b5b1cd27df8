"""ImageSet: what every source of images gives, and all that the rest of the lab knows about images."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from labkit.common import checks
from labkit.common.devices import available
from labkit.common.shared_arrays import by_reference
from labkit.data.classes import check_classes


@dataclass(frozen=True)
class Provenance:
    """Where images came from; recorded with every result, since copies resized elsewhere move accuracy by points.

    Attributes:
        dataset: name asked of `load_images`, for example ``"glyphs-mini"``.
        split: ``"train"``, ``"val"`` or ``"test"`` (base, validation, novel classes).
        layout: which of the known layouts lay on the disk, or ``"rendered"``.
        source_size: pixels of the images before resizing, ``"84x84"`` or a range ``"60x84 .. 500x375"``.
        resampling: filter of the one resize, ``"none"`` where the source had the asked size.
        digest: sha256 (first 16 hex digits) of the decoded pixels in order: of the array, or of the file in the cache
            that holds it. Labels are told by `ImageSet.labels_digest`, pixels put in their place since by
            `ImageSet.digest`.
        details: everything else that shaped the pixels, such as seed, difficulty and library versions.
    """

    dataset: str
    split: str
    layout: str
    source_size: str
    resampling: str
    digest: str
    details: dict[str, Any]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one split, decoded, of one size, memory-mapped.

    Attributes:
        pixels: uint8 [n, size, size, 3], RGB.
        labels: int64 [n], values 0 .. classes - 1.
        class_names: one name a class, in the order of the labels.
        categories: the superclass of each class, or None where the dataset has none.
        packed_masks: uint8 [n, size, ceil(size / 8)] bits of the object masks, or None; read through `masks`.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    categories: tuple[str, ...] | None
    provenance: Provenance
    packed_masks: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        checks.kind("pixels", self.pixels, np.ndarray, "a NumPy array")
        n = len(self.pixels)
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(f"pixels must be uint8 [n, h, w, 3], got {self.pixels.dtype} {list(self.pixels.shape)}")
        if self.pixels.shape[1] != self.pixels.shape[2]:
            raise ValueError(f"images must be square, got {list(self.pixels.shape)}: labkit.load_images resizes them")
        where = f"the {self.provenance.split} split of {self.provenance.dataset}"
        check_classes(self.labels, n, self.class_names, self.categories, where)
        packed = (n, self.size, (self.size + 7) // 8)
        if self.packed_masks is not None and self.packed_masks.shape != packed:
            raise ValueError(f"packed_masks must be {list(packed)}, a bit a pixel, got {list(self.packed_masks.shape)}")

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with the pixels: the provenance's, if it is theirs.

        `dataclasses.replace` gives a set other pixels and leaves its provenance as it was. So the pixels are hashed
        when this is first asked for (two seconds a gigabyte), but for sets straight from a source, which did so.
        """
        from labkit.data import arrays

        known = self.provenance.digest
        return known if known == arrays.digest_of_pixels(self.pixels, True) else arrays.digest_of_pixels(self.pixels)

    def with_known_digest(self) -> Self:
        """This set, whose provenance has just been given the digest of its pixels: they are not hashed again."""
        vars(self)["digest"] = self.provenance.digest
        return self

    @property
    def labels_digest(self) -> str:
        """16 hex digits that change with the labels or the names of the classes."""
        found = hashlib.sha256(self.labels.astype("<i8").tobytes())
        found.update("\0".join(self.class_names).encode())
        return found.hexdigest()[:16]

    @classmethod
    def from_arrays(
        cls,
        pixels: Any,
        labels: Any,
        names: Sequence[str] | Mapping[int, str] | None = None,
        *,
        size: int | None = None,
        resampling: str = "bilinear",
        split: str = "test",
        dataset: str = "arrays",
        categories: Sequence[str] | None = None,
    ) -> ImageSet:
        """Images that are arrays already::

            images = ImageSet.from_arrays(pixels, labels, ["cat", "dog"])

        Args:
            pixels: uint8 [n, h, w, 3] RGB, or grey [n, h, w]; an array or a tensor, which may be shared with the set
                and must not be changed afterwards.
            labels: n whole numbers, or n names of classes.
            names: of the numbers, as a list or by number; None calls the classes by their numbers. Classes without an
                image are left out.
            size: side in pixels to which all are resized; None keeps them as they are, and they must be square.
            resampling: filter of that resize, a name of `PIL.Image.Resampling`.
            split: ``"train"``, ``"val"`` or ``"test"``, for the record.
            dataset: what to call it, for the record.
            categories: the superclass of each class that has images, in the order of their numbers or names.

        Raises:
            TypeError: an argument of another kind.
            ValueError: shapes, numbers or names that do not fit, with what to do.
        """
        from labkit.data import arrays, source  # they know how to decode, and make image sets too

        source.check_choice("split", split, source.SPLITS)
        dataset = checks.text("dataset", dataset, "a name")
        named = None if categories is None else tuple(arrays.check_names("categories", categories))
        taken = arrays.check_pixels(pixels)
        numbers, class_names = arrays.check_labels(labels, names, len(taken))
        height, width = taken.shape[1:3]
        squares = arrays.resized(taken, size, resampling)
        filter_used = "none" if squares.shape == taken.shape else resampling
        digest = arrays.digest_of_pixels(squares)
        about = Provenance(dataset, split, "arrays", f"{width}x{height}", filter_used, digest, {})
        return cls(squares, numbers, class_names, named, about).with_known_digest()

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        size: int | None = None,
        resampling: str = "bilinear",
        names: Sequence[str] | Mapping[int, str] | None = None,
        image_key: str = "image",
        label_key: str = "label",
        split: str = "test",
        progress: bool = True,
    ) -> ImageSet:
        """Images of any data set with a length and items ``dataset[i] -> (picture, label)``, read once, in order::

            omniglot = torchvision.datasets.Omniglot("data", background=False, download=True)
            images = ImageSet.from_dataset(omniglot, size=28)

            birds = datasets.load_dataset("someone/CUB_200_2011", split="test")      # of Hugging Face
            images = ImageSet.from_dataset(birds, size=84)

        All pixels are kept in memory: 3 * size * size bytes an image.

        Args:
            dataset: of torchvision, of Hugging Face or your own. A picture is a Pillow image, a tensor [3, h, w] or
                [h, w], or an array [h, w, 3] or [h, w]; uint8, or floats from 0 to 1, not normalised. A label is a
                whole number or the name of a class.
            size: side in pixels to which all are resized; None where they are square and of one size already.
            resampling: filter of that resize, a name of `PIL.Image.Resampling`.
            names: of the numbers, as a list or by number; by default what the data set calls its `classes`.
            image_key: where items are dictionaries, the key of the picture.
            label_key: and that of the label.
            split: ``"train"``, ``"val"`` or ``"test"``, for the record.

        Raises:
            TypeError: no such data set, or items of another kind; says which.
            ValueError: pictures of several sizes and no `size`, or numbers that cannot be.
            DataError: an item cannot be read; says which.
        """
        from labkit.data import arrays, source

        source.check_choice("split", split, source.SPLITS)
        pixels, labels, sizes = arrays.read_dataset(dataset, size, resampling, (image_key, label_key), progress)
        known = arrays.names_of(dataset, label_key) if names is None else names
        numbers, class_names = arrays.check_labels(labels, known, len(pixels))
        smallest, largest = (f"{w}x{h}" for w, h in (f(sizes, key=lambda wh: (wh[0] * wh[1], wh)) for f in (min, max)))
        filter_used = "none" if sizes == {pixels.shape[1:3]} else resampling
        about = Provenance(
            dataset=type(dataset).__name__,
            split=split,
            layout="dataset",
            source_size=smallest if len(sizes) == 1 else f"{smallest} .. {largest}",
            resampling=filter_used,
            digest=arrays.digest_of_pixels(pixels),
            details={},
        )
        return cls(pixels, numbers, class_names, None, about).with_known_digest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        """Other processes map the same files instead of receiving their content."""
        return {k: by_reference(v) if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}

    def __repr__(self) -> str:
        p = self.provenance
        return (
            f"ImageSet({p.dataset!r}, {p.split!r}, {len(self)} images of {len(self.class_names)} classes, "
            f"{self.size} px, {p.layout})"
        )

    @property
    def size(self) -> int:
        """Height and width of every image, in pixels."""
        return int(self.pixels.shape[1])

    @cached_property
    def class_indices(self) -> tuple[NDArray[np.int64], ...]:
        """For each class the ascending indices of its images."""
        order = np.argsort(self.labels, kind="stable")
        return tuple(np.split(order, np.cumsum(np.bincount(self.labels))[:-1]))

    def tensor(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """uint8 [n, size, size, 3] on `device`; on the CPU it shares the memory map and must not be written to.

        Raises:
            ValueError: there is no such device.
        """
        device = available(device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")
            return torch.from_numpy(self.pixels).to(device)

    def masks(self, index: Any) -> torch.Tensor:
        """Object masks, bool [..., size, size], of the images at `index` (an int, a slice or an array of ints).

        Raises:
            ValueError: the source has no masks.
            IndexError: no such images.
        """
        if self.packed_masks is None:
            raise ValueError(f"{self.provenance.dataset} ({self.provenance.layout}) has no object masks")
        try:
            packed = np.asarray(self.packed_masks[index])
        except (IndexError, TypeError, ValueError):  # NumPy's own speak of newaxis and axes
            there = f"from 0 to {len(self) - 1}"
            raise IndexError(
                f"index must be images {there}: a number, a slice or an array, got {index!r:.60}"
            ) from None
        bits = np.unpackbits(packed, axis=-1, count=self.size)
        return torch.from_numpy(bits.astype(bool))


def write_arrays(
    folder: Path,
    labels: Sequence[int] | NDArray[np.int64],
    class_names: Sequence[str],
    categories: Sequence[str] | None,
    provenance: Provenance,
) -> None:
    """Write into a cache folder all of an `ImageSet` but ``pixels.npy`` and ``masks.npy``, which are streamed there."""
    np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))
    about = {"class_names": list(class_names), "categories": categories and list(categories)}
    text = json.dumps(about | {"provenance": asdict(provenance)}, indent=1, ensure_ascii=False)
    (folder / "about.json").write_text(text, encoding="utf-8")


def read_arrays(folder: Path) -> ImageSet:
    """The `ImageSet` of a cache folder, its pixels and masks memory-mapped."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    masks = folder / "masks.npy"
    return ImageSet(
        pixels=np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False),
        labels=np.load(folder / "labels.npy", allow_pickle=False),
        class_names=tuple(about["class_names"]),
        categories=about["categories"] and tuple(about["categories"]),
        provenance=Provenance(**about["provenance"]),
        packed_masks=np.load(masks, mmap_mode="r", allow_pickle=False) if masks.exists() else None,
    ).with_known_digest()
