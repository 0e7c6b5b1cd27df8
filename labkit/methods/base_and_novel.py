"""Base classes beside novel ones, and what else methods with cosine classifiers share.

Dynamic Few-shot and wDAE keep one weight vector for every base class and make one for every novel class, so that one
cosine classifier tells them all apart. C is the number of base classes, B of those that stay base in an episode.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.losses import Losses


@dataclass(frozen=True)
class Roles:
    """Which classes of a training episode play novel, and which base classes stand beside them.

    Attributes:
        novel: [E, n], base classes that play novel; the episode's first n.
        base: [E, B], all others in ascending order; B = C - n.
        columns: [E, N], where the episode's classes stand among [base ; novel].
    """

    novel: Tensor
    base: Tensor
    columns: Tensor


def roles(labels: Tensor, base_labels: Tensor, way: int, novel: int | None, classes: int) -> Roles:
    """Roles in an episode of base classes, each of which has a query.

    Args:
        labels, base_labels: [E, Q], as `Method.loss` takes them.
        way: N.
        novel: n; the other N - n classes stay base classes, so that there are queries of both kinds. None: all.
        classes: C.

    Raises:
        ValueError: more classes play novel than an episode has, or no base class is left.
    """
    n = way if novel is None else novel
    if not 0 < n <= way or n >= classes:
        raise ValueError(f"1 to {min(way, classes - 1)} classes of an episode can play novel, got {n}")
    own = base_classes(labels, base_labels, way)
    playing = F.one_hot(own[:, :n], classes).sum(1)
    base = playing.argsort(dim=1, stable=True)[:, : classes - n]
    as_novel = (classes - n + torch.arange(n, device=labels.device)).expand(len(own), -1)
    as_base = (own[:, n:].unsqueeze(2) == base.unsqueeze(1)).int().argmax(2)
    return Roles(own[:, :n], base, torch.cat([as_novel, as_base], dim=1))


def base_classes(labels: Tensor, base_labels: Tensor, way: int) -> Tensor:
    """Which base class each of an episode's N classes is, [E, N], read from its queries, [E, Q]."""
    return labels.new_zeros(len(labels), way).scatter(1, labels, base_labels)


def base_classes_of_all(labels: Tensor, base_labels: Tensor, way: int, shots: int) -> Tensor:
    """Of all pictures of an episode, its N K shots class by class and then its queries: [E, N K + Q]."""
    of_shots = base_classes(labels, base_labels, way).repeat_interleave(shots, 1)
    return torch.cat([of_shots, base_labels], dim=1)


def cosines(vectors: Tensor, weights: Tensor) -> Tensor:
    """Of every vector with every weight: [..., Q, d], [..., N, d] to [..., Q, N]."""
    return F.normalize(vectors, dim=-1) @ F.normalize(weights, dim=-1).transpose(-1, -2)


def losses_of_classification(logits: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
    """Cross-entropy of base images, logits [B, C] and labels [B], as `Method.classification_loss` gives it."""
    auxiliary = F.cross_entropy(logits, base_labels, label_smoothing=label_smoothing)
    return Losses.of_classification(auxiliary, logits)
