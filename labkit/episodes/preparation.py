"""From kept pixels to what a network reads: gathered, augmented and normalised where they are kept."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from labkit.common.devices import available, put
from labkit.data.imageset import ImageSet
from labkit.episodes.augment import Augment
from labkit.episodes.preprocessing import Preprocessing


class Preparation:
    """Pictures of an `ImageSet` by their places, ready for a network.

    Args:
        images: whose pixels are kept on `device`.
        device: where.
        preprocessing: constants of the normalisation.
        augment: applied before normalisation, or None.

    Attributes:
        pixels: of all pictures, uint8 [n, h, w, 3]; of feature maps float [n, h, w, c].

    Raises:
        ValueError: no such device; feature maps with a preprocessing of pictures, or the other way round, or with an
            `augment`.
    """

    def __init__(
        self, images: ImageSet, device: torch.device | str, preprocessing: Preprocessing, augment: Augment | None
    ) -> None:
        preprocessing.check_kind(images)
        if augment is not None and images.pixels.dtype != np.uint8:
            raise ValueError(f"augment changes pictures, and {images!r} holds feature maps: leave it out")
        self.pixels = images.tensor(available(device))
        self.preprocessing, self.augment = preprocessing, augment
        self._constants = preprocessing.constants(self.pixels.device)
        self._colours = () if augment is None else augment.colours(self.pixels.device)
        self._steps: Any = Preparation._prepared  # no bound method, which would keep the pictures alive

    def compile(self, backend: str | Callable[..., Any]) -> None:
        """Let torch.compile make one graph of all after the gathering, and few kernels of its 89 operations."""
        self._steps = torch.compile(Preparation._prepared, backend=backend, dynamic=False)

    def __call__(self, index: Tensor, seeds: Sequence[tuple[int, ...]]) -> Tensor:
        """Pictures [E, B, 3, h, w] at `index` [E, B]; if there is an `augment`, those of row e by ``seeds[e]``."""
        draws = self.augment and put(self.augment.draws(index.shape[1], seeds), index.device)
        return cast(Tensor, self._steps(self, self.pixels[index], draws))

    def _prepared(self, pixels: Tensor, draws: Tensor | None) -> Tensor:
        unit = self.preprocessing.to_unit(pixels)
        if self.augment is not None and draws is not None:
            unit = self.augment.apply(unit.flatten(0, 1), draws, *self._colours).view(unit.shape)
        return self.preprocessing.normalise(unit, self._constants)
