"""The paper's augmentation (section 5.1, as in CAN), for a batch at once, every image by its own draw.

torchvision's transforms draw once for a batch and kornia's take their draws from the global generator, while here an
image's draw must be a function of its episode's seed alone; so the few lines are written out, on torch's grid sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from labkit.common import checks
from labkit.common.devices import put

NUMBERS = ("padding", "flip", "jitter", "erase")  # fields of `Augment` that are shares
DRAWS = 13  # uniform numbers an image uses
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: how bright they are seen (ITU-R BT.601)


@dataclass(frozen=True)
class Augment:
    """Random crop, horizontal flip, colour jitter and random erasing.

    Attributes:
        crop: ``"shift"`` pads by `padding` and crops back (miniImageNet); ``"resized"`` cuts out 8 to 100 % of the
            area at an aspect of 3/4 to 4/3 and enlarges it (tieredImageNet); ``"none"``.
        padding: of ``"shift"``, as a share of height and of width; 8 of 84 pixels in the paper's code.
        flip: probability of a mirror image.
        jitter: brightness, contrast and saturation are each multiplied by 1 - jitter .. 1 + jitter.
        erase: probability of erasing a rectangle of 2 to 40 % of the area (Zhong et al., 2020).
        fill: colour of the erased rectangle, three numbers on a scale of 0 to 1.
    """

    crop: Literal["shift", "resized", "none"] = "shift"
    padding: float = 8 / 84
    flip: float = 0.5
    jitter: float = 0.4
    erase: float = 0.5
    fill: tuple[float, float, float] = (0.485, 0.456, 0.406)

    def __post_init__(self) -> None:
        """Raises:
        ValueError: a kind of crop that there is not, or a number outside its range.
        TypeError: no number.
        """
        checks.literals(Augment, vars(self))
        checked: dict[str, Any] = {name: checks.finite(name, getattr(self, name), least=0) for name in NUMBERS}
        for name, value in checked.items():
            if value > 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value:g}")
        fill = checks.several("fill", checks.plain(self.fill), "three numbers from 0 to 1", least=3)
        if len(fill) != 3:
            raise ValueError(f"fill must be three numbers from 0 to 1, got {len(fill)}")
        checked["fill"] = tuple(checks.finite("fill", value) for value in fill)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __call__(self, unit: Tensor, seeds: Sequence[tuple[int, ...]]) -> Tensor:
        """Augment [E, B, 3, h, w] on a scale of 0 to 1, on its own device and in its own type; episode e by `seeds[e]`.

        Half precision is computed in single: it is too coarse for the places of pixels.

        Raises:
            TypeError: no tensor, or a seed that is no series of whole numbers.
            ValueError: pictures of another shape or not in floating point, or another number of seeds.
        """
        checks.kind("unit", unit, Tensor, "a tensor [E, B, 3, h, w] of pictures on a scale of 0 to 1")
        if unit.ndim != 5 or unit.shape[2] != 3 or 0 in unit.shape or not unit.is_floating_point():
            came = f"{str(unit.dtype).removeprefix('torch.')} {list(unit.shape)}"
            raise ValueError(f"unit must be pictures [E, B, 3, h, w], floating point on a scale of 0 to 1, got {came}")
        seeds = [tuple(checks.several("a seed", s, "a tuple of whole numbers")) for s in seeds]
        if len(seeds) != len(unit):
            raise ValueError(f"seeds must be one for each of the {len(unit)} episodes, got {len(seeds)}")
        exact = unit if unit.dtype in (torch.float32, torch.float64) else unit.float()
        u = put(self.draws(unit.shape[1], seeds), unit.device).to(exact.dtype)
        return self.apply(exact.flatten(0, 1), u, *self.colours(unit.device)).view(unit.shape).to(unit.dtype)

    @staticmethod
    def draws(count: int, seeds: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """Uniform numbers for `count` images of each seed: [E * count, DRAWS]."""
        each = [np.random.default_rng((*seed, 1)).random((count, DRAWS), dtype=np.float32) for seed in seeds]
        return np.concatenate(each)

    def colours(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """How bright the channels are seen, and the colour of an erased rectangle: [3, 1, 1] each, on a device."""
        luma, fill = (put(np.array(v, np.float32), device).view(3, 1, 1) for v in (LUMA, self.fill))
        return luma, fill

    def apply(self, x: Tensor, draws: Tensor, luma: Tensor, fill: Tensor) -> Tensor:
        """Augment [M, 3, h, w] by `draws` [M, DRAWS] and `colours`, all on one device; nothing makes the host wait."""
        u = draws.unbind(1)
        x = self._moved(x, u[0], u[1], u[2], u[3], u[4])
        x = self._recoloured(x, luma, u[5], u[6], u[7])
        return self._erased(x, fill, u[8], u[9], u[10], u[11], u[12])

    def _moved(self, x: Tensor, u_x: Tensor, u_y: Tensor, u_flip: Tensor, u_area: Tensor, u_aspect: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        scale_x = scale_y = torch.ones_like(u_x)
        shift_x = shift_y = torch.zeros_like(u_x)
        if self.crop == "shift":
            each = ((u, side, round(self.padding * side)) for u, side in ((u_x, width), (u_y, height)))
            shift_x, shift_y = (((2 * reach + 1) * u).floor().sub(reach) * (2 / side) for u, side, reach in each)
        elif self.crop == "resized":
            area, aspect = 0.08 + 0.92 * u_area, torch.exp((2 * u_aspect - 1) * np.log(4 / 3))
            scale_x, scale_y = (share.clamp(max=1) for share in _shares(area, aspect, height, width))
            shift_x, shift_y = (1 - scale_x) * (2 * u_x - 1), (1 - scale_y) * (2 * u_y - 1)
        mirror = torch.where(u_flip < self.flip, -torch.ones_like(u_flip), torch.ones_like(u_flip))  # in the type of x
        zero = torch.zeros_like(u_x)
        theta = torch.stack([scale_x * mirror, zero, shift_x, zero, scale_y, shift_y], dim=1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def _recoloured(self, x: Tensor, luma: Tensor, *u: Tensor) -> Tensor:
        brightness, contrast, saturation = ((1 + self.jitter * (2 * v - 1)).view(-1, 1, 1, 1) for v in u)
        x = (x * brightness).clamp(0, 1)
        mean = (x * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        x = (mean + contrast * (x - mean)).clamp(0, 1)
        grey = (x * luma).sum(1, keepdim=True)
        return (grey + saturation * (x - grey)).clamp(0, 1)

    def _erased(
        self, x: Tensor, fill: Tensor, u_use: Tensor, u_area: Tensor, u_aspect: Tensor, u_x: Tensor, u_y: Tensor
    ) -> Tensor:
        height, width = x.shape[-2:]
        area, aspect = 0.02 + 0.38 * u_area, torch.exp((2 * u_aspect - 1) * np.log(1 / 0.3))
        share_x, share_y = _shares(area, aspect, height, width)
        inside = []
        for share, side, u in ((share_x, width, u_x), (share_y, height, u_y)):
            length = (share.clamp(max=1) * side).round()
            start = (u * (side - length + 1)).floor()
            cell = torch.arange(side, device=x.device)
            inside.append((cell >= start[:, None]) & (cell < (start + length)[:, None]))
        erased = inside[0][:, None, None, :] & inside[1][:, None, :, None] & (u_use < self.erase).view(-1, 1, 1, 1)
        return torch.where(erased, fill, x)


def as_augment(given: Augment | dict[str, Any], start: Augment | None = None) -> Augment:
    """An augmentation, or what JSON makes of one: a dict of fields that differ from `start`, or from `Augment()`.

    Raises:
        ValueError: a value that cannot be.
        TypeError: it is neither, or has a field that an augmentation has not.
    """
    if isinstance(given, Augment):
        return given
    checks.kind("augment", given, dict, "a labkit.episodes.augment.Augment or a dict of its fields")
    checks.options("augment", Augment, given)
    return replace(start or Augment(), **given)


def _shares(area: Tensor, aspect: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Width and height of rectangles, as shares of a picture's: `area` is a share too, `aspect` is pixels by pixels."""
    return (area * aspect * (height / width)).sqrt(), (area / aspect * (width / height)).sqrt()
