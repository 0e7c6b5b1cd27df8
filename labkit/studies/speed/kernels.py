"""Other ways to sample, with the numbers of `labkit.dmf.sampling.sample`; compared with it in notebook 10.

Each takes maps [B, 9, d, h, w], one a tap, and points [B, Q, 9, 2, h, w], and gives [B, Q, d, h, w].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labkit.dmf.sampling import TAPS, corners


def sample_by_gather(maps: Tensor, points: Tensor) -> Tensor:
    """The four corners of every tap gathered by index, weighted, and summed: sampling as one would write it first."""
    b, _, d, h, w = maps.shape
    cells, weights = corners(points, h, w)
    total = maps.new_zeros(b, points.shape[1], d, h, w)
    for tap in range(TAPS):
        flat = maps[:, tap].flatten(2)
        for corner in range(4):
            index = cells[:, :, tap, :, :, corner].flatten(1)[:, None].expand(-1, d, -1)
            values = flat.gather(2, index).view(b, d, -1, h, w).transpose(1, 2)
            total = total + values * weights[:, :, tap, None, :, :, corner]
    return total


def sample_by_matrix(maps: Tensor, points: Tensor) -> Tensor:
    """A dense interpolation matrix [h w, 9 h w] for every query, times the stacked maps: arithmetic, no indexing."""
    b, taps, d, h, w = maps.shape
    y, x = points.unbind(3)
    tents = [
        (1 - (where[..., None] - torch.arange(side, dtype=maps.dtype, device=maps.device)).abs()).clamp(min=0)
        for where, side in ((y, h), (x, w))
    ]
    matrix = (tents[0][..., :, None] * tents[1][..., None, :]).flatten(-2)  # [B, Q, 9, h, w, h w]
    matrix = matrix.permute(0, 1, 3, 4, 2, 5).reshape(b, -1, taps * h * w)
    table = maps.permute(0, 1, 3, 4, 2).reshape(b, taps * h * w, d)
    return torch.bmm(matrix, table).view(b, -1, h, w, d).movedim(-1, 2)


def sample_by_triton(maps: Tensor, points: Tensor) -> Tensor:
    """One Triton program for every output position and query: its 36 rows are read and added in registers.

    Forward only, on a GPU (or with TRITON_INTERPRET=1 on a CPU, for tests).

    Raises:
        ImportError: no Triton here.
    """
    import triton

    b, taps, d, h, w = maps.shape
    queries = points.shape[1]
    table = maps.permute(0, 1, 3, 4, 2).contiguous()  # [B, 9, h, w, d]
    where = points.permute(0, 1, 4, 5, 2, 3).contiguous()  # [B, Q, h, w, 9, 2]
    out = maps.new_empty(b, queries, h, w, d)
    block = triton.next_power_of_2(d)
    _triton_kernel()[(b * queries * h * w,)](table, where, out, queries * h * w, h, w, d, taps, block)
    return out.movedim(-1, 2)


def _triton_kernel() -> Any:
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def kernel(table, where, out, positions, h, w, d, TAPS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        place = tl.program_id(0)
        channel = tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for tap in range(TAPS):
            y = tl.load(where + (place * TAPS + tap) * 2)
            x = tl.load(where + (place * TAPS + tap) * 2 + 1)
            low_y, low_x = tl.floor(y), tl.floor(x)
            for corner in range(4):
                dy, dx = corner // 2, corner % 2
                weight = (1 - tl.abs(y - low_y - dy)) * (1 - tl.abs(x - low_x - dx))
                cell_y, cell_x = (low_y + dy).to(tl.int32), (low_x + dx).to(tl.int32)
                inside = (cell_y >= 0) & (cell_y < h) & (cell_x >= 0) & (cell_x < w)
                row = ((place // positions) * TAPS + tap) * h * w + cell_y * w + cell_x
                own = tl.where(inside, channel, d) < d  # no channel of a cell outside the map
                total += weight * tl.load(table + row * d + channel, mask=own, other=0.0)
        tl.store(out + place * d + channel, total, mask=channel < d)

    return kernel
