"""What the rivals' golden files are played on: their episodes, as images of a backbone that gives them back."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.methods.base import Method
from labkit.methods.losses import Losses
from tests.helpers.rival_golden import GRADIENTS, SCORES, check

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Losses]


def episode(arrays: dict[str, Tensor], shots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Support [1, N, K, ...], query [1, Q, ...] and labels [1, Q] of a file; gradients reach the first two."""
    support, query, labels = (arrays[f"k{shots}/{name}"][None] for name in ("support", "query", "query_labels"))
    return support.clone().requires_grad_(), query.clone().requires_grad_(), labels


def check_episode(
    model: Method, arrays: dict[str, Tensor], shots: int, results: str = "", tolerance: float = 1.0
) -> Losses:
    """Scores in evaluation and, in training, scores, loss and gradients of the features, which lie behind `results`."""
    support, query, labels = episode(arrays, shots)
    behind = f"k{shots}/{results}"
    with torch.no_grad():
        check("scores", model.eval().score(support, query)[0], arrays[f"{behind}scores"], tolerance * SCORES)
    losses = model.train().loss(support, query, labels, labels)
    losses.total.backward()  # type: ignore[no-untyped-call]
    check("scores in training", losses.scores[0], arrays[f"{behind}scores"], tolerance * SCORES)
    check("loss", losses.total, arrays[f"{behind}loss"], tolerance * SCORES)
    for name, features in (("support", support), ("query", query)):
        assert features.grad is not None
        check(f"gradient of {name}", features.grad[0], arrays[f"{behind}grad_{name}"], tolerance * GRADIENTS)
    return losses
