"""ImageSet: what every source of images gives, and all that the rest of the lab knows about images."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labkit.common import checks
from labkit.common.shared_arrays import by_reference


@dataclass(frozen=True)
class Provenance:
    """Where images came from; recorded with every result, since copies resized elsewhere move accuracy by points.

    Attributes:
        dataset: name asked of `load_images`, for example ``"glyphs-mini"``.
        split: ``"train"``, ``"val"`` or ``"test"`` (base, validation, novel classes).
        layout: which of the known layouts lay on the disk, or ``"rendered"``.
        source_size: pixels of the images before resizing, ``"84x84"`` or a range ``"60x84 .. 500x375"``.
        resampling: filter of the one resize, ``"none"`` where the source had the asked size.
        digest: sha256 (first 16 hex digits) of the decoded pixels in order.
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
        provenance: see `Provenance`.
        packed_masks: uint8 [n, size, ceil(size / 8)] bits of the object masks, or None; read through `masks`.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    categories: tuple[str, ...] | None
    provenance: Provenance
    packed_masks: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        for name, value in (("pixels", self.pixels), ("labels", self.labels)):
            checks.kind(name, value, np.ndarray, "a NumPy array")
        n = len(self.labels)
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(f"pixels must be uint8 [n, h, w, 3], got {self.pixels.dtype} {list(self.pixels.shape)}")
        if self.pixels.shape[1] != self.pixels.shape[2]:
            raise ValueError(f"images must be square, got {list(self.pixels.shape)}: labkit.load_images resizes them")
        if self.labels.ndim != 1 or not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(f"labels must be whole numbers [n], got {self.labels.dtype} {list(self.labels.shape)}")
        if len(self.pixels) != n:
            raise ValueError(f"{len(self.pixels)} images but {n} labels")
        if n == 0:
            raise ValueError(f"the {self.provenance.split} split of {self.provenance.dataset} holds no image")
        if int(self.labels.min()) < 0:
            raise ValueError(f"labels must be from 0 to {len(self.class_names) - 1}, got {int(self.labels.min())}")
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        if len(counts) > len(self.class_names):
            raise ValueError(f"label {int(self.labels.max())} but only {len(self.class_names)} class names")
        if not counts.all():
            raise ValueError(f"class {self.class_names[int(counts.argmin())]!r} holds no image")
        if self.categories is not None and len(self.categories) != len(self.class_names):
            raise ValueError(f"{len(self.categories)} categories for {len(self.class_names)} classes")
        packed = (n, self.size, (self.size + 7) // 8)
        if self.packed_masks is not None and self.packed_masks.shape != packed:
            raise ValueError(f"packed_masks must be {list(packed)}, a bit a pixel, got {list(self.packed_masks.shape)}")

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
        """uint8 [n, size, size, 3] on `device`; on the CPU it shares the memory map and must not be written to."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")
            return torch.from_numpy(self.pixels).to(device)

    def masks(self, index: Any) -> torch.Tensor:
        """Object masks, bool [..., size, size], of the images at `index` (an int, a slice or an array of ints).

        Raises:
            ValueError: the source has no masks.
        """
        if self.packed_masks is None:
            raise ValueError(f"{self.provenance.dataset} ({self.provenance.layout}) has no object masks")
        bits = np.unpackbits(np.asarray(self.packed_masks[index]), axis=-1, count=self.size)
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
    )
