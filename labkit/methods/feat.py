"""FEAT (Ye et al., "Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions", CVPR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.backbones import Dropout
from labkit.methods.base import Losses, Method, mean_of_shots, pooled_global_loss


class FEAT(Method):
    """Prototypes look at one another through a transformer before queries are compared with them (its section 3.3).

    Args:
        backbone, classes, backbone_options: see `Method`.
        temperature: divides the squared distances (Eq. 4's similarity); the authors use 64 for 640 channels.
        contrast: lambda of the contrastive term (Eq. 7).
        drop: rate of dropout on what attention adds.
        global_weight: of a classification of all base classes beside it. FEAT's backbone is pre-trained by one; here
            both are learned together, in one loop.
    """

    auxiliary_name = "contrast"
    temperature: float = 64.0
    contrast: float = 0.1
    drop: float = 0.5
    global_weight: float = 0.0

    def build(self) -> None:
        """See `Method.build`."""
        c = self.channels
        self.to_query, self.to_key, self.to_value = (nn.Linear(c, c, bias=False) for _ in range(3))  # Eq. 5
        self.out, self.norm, self.dropout = nn.Linear(c, c), nn.LayerNorm(c), Dropout(self.drop)
        self.global_classifier = nn.Linear(c, self.classes) if self.global_weight else None

    def adapt(self, members: Tensor) -> Tensor:
        """Eq. 5-6: every member of a set [E, M, c] in view of the others, whatever their order."""
        keys, values = self.to_key(members), self.to_value(members)
        alike = torch.einsum("emc,enc->emn", self.to_query(members), keys) / self.channels**0.5
        seen = torch.einsum("emn,enc->emc", alike.softmax(-1), values)
        adapted: Tensor = self.norm(members + self.dropout(self.out(seen)))
        return adapted

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            prototypes = self.adapt(mean_of_shots(support, support_mask).mean((-2, -1)))
            return self._compare(query.mean((-2, -1)), prototypes)

    def _compare(self, queries: Tensor, prototypes: Tensor) -> Tensor:
        return -(queries.unsqueeze(2) - prototypes.unsqueeze(1)).square().sum(-1) / self.temperature

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 7: cross-entropy of the queries, and of every picture with the middle of its class's adapted pictures."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.score(of_support, of_query)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            auxiliary = self._contrast(of_support, of_query, labels)
            total = few_shot + self.contrast * auxiliary
            if self.global_classifier is not None:
                auxiliary = pooled_global_loss(self.global_classifier, of_query, base_labels)
                total = total + self.global_weight * auxiliary
            return Losses(total, few_shot, auxiliary, scores)

    def _contrast(self, of_support: Tensor, of_query: Tensor, labels: Tensor) -> Tensor:
        """The contrastive term: a class's pictures, support and query, are one set, adapted together."""
        e, n, k = of_support.shape[:3]
        own = torch.arange(n, device=labels.device).repeat_interleave(k).expand(e, -1)
        classes = torch.cat([own, labels], dim=1)  # [E, M]
        pictures = torch.cat([of_support.flatten(1, 2), of_query], dim=1).mean((-2, -1))
        counts = F.one_hot(classes, n).sum(1)
        if not (counts == counts[:, :1]).all():
            raise ValueError("the contrastive term of FEAT needs equally many queries of every class")
        by_class = classes.argsort(dim=1, stable=True)
        sets = pictures.gather(1, by_class.unsqueeze(-1).expand_as(pictures)).view(e * n, -1, self.channels)
        adapted = self.adapt(sets).view(e, n, -1, self.channels)
        middles = adapted.mean(2)
        scores = self._compare(adapted.flatten(1, 2), middles)
        target = torch.arange(n, device=labels.device).repeat_interleave(adapted.shape[2]).expand(e, -1)
        return F.cross_entropy(scores.flatten(0, 1), target.flatten())
