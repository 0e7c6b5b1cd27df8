"""Everything a forward pass of DMF made, by name."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """Every intermediate of one forward pass, leading [E, Q, N]: query q against class n.

    Attributes:
        support: X_supp, mean over shots, [E, N, c, h, w].
        query: X_q, [E, Q, c, h, w].
        offsets: M of Eq. 4, (dy, dx) in feature cells, [E, Q, N, 9, 2, h, w].
        points: where X_supp is sampled, (y, x) in feature cells, same shape; cells outside 0 .. h-1 read zeros.
        points_px: the same in image pixels, by where the backbone's cells lie (`labkit.methods.cells`).
        filters: f_d of Eq. 6, [E, Q, N, g, k^2, h, w].
        aligned: X_q after alignment, [E, Q, N, c, h, w].
        score_maps: X tilde of section 4.3, [E, Q, N, h, w] (two cells more where the border is on).
        score_maps_before: the same without alignment.
        scores: means of score_maps, [E, Q, N].
        nfe: evaluations of F for each episode, E integers.
    """

    support: Tensor
    query: Tensor
    offsets: Tensor
    points: Tensor
    points_px: Tensor
    filters: Tensor
    aligned: Tensor
    score_maps: Tensor
    score_maps_before: Tensor
    scores: Tensor
    nfe: list[int]
