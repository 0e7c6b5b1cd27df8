"""Deep Subspace Networks (Simon et al., "Adaptive Subspaces for Few-Shot Learning", CVPR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.base import Losses, Method


class DSN(Method):
    """A class is the affine subspace that its support spans around its mean; a score, the distance from it (Eq. 3-4).

    Args:
        backbone, classes, backbone_options: see `Method`; it has no global classifier, so `classes` is ignored.
        dimensions: of a subspace; at most one less than there are shots. With one shot nothing is left to span, and,
            as in the authors' code, the subspace is the line through the origin and the one feature.
        scale: multiplies the squared distance.
        discriminative: weight of the term that keeps subspaces apart (Eq. 5-6).
    """

    auxiliary_name = "overlap of subspaces"
    dimensions: int = 4
    scale: float = 1.0
    discriminative: float = 0.03

    def subspaces(self, support: Tensor, support_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean [E, N, c] and orthonormal basis [E, N, c, d] of every class's pooled support [E, N, K, c].

        Missing shots stand at the mean, so they span nothing; the directions left over are zeros.
        """
        k = support.shape[2]
        if k == 1:
            return torch.zeros_like(support[:, :, 0]), F.normalize(support[:, :, 0], dim=-1).unsqueeze(-1)
        present = torch.ones_like(support[..., :1]) if support_mask is None else support_mask.unsqueeze(-1).to(support)
        mean = (support * present).sum(2) / present.sum(2)
        spread = ((support - mean.unsqueeze(2)) * present).transpose(-1, -2)  # [E, N, c, K]
        directions, lengths, _ = torch.linalg.svd(spread, full_matrices=False)
        d = min(self.dimensions, k - 1)
        spanned = lengths[..., :d] > 1e-5 * lengths[..., :1].clamp(min=1e-12)
        return mean, directions[..., :d] * spanned.unsqueeze(-2)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            return self._score(*self.subspaces(support.mean((-2, -1)), support_mask), query.mean((-2, -1)))

    def _score(self, mean: Tensor, basis: Tensor, query: Tensor) -> Tensor:
        apart = query.unsqueeze(2) - mean.unsqueeze(1)  # [E, Q, N, c]
        inside = torch.einsum("eqnc,encd->eqnd", apart, basis)
        return -self.scale * (apart.square().sum(-1) - inside.square().sum(-1))

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of the distances (Eq. 4) and the overlap of every two subspaces (Eq. 5-6)."""
        of_support, of_query = (x.mean((-2, -1)) for x in self.embed_together(support, query))
        with torch.autocast(query.device.type, enabled=False):
            mean, basis = self.subspaces(of_support)
            scores = self._score(mean, basis, of_query)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            overlap = torch.einsum("encd,emcf->enmdf", basis, basis).square().sum((-2, -1))
            others = ~torch.eye(overlap.shape[-1], dtype=torch.bool, device=overlap.device)
            apart = overlap[:, others].mean()
            return Losses(few_shot + self.discriminative * apart, few_shot, apart, scores)
