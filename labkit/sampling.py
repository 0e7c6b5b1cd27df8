"""Where a filter looks and how it is applied: the tensor operations under section 4.2, without parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TAPS = 9  # psi is a 3 x 3 convolution: nine sampled points for every query position


def regular_grid(height: int, width: int, like: Tensor) -> Tensor:
    """The 3 x 3 neighbourhood B_3 of every position, (y, x) in feature cells: [9, 2, h, w], taps in row order."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device),
        torch.arange(width, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    taps = [torch.stack([y + dy, x + dx]) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return torch.stack(taps)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples with zeros outside the map, summed over the nine taps (Eq. 5).

    Args:
        maps: [B, 9, d, h, w], a map for every tap.
        points: [B, Q, 9, 2, h, w], (y, x) in feature cells.

    Returns:
        [B, Q, d, h, w].
    """
    b, _, d, h, w = maps.shape
    queries = points.shape[1]
    # grid_sample wants (x, y) with -1 .. 1 at the outer pixel edges: cell i is centred at (2 i + 1) / size - 1.
    cells = points.flip(3) * 2 + 1
    grid = torch.stack([cells[:, :, :, 0] / w - 1, cells[:, :, :, 1] / h - 1], dim=-1)
    total = maps.new_zeros(b, d, queries * h, w)
    for tap in range(TAPS):
        where = grid[:, :, tap].reshape(b, queries * h, w, 2)
        total = total + F.grid_sample(maps[:, tap], where, padding_mode="zeros", align_corners=False)
    return total.view(b, d, queries, h, w).transpose(1, 2)


def dynamic_convolution(x: Tensor, filters: Tensor) -> Tensor:
    """F(X, f_d) = f_d *_g B_k(X), Eq. 3 with groups: each position is filtered by its own g filters of k x k.

    Args:
        x: [..., c, h, w].
        filters: [..., g, k^2, h, w].

    Returns:
        [..., c, h, w].
    """
    *lead, c, h, w = x.shape
    g, taps = filters.shape[-4:-2]
    k = round(taps**0.5)
    if k == 1:
        grouped = x.view(*lead, g, c // g, h, w) * filters
        return grouped.view(x.shape)
    patches = F.unfold(x.reshape(-1, c, h, w), k, padding=k // 2)
    patches = patches.view(*lead, g, c // g, taps, h, w)
    return (patches * filters.unsqueeze(-4)).sum(-3).view(x.shape)
