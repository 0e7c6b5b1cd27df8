"""Negative margin (Liu et al., "Negative Margin Matters", ECCV 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.base import Losses, Method, mean_of_shots


class NegativeMargin(Method):
    """A cosine classifier of all base classes whose margin is below zero, so that features do not cling to them.

    Episodes play no part in its training, which takes support and queries alike. A novel class is the mean of its
    normalised support features, and a score the cosine with it: the authors train a cosine classifier on the support.

    Args:
        backbone, classes, backbone_options: see `Method`.
        margin: m of Eq. 2; the authors' for cosines and a ResNet-12 on miniImageNet.
        scale: beta of Eq. 2.
    """

    auxiliary_name = "classification with a negative margin"
    margin: float = -0.02
    scale: float = 30.0

    def build(self) -> None:
        """See `Method.build`."""
        self.global_classifier = nn.Linear(self.channels, self.classes, bias=False)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            pooled = F.normalize(support.mean((-2, -1)), dim=-1)[..., None, None]
            prototypes = F.normalize(mean_of_shots(pooled, support_mask)[..., 0, 0], dim=-1)
            queries = F.normalize(query.mean((-2, -1)), dim=-1)
            return self.scale * torch.einsum("eqc,enc->eqn", queries, prototypes)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 2 on all pictures, among all base classes; the few-shot loss is only looked at."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.score(of_support, of_query)
            e, n, k = of_support.shape[:3]
            of_class = labels.new_zeros(e, n).scatter(1, labels, base_labels)  # a picture of every class is asked for
            target = torch.cat([of_class.repeat_interleave(k, 1), base_labels], dim=1).flatten()
            maps = torch.cat([of_support.flatten(1, 2), of_query], dim=1)
            pooled = F.normalize(maps.mean((-2, -1)).flatten(0, 1), dim=-1)
            cosines = pooled @ F.normalize(self.global_classifier.weight, dim=-1).T
            own = F.one_hot(target, cosines.shape[-1]).to(cosines.dtype)
            auxiliary = F.cross_entropy(self.scale * (cosines - self.margin * own), target)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            return Losses(auxiliary, few_shot.detach(), auxiliary, scores)
