"""Where a filter looks and how it is applied: the tensor operations under section 4.2, without parameters."""

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
    needs_gradient = torch.is_grad_enabled() and (maps.requires_grad or points.requires_grad)
    if needs_gradient or maps.is_cuda:
        return sample_by_grid(maps, points)
    return sample_by_bag(maps, points)


def sample_by_grid(maps: Tensor, points: Tensor) -> Tensor:
    """`sample` with torch's `grid_sample`, a tap at a time; its gradient is the fastest to be had."""
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


def sample_by_bag(maps: Tensor, points: Tensor) -> Tensor:
    """`sample` as one weighted sum of 36 rows of d channels: nine taps of four corners each, no tap by itself.

    On a CPU the faster one without a gradient, since a row lies together in memory (`results/speed_cpu.json`).
    """
    b, taps, d, h, w = maps.shape
    rows, weights = corners(points, h, w)
    first = torch.arange(b * taps, device=maps.device).view(b, 1, taps, 1, 1, 1) * (h * w)
    bags = [t.permute(0, 1, 3, 4, 2, 5).reshape(-1, taps * 4) for t in (rows + first, weights)]
    table = maps.permute(0, 1, 3, 4, 2).reshape(-1, d)
    total = F.embedding_bag(bags[0], table, per_sample_weights=bags[1], mode="sum")
    return total.view(b, -1, h, w, d).movedim(-1, 2)


def corners(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four cells around every point and their bilinear weights, 0 for a cell outside the map.

    Args:
        points: [B, Q, 9, 2, h, w], (y, x) in feature cells.

    Returns:
        cells as y x width + x, int64, and weights, both [B, Q, 9, h, w, 4].
    """
    low = points.floor()
    above = points - low
    cells, weights = [], []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = low[:, :, :, 0] + dy, low[:, :, :, 1] + dx
        share = [above[:, :, :, i] if d else 1 - above[:, :, :, i] for i, d in enumerate((dy, dx))]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        cells.append(torch.where(inside, y * width + x, 0))  # also where a point is not a number: its weight is none
        weights.append(share[0] * share[1] * inside)
    return torch.stack(cells, -1).long(), torch.stack(weights, -1)


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


def of_pairs(x_supp: Tensor, x_q: Tensor, of_supp: Tensor, of_q: Tensor) -> Tensor:
    """A convolution of X_supp || X_q by the two halves of its weights, without making the pairs, since it is linear.

    Args:
        x_supp, x_q: [E, N, c, h, w], [E, Q, c, h, w].
        of_supp, of_q: [d, c, k, k].

    Returns:
        [E, Q, N, d, h, w].
    """
    side = of_q.shape[-1] // 2
    from_supp = F.conv2d(x_supp.flatten(0, 1), of_supp, padding=side).unflatten(0, x_supp.shape[:2])
    from_q = F.conv2d(x_q.flatten(0, 1), of_q, padding=side).unflatten(0, x_q.shape[:2])
    both: Tensor = from_supp.unsqueeze(1) + from_q.unsqueeze(2)
    return both


def likeness(x_supp: Tensor, x_q: Tensor) -> Tensor:
    """Cosines of every cell r of a query with every cell p of a class: [E, Q, N, r, p]."""
    p, q = (F.normalize(x, dim=2).flatten(-2) for x in (x_supp, x_q))
    return torch.einsum("encp,eqcr->eqnrp", p, q)


def best_match(x_supp: Tensor, x_q: Tensor) -> Tensor:
    """The support cell, y w + x, of largest cosine with every query cell: [E, Q, N, h, w], int64."""
    alike = likeness(x_supp, x_q)
    return alike.argmax(-1).view(*alike.shape[:-2], *x_q.shape[-2:])
