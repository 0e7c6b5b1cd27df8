"""From decoded pixels to what a network reads; the constants travel with the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.common import checks
from labkit.common.devices import put
from labkit.data.imageset import ImageSet
from labkit.data.source import MAX_SIZE

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How images must be prepared for a model: size and resampling of the files, mean and deviation of the channels.

    Attributes:
        size: side of the images in pixels.
        resampling: filter they were resized with, as `labkit.data.imageset.Provenance` records it; None where nobody
            knows, as for the authors' checkpoints.
        mean, std: of each channel, on a scale of 0 to 1; ImageNet's by default, for every dataset. Both are empty where
            feature maps are read instead of pictures: they are taken as they are.
    """

    size: int
    resampling: str | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Raises:
        ValueError: values that no image can be prepared by; they may come from a file.
        """
        for name, value in vars(self).items():
            object.__setattr__(self, name, checks.plain(value))
        for name in ("mean", "std"):
            given = checks.several(name, getattr(self, name), "three finite numbers", least=0)
            object.__setattr__(self, name, tuple(given))
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"size must be a whole number from 1 to {MAX_SIZE} pixels, got {self.size!r}")
        if not isinstance(self.resampling, str | None):
            raise ValueError(f"resampling must be the name of a filter or None, got {self.resampling!r}")
        if self.mean == self.std == ():
            return
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
                raise ValueError(f"{name} must be three finite numbers, got {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std!r}")

    @classmethod
    def of(cls, images: ImageSet) -> Preprocessing:
        """The preprocessing of a model trained on `images`."""
        of_maps: Any = {} if images.pixels.dtype == np.uint8 else {"mean": (), "std": ()}
        return cls(images.size, images.provenance.resampling, **of_maps)

    def to_unit(self, pixels: Tensor) -> Tensor:
        """uint8 [..., h, w, 3] to float [..., 3, h, w] on a scale of 0 to 1, channels last in memory; maps as is."""
        unit = pixels.movedim(-1, -3)
        # In place only what is a copy: floats would be the caller's own.
        return unit.to(torch.float32, copy=True).div_(255) if self.mean else unit.to(torch.float32)

    def constants(self, device: torch.device) -> tuple[Tensor, ...]:
        """Mean and deviation, [3, 1, 1] each, on a device; none of maps."""
        # By `put`, since torch.tensor(..., device="cuda") makes the host wait.
        return tuple(put(np.array(v, np.float32), device).view(3, 1, 1) for v in (self.mean, self.std) if v)

    def normalise(self, unit: Tensor, constants: tuple[Tensor, ...] | None = None) -> Tensor:
        """Float [..., 3, h, w] on a scale of 0 to 1 to zero mean and unit deviation by channel; maps as they are.

        `constants` are those of the device, for whoever asks more than once.
        """
        if not self.mean:
            return unit
        mean, std = (c.to(unit.dtype) for c in constants or self.constants(unit.device))
        return (unit - mean) / std

    def check_kind(self, images: ImageSet) -> None:
        """Raises:
        ValueError: pictures instead of feature maps, or the other way round.
        """
        if bool(self.mean) != (images.pixels.dtype == np.uint8):
            ours, theirs = ("pictures", "feature maps") if self.mean else ("feature maps", "pictures")
            raise ValueError(f"the model reads {ours}, and {images!r} holds {theirs}")

    def check(self, images: ImageSet) -> None:
        """Refuse images that were prepared otherwise.

        Raises:
            ValueError: another size or another resampling filter, which moves accuracy by points; pictures instead of
                feature maps, or the other way round.
        """
        self.check_kind(images)
        found = (images.size, images.provenance.resampling)
        if self.size != found[0] or self.resampling not in (None, found[1]):
            ours = "unknown" if self.resampling is None else repr(self.resampling)
            raise ValueError(
                f"the model was trained on {self.size} px images (resampling {ours}); {images!r} has "
                f"{found[0]} px (resampling {found[1]!r}): load it with size={self.size}, or pass strict=False to "
                "compare all the same"
            )
