"""FEAT (Ye et al., "Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions", CVPR 2020).

Code of the authors: Sha-Lab/FEAT. Its contrastive term compares a picture as the backbone gives it with the centres of
adapted pictures, where the paper's Eq. 7 compares adapted pictures (`contrast_of`). The default is the code's.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Positive, Rate
from labkit.methods.authors import CLASSIFICATION, AuthorsTraining, Trainings
from labkit.methods.backbones import Dropout
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.losses import Losses, pooled_global_loss

# With a ResNet-12, after classification of the base classes: 200 epochs of 100 episodes, one a step. The attention
# learns ten times as fast as the backbone, whose rate is 2e-4. Conv4: Adam, 1e-4, halved every 20 epochs.
_EPISODES = {"size": 1, "way": 5, "query": 15, "steps": 20_000, "learning_rate": 2e-3, "rates": {"backbone": 0.1}}
_HALVED = {"schedule": "steps", "decay": 0.5, "milestones": (4000, 8000, 12_000, 16_000), "validate_every": 100}
_OPTIONS: dict[int, dict[str, Any]] = {
    1: {"temperature": 64.0, "contrast_temperature": 64.0, "contrast": 0.01, "pretrain": True},
    5: {"temperature": 64.0, "contrast_temperature": 32.0, "contrast": 0.1, "pretrain": True},
}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining(
        [CLASSIFICATION, _EPISODES | _HALVED | {"shot": shot}], options, filled_in="all of the pre-training"
    )
    for shot, options in _OPTIONS.items()
}


class FEAT(Method):
    """Prototypes look at one another through a transformer before queries are compared with them (its section 3.3).

    The published runs on miniImageNet have temperature 64, contrast temperature 64 and contrast 0.01 at one shot, and
    64, 32 and 0.1 at five; on tieredImageNet 64, 64, 0.1 and 32, 64, 0.1; those with Conv4 64, 16, 1 and 32, 64, 0.1.

    Args:
        temperature: divides the squared distances of queries (Eq. 4's similarity).
        contrast: lambda of the contrastive term (Eq. 7); 0 leaves it out.
        contrast_temperature: divides the squared distances of the contrastive term; None takes `temperature`.
        contrast_of: what is compared with the centres of adapted pictures: ``"raw"`` or ``"adapted"`` pictures.
        drop: rate of dropout on what attention adds.
        drop_attention: rate of dropout on the weights of attention.
        global_weight: of a classification of all base classes beside it, which the authors have not.
        pretrain: have a classifier of base classes for `classification_loss`, to start as the authors do.
    """

    auxiliary_name = "contrast"
    authors_training: ClassVar = AUTHORS_TRAINING
    options_before: ClassVar = {"contrast_of": "adapted", "drop_attention": 0.0}
    temperature: Positive = 64.0
    contrast: float = 0.01
    contrast_temperature: Positive | None = None
    contrast_of: Literal["raw", "adapted"] = "raw"
    drop: Rate = 0.5
    drop_attention: Rate = 0.1
    global_weight: float = 0.0
    pretrain: bool = False

    def build(self) -> None:
        c = self.channels
        self.to_query, self.to_key, self.to_value = (nn.Linear(c, c, bias=False) for _ in range(3))  # Eq. 5
        self.out, self.norm = nn.Linear(c, c), nn.LayerNorm(c)
        for linear in (self.to_query, self.to_key, self.to_value, self.out):
            nn.init.xavier_normal_(linear.weight)  # as the transformer that the authors took
        self.dropout, self.attention_dropout = Dropout(self.drop), Dropout(self.drop_attention)
        classifier = self.global_weight or self.pretrain
        self.global_classifier = nn.Linear(c, self.classes) if classifier else None

    def adapt(self, members: Tensor, together: Tensor | None = None) -> Tensor:
        """Eq. 5-6: every member of a set [E, M, c] in view of the others, whatever their order.

        `together`, bool [E, M, M], says which members are of one set where several stand in a row.
        """
        keys, values = self.to_key(members), self.to_value(members)
        alike = torch.einsum("emc,enc->emn", self.to_query(members), keys) / self.channels**0.5
        if together is not None:
            alike = alike.masked_fill(~together, float("-inf"))
        seen = torch.einsum("emn,enc->emc", self.attention_dropout(alike.softmax(-1)), values)
        adapted: Tensor = self.norm(members + self.dropout(self.out(seen)))
        return adapted

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        with torch.autocast(support.device.type, enabled=False):
            prototypes = self.adapt(mean_of_shots(support, support_mask).mean((-2, -1)))
            return -_distances(query.mean((-2, -1)), prototypes) / self.temperature

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 7: cross-entropy of the queries, and of every picture with the centre of its class's adapted pictures."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.score(of_support, of_query)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            auxiliary = self._contrast(of_support, of_query, labels) if self.contrast else torch.zeros_like(few_shot)
            total = few_shot + self.contrast * auxiliary
            if self.global_weight and self.global_classifier is not None:
                total = total + self.global_weight * pooled_global_loss(self.global_classifier, of_query, base_labels)
            return Losses(total, few_shot, auxiliary, scores)

    def _contrast(self, of_support: Tensor, of_query: Tensor, labels: Tensor) -> Tensor:
        """The contrastive term: a class's pictures, support and query, are one set, adapted together."""
        e, n, k = of_support.shape[:3]
        own = torch.arange(n, device=labels.device).repeat_interleave(k).expand(e, -1)
        classes = torch.cat([own, labels], dim=1)  # [E, M]
        pictures = torch.cat([of_support.flatten(1, 2), of_query], dim=1).mean((-2, -1))
        adapted = self.adapt(pictures, classes.unsqueeze(2) == classes.unsqueeze(1))
        member = F.one_hot(classes, n).to(adapted.dtype)  # [E, M, N]
        centres = torch.einsum("emn,emc->enc", member, adapted) / member.sum(1).unsqueeze(-1)
        compared = pictures if self.contrast_of == "raw" else adapted
        temperature = self.temperature if self.contrast_temperature is None else self.contrast_temperature
        return F.cross_entropy((-_distances(compared, centres) / temperature).flatten(0, 1), classes.flatten())


def _distances(vectors: Tensor, centres: Tensor) -> Tensor:
    """Squared, of [E, M, c] and [E, N, c]: [E, M, N]."""
    return (vectors.unsqueeze(2) - centres.unsqueeze(1)).square().sum(-1)
