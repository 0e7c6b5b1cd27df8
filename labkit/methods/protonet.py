"""Prototypical Networks (Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.base import Losses, Method, mean_of_shots


class ProtoNet(Method):
    """A class is the mean of its pooled support features (Eq. 1), a score the negative squared distance (Eq. 2).

    Args:
        backbone, classes, backbone_options: see `Method`; it has no global classifier, so `classes` is ignored.
        scale: multiplies the squared distance; the paper's 1 suits its short features.
    """

    scale: float = 1.0

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            prototypes = mean_of_shots(support, support_mask).mean((-2, -1))
            distance = (query.mean((-2, -1)).unsqueeze(2) - prototypes.unsqueeze(1)).square().sum(-1)
            return -self.scale * distance

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of an episode's queries (Eq. 2); there is no global loss."""
        scores = self.score(*self.embed_together(support, query))
        few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
        return Losses(few_shot, few_shot, torch.zeros_like(few_shot), scores)
