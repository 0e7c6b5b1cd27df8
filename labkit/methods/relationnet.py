"""Relation Networks (Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning", CVPR 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.method import Losses, Method


class RelationNet(Method):
    """A small network looks at a class's map and a query's together and says how related they are, 0 to 1 (Eq. 1).

    Args:
        backbone, classes, backbone_options: see `Method`; it has no global classifier, so `classes` says nothing.
        width: channels of the relation module's two convolutions.
        hidden: of its fully connected layer.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet12",
        *,
        classes: int = 64,
        backbone_options: dict[str, Any] | None = None,
        width: int = 64,
        hidden: int = 8,
    ) -> None:
        super().__init__(backbone, classes, backbone_options)
        self.width, self.hidden = width, hidden

        def block(inputs: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, width, 3, padding=1)
            return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))

        self.relation = nn.Sequential(
            block(2 * self.channels),
            block(width),
            nn.AdaptiveAvgPool2d(1),  # the paper flattens a map of fixed size; this takes any
            nn.Flatten(),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def recipe(self) -> dict[str, Any]:
        """See `Method.recipe`."""
        return super().recipe() | {"width": self.width, "hidden": self.hidden}

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
        """Squared error of the relation scores, 1 for the true class and 0 for the others (Eq. 2)."""
        scores = self.score(*self.embed_together(support, query))
        few_shot = F.mse_loss(scores.sigmoid(), F.one_hot(labels, scores.shape[-1]).to(scores.dtype))
        return Losses(few_shot, few_shot, torch.zeros_like(few_shot), scores)
