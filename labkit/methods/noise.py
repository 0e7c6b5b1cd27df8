"""Random numbers that depend on where they are used and on nothing else: on the seed, the episode, the layer, the cell.

A generator hands out the next numbers of a stream, so that a layer's draw depends on all that was drawn before it: on
the other episodes of the batch, on the process an episode landed on, on the device. Here a number is a hash of its
place instead (counter-based, as Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"): four processes
with an episode each drop the cells that one process with four episodes drops, on a CPU and on a GPU alike.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from labkit.common.devices import put


def _mixed(z: Tensor) -> Tensor:
    """A bijection of int32 in which every bit of the input reaches every bit of the output (xor, shift, multiply)."""
    # torch shifts int32 arithmetically; the masks make the shifts logical. Multiplication wraps around.
    z = z ^ ((z >> 16) & 0xFFFF)
    z = z * 0x7FEB352D
    z = z ^ ((z >> 15) & 0x1FFFF)
    z = z * -0x7B935975  # 0x846CA68B
    return z ^ ((z >> 16) & 0xFFFF)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1), multiples of 2^-24: [E, count], row e a function of ``keys[e]`` alone.

    Args:
        keys: int32 [E].
        count: numbers for each key.
    """
    cells = _mixed(torch.arange(count, dtype=torch.int32, device=keys.device))
    return ((_mixed(cells ^ keys[:, None]) >> 8) & 0xFFFFFF) * 2.0**-24


class Noise(nn.Module):
    """A layer that draws in training: by `keys`, one for each episode of the batch, once `set_keys` has given some.

    Without keys it draws from torch's own generator, as any layer does. Batches hold whole episodes, one after
    another, each with the same number of images.
    """

    keys: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.keys = None  # no buffer: every process has its own episodes, and buffers are made equal among processes

    @property
    def episodes(self) -> int:
        """Episodes in a batch; 1 if `set_keys` was not called: the whole batch is one."""
        return 1 if self.keys is None else len(self.keys)

    def draw(self, like: Tensor, *shape: int) -> Tensor:
        """Uniform numbers [B, *shape] for a batch `like` [B, ...]."""
        size = (len(like), *shape)
        if self.keys is None:
            return torch.rand(size, device=like.device)
        return uniform(self.keys, math.prod(size) // len(self.keys)).view(size)

    def draw_normal(self, like: Tensor, *shape: int) -> Tensor:
        """Standard normal numbers [B, *shape] for a batch `like` [B, ...] (Box and Muller, 1958)."""
        radius, angle = self.draw(like, 2, *shape).unbind(1)
        return (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()  # 1 - radius is never 0


def set_keys(model: nn.Module, seeds: Sequence[tuple[int, ...]]) -> None:
    """Tell every `Noise` layer of `model` which episodes come next: episode e of the batch draws by ``seeds[e]``."""
    layers = [m for m in model.modules() if isinstance(m, Noise)]
    states = [np.random.SeedSequence(seed).generate_state(len(layers)) for seed in seeds]
    device = next((t.device for t in model.parameters()), torch.device("cpu"))
    for layer, column in zip(layers, np.stack(states, axis=1).view(np.int32), strict=True):
        own = put(column, device)
        if layer.keys is None or layer.keys.shape != own.shape:
            layer.keys = own
        else:  # in place: a captured or compiled graph reads the same memory
            layer.keys.copy_(own, non_blocking=True)
