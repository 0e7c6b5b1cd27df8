"""What a method's loss consists of, and losses that methods share: of base classes, of an episode's maps (Eq. 12)."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Losses:
    """What a method's loss consists of.

    Attributes:
        total: what training follows; for DMF, Eq. 10, the weighted sum of the next two.
        few_shot: the loss of the episode's queries.
        auxiliary: the method's second term (`Method.auxiliary_name` says which), or 0.
        scores: [E, Q, N], for the accuracy; of a batch of pictures [B, classes].
    """

    total: Tensor
    few_shot: Tensor
    auxiliary: Tensor
    scores: Tensor

    @classmethod
    def of_queries(cls, few_shot: Tensor, scores: Tensor) -> Self:
        """The loss of the queries alone."""
        return cls(few_shot, few_shot, torch.zeros_like(few_shot), scores)

    @classmethod
    def of_classification(cls, auxiliary: Tensor, scores: Tensor) -> Self:
        """A classification of base classes alone, as `Method.classification_loss` gives it."""
        return cls(auxiliary, torch.zeros_like(auxiliary), auxiliary, scores)


def pooled_global_loss(classifier: nn.Module, of_query: Tensor, base_labels: Tensor) -> Tensor:
    """Cross-entropy of all base classes on the means of maps [E, Q, c, h, w]: what a backbone is pre-trained by."""
    return F.cross_entropy(classifier(of_query.mean((-2, -1)).flatten(0, 1)), base_labels.flatten())


def at_every_position(labels: Tensor, maps: Tensor) -> Tensor:
    """Labels [E, Q], or [B], repeated for the cells of maps [E, Q, N, h, w]: the target of a dense cross-entropy."""
    return labels.flatten()[:, None, None].expand(-1, *maps.shape[-2:])


def few_shot_loss(maps: Tensor, labels: Tensor, form: str = "softmax") -> Tensor:
    """The few-shot loss over all positions of the score maps.

    Eq. 12 reads log(e^-x / sum (1 + e^-x)), with x the score of the true class: raising a score lowers it without
    bound. ``"softmax"`` is what is meant (and released): -log(e^x / sum e^x) at every position.

    Args:
        maps: [E, Q, N, h, w].
        labels: [E, Q], true class of each query.
        form: ``"softmax"`` or ``"printed"``.
    """
    flat = maps.flatten(0, 1)
    target = at_every_position(labels, maps)
    if form == "softmax":
        return F.cross_entropy(flat, target)
    true = flat.gather(1, target.unsqueeze(1)).squeeze(1)
    return (-true - torch.logsumexp(F.softplus(-flat), dim=1)).mean()  # 1 + e^-x = exp(softplus(-x))
