"""Relation Networks (Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning", CVPR 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.base import Losses, Method, pooled_global_loss


class RelationNet(Method):
    """A small network looks at a class's map and a query's together and says how related they are, 0 to 1 (Eq. 1).

    Args:
        backbone, classes, backbone_options: see `Method`.
        width: channels of the relation module's two convolutions.
        hidden: of its fully connected layer.
        global_weight: of a classification of all base classes beside it, which the paper has not.
    """

    auxiliary_name = "global classification"
    width: int = 64
    hidden: int = 8
    global_weight: float = 0.0

    def build(self) -> None:
        """See `Method.build`."""
        width, hidden = self.width, self.hidden

        def block(inputs: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, width, 3, padding=1)
            return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))

        first, last = nn.Linear(width, hidden), nn.Linear(hidden, 1)
        nn.init.ones_(first.bias)  # as the authors do: of so few units none must start dead
        # The best that equal scores can do among five classes. From 1, the authors' start, gradient descent, not
        # being their Adam, runs so fast towards it that all scores end where the sigmoid is flat.
        nn.init.constant_(last.bias, -math.log(4))
        # The paper flattens a map of fixed size; the mean takes any.
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.relation = nn.Sequential(block(2 * self.channels), block(width), *pooled, first, nn.ReLU(), last)
        self.global_classifier = nn.Linear(self.channels, self.classes) if self.global_weight else None

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Relation scores before the sigmoid, which does not change their order; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            if support_mask is not None:
                support = support * support_mask[..., None, None, None]
            of_class = support.sum(2)  # a class of several shots is their sum (section 3.2)
            e, n, q = *of_class.shape[:2], query.shape[1]
            shape = (e, q, n, *of_class.shape[2:])
            pairs = torch.cat([of_class.unsqueeze(1).expand(shape), query.unsqueeze(2).expand(shape)], dim=3)
            scores: Tensor = self.relation(pairs.flatten(0, 2)).view(e, q, n)
            return scores

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Squared error of the relation scores, 1 for the true class and 0 for others, summed over classes (Eq. 2)."""
        of_support, of_query = self.embed_together(support, query)
        scores = self.score(of_support, of_query)
        wanted = F.one_hot(labels, scores.shape[-1]).to(scores.dtype)
        few_shot = (scores.sigmoid() - wanted).square().sum(-1).mean()
        if self.global_classifier is None:
            return Losses(few_shot, few_shot, torch.zeros_like(few_shot), scores)
        with torch.autocast(query.device.type, enabled=False):
            auxiliary = pooled_global_loss(self.global_classifier, of_query, base_labels)
        return Losses(few_shot + self.global_weight * auxiliary, few_shot, auxiliary, scores)
