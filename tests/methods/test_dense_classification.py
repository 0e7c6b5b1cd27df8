"""DC against its formulas written naively, cell by cell."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.dense_classification import DenseClassification
from tests.helpers.features import Features, random_maps

E, N, K, Q, C = 2, 3, 2, 3, 4
LABELS, BASE = torch.tensor([[0, 1, 2], [2, 0, 1]]), torch.tensor([[5, 0, 3], [1, 6, 5]])


def maps() -> tuple[Tensor, Tensor]:
    return random_maps(E, N, K, Q, C, width=3)


def made(**options: str) -> DenseClassification:
    torch.manual_seed(0)
    return DenseClassification(Features(C), classes=7, **options).double()


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a @ b) / (a.norm() * b.norm()))


def naive_loss(model: DenseClassification, picture: Tensor, label: int) -> list[float]:
    """Cross-entropy of every cell of a picture [c, h, w]."""
    weights = model.global_classifier.weight.detach()
    found = []
    for cell in picture.flatten(1).T:
        raised = [math.exp(10 * cosine(cell, w)) for w in weights]
        found.append(-math.log(raised[label] / sum(raised)))
    return found


@pytest.mark.parametrize("cells", ["sum", "mean"])
def test_training_classifies_every_cell(cells: str) -> None:
    model, (support, query) = made(cells=cells), maps()
    with torch.no_grad():
        of_images = model.classification_loss(query[0], BASE[0])
        by_cell = [naive_loss(model, query[0, i], int(BASE[0, i])) for i in range(Q)]
        together = [sum(x) if cells == "sum" else sum(x) / 6 for x in by_cell]
        assert of_images.total.item() == pytest.approx(sum(together) / Q)
        assert of_images.scores.shape == (Q, 7)
        losses = model.loss(support, query, LABELS, BASE)
    pictures = []
    for e in range(E):
        base = {int(LABELS[e, q]): int(BASE[e, q]) for q in range(Q)}
        pictures += [(query[e, q], int(BASE[e, q])) for q in range(Q)]
        pictures += [(support[e, n, k], base[n]) for n in range(N) for k in range(K)]
    by_cell = [naive_loss(model, *p) for p in pictures]
    together = [sum(x) if cells == "sum" else sum(x) / 6 for x in by_cell]
    assert losses.total.item() == pytest.approx(sum(together) / len(pictures))


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_novel_classes_are_means_of_pooled_shots(pooling: str) -> None:
    model, (support, query) = made(query_pooling=pooling), maps()
    with torch.no_grad():
        scores = model.score(support, query)
    for e in range(E):
        for q in range(Q):
            cells = query[e, q].flatten(1)
            pooled = cells.max(1).values if pooling == "max" else cells.mean(1)
            for n in range(N):
                prototype = sum(support[e, n, k].flatten(1).mean(1) for k in range(K)) / K
                assert scores[e, q, n].item() == pytest.approx(10 * cosine(pooled, prototype))


def test_with_one_cell_it_is_cosine_classification() -> None:
    model = made()
    maps = torch.randn(5, C, 1, 1).double()
    labels = torch.arange(5)
    cosines = F.cosine_similarity(maps[:, None, :, 0, 0], model.global_classifier.weight, dim=-1)
    torch.testing.assert_close(model.classification_loss(maps, labels).total, F.cross_entropy(10 * cosines, labels))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"query_pooling must be one of .*'max', 'mean'.*, got 'sum'"):
        made(query_pooling="sum")
