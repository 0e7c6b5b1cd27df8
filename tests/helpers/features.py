"""Feature maps in place of images."""

import torch
from torch import Tensor, nn


class Features(nn.Module):
    """A backbone whose images are feature maps already."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        return images


def random_maps(
    episodes: int, ways: int, shots: int, queries: int, channels: int, height: int = 2, width: int = 2
) -> tuple[Tensor, Tensor]:
    """The same normal numbers at every call, as doubles: support [E, N, K, C, h, w] and query [E, Q, C, h, w]."""
    torch.manual_seed(1)
    one = (channels, height, width)
    return torch.randn(episodes, ways, shots, *one).double(), torch.randn(episodes, queries, *one).double()
