"""Where the cells of a backbone's feature maps lie in its pictures."""

import copy
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labkit.methods.base import Method
from labkit.methods.probe import SIZES

Places = TypeVar("Places", Tensor, NDArray[np.float64])
LEAST = 64  # pixels of the first pictures that are tried, or two cells
ALIKE = 1e-3  # of what another picture changes: rounding is far below it, and maps that are out of step far above

_found: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()  # what trying takes seconds for


@dataclass(frozen=True)
class Cells:
    """Cell (i, j) is centred at pixel (first + stride i, first + stride j), where pixel 0 has its centre at 0.

    Poolings of 2 x 2 put a cell amid the pixels that it is made of, ``first = (stride - 1) / 2``; convolutions with
    a stride and a padding of k // 2 put it on a pixel, ``first = 0``.

    Attributes:
        stride: pixels between the centres of two neighbouring cells.
        first: pixel on which the first cell is centred, in both directions.
    """

    stride: float
    first: float

    @classmethod
    def of(cls, model: Method) -> Self:
        """The cells of a method's backbone; see `Method.stride` and `first_of`."""
        return cls(model.stride, first_of(model.backbone, model.stride))

    def to_pixels(self, cells: Places) -> Places:
        """Places in feature cells as image pixels: at stride 8 after poolings cell 0 is at 3.5, amid pixels 0 to 7."""
        return self.stride * cells + self.first

    def at_pixels(self, size: int, side: int) -> Tensor:
        """For each pixel of a row of `size` the nearest cell, of `side`: int64 [size]."""
        out_of_step = self.first - pooled(self.stride)
        return ((torch.arange(size) - out_of_step) / self.stride).floor().long().clamp(0, side - 1)

    def enlarged(self, factor: float) -> Self:
        """The same cells in pictures that are shown in `factor` times as many pixels a side."""
        return type(self)(self.stride * factor, (self.first + 0.5) * factor - 0.5)


def pooled(stride: float) -> float:
    """Where the first cell is centred after poolings: amid its `stride` pixels."""
    return (stride - 1) / 2


def first_of(backbone: nn.Module, stride: float) -> float:
    """The pixel on which the first cell is centred: a backbone's `first_centre`, or found by trying.

    Where all kernels are their own mirror images, the map of a mirrored picture is the mirrored map if cells lie evenly
    in the picture, and only then; there ``2 first = (size - 1) - stride (cells - 1)``. So a copy of the backbone, with
    new weights and such kernels, is shown pictures of up to `stride` sizes, and their mirror images.

    Where nothing is found, the answer is `pooled`: where position counts by itself (the patches of a transformer do lie
    as if pooled), branches lie apart by parts of a cell (ResNet-D), the stride is no whole number, or the only size
    that a backbone takes is none of these. Where padding depends on the size (TensorFlow's "same"), one size speaks for
    all.
    """
    known = getattr(backbone, "first_centre", None)
    if isinstance(known, int | float) and not isinstance(known, bool):
        return known
    if backbone not in _found:
        found = _tried(backbone, round(stride)) if stride == round(stride) else None
        _found[backbone] = pooled(stride) if found is None else found
    return _found[backbone]


@torch.inference_mode(False)
@torch.no_grad()
def _tried(backbone: nn.Module, step: int) -> float | None:
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", enabled=False):
        torch.manual_seed(0)
        try:
            even = _with_even_kernels(backbone)
        except Exception:  # a stranger's module may not let itself be copied
            return None
        for size in _sizes(step):
            cells = _cells_in_step(even, size)
            if cells and _cells_in_step(even, size + step) in (cells + 1, None):  # None: it takes one size only
                return (size - 1 - step * (cells - 1)) / 2
    return None


def _sizes(step: int) -> list[int]:
    """Each remainder by the stride once, the usual ones first, and then those that a backbone of one size may take."""
    start = step * max(2, -(-LEAST // step))
    return [start, start + 1, *range(start + step - 1, start + 1, -1), *SIZES]


def _with_even_kernels(backbone: nn.Module) -> nn.Module:
    """A copy in double precision, untrained, in which every kernel [., ., k, k] is its own mirror image."""
    even = copy.deepcopy(backbone).to("cpu", torch.float64).eval()
    for module in even.modules():
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:  # trained kernels may be odd, and nothing would be left of them
            reset()
    for kernel in (*even.parameters(), *even.buffers()):
        if kernel.ndim == 4 and kernel.is_floating_point():
            kernel.copy_((kernel + kernel.flip(-1)) / 2)
    return even


def _cells_in_step(even: nn.Module, size: int) -> int | None:
    """Cells a side of the map of a picture of so many pixels, 0 where it is out of step; None for a size not taken."""
    one, another = torch.randn(2, 3, size, size, dtype=torch.float64)
    try:
        maps = even(torch.stack([one, one.flip(-1), another]))
    except Exception:  # as in `probe`
        return None
    change = (maps[0] - maps[2]).abs().max()
    return maps.shape[-1] if (maps[0] - maps[1].flip(-1)).abs().max() < ALIKE * change else 0
