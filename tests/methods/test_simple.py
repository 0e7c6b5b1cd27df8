"""ProtoNet, MatchingNet, RelationNet, DSN and negative margin, against what their papers write, term by term."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.base import Method
from labkit.methods.dsn import DSN
from labkit.methods.matchingnet import MatchingNet
from labkit.methods.negmargin import NegativeMargin
from labkit.methods.protonet import ProtoNet
from labkit.methods.relationnet import RelationNet
from tests.helpers.features import Features

E, N, K, Q, C = 2, 3, 4, 5, 6


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(E, N, K, C, 2, 3).double(), torch.randn(E, Q, C, 2, 3).double()


def pooled(maps: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return maps[0].mean((-2, -1)).numpy(), maps[1].mean((-2, -1)).numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def made(model: Method) -> Method:
    return model.double().eval()


def test_protonet_is_the_distance_to_the_mean(maps: tuple[Tensor, Tensor]) -> None:
    scores = made(ProtoNet(Features(C), scale=2.0)).score(*maps)
    s, q = pooled(maps)
    for e, i, n in np.ndindex(E, Q, N):
        assert scores[e, i, n].item() == pytest.approx(-2 * ((q[e, i] - s[e, n].mean(0)) ** 2).sum())


def test_matchingnet_is_the_softmax_of_cosines(maps: tuple[Tensor, Tensor]) -> None:
    scores = made(MatchingNet(Features(C), scale=3.0)).score(*maps)
    s, q = pooled(maps)
    for e, i in np.ndindex(E, Q):
        raised = [
            [
                math.exp(3 * s[e, n, k] @ q[e, i] / np.linalg.norm(s[e, n, k]) / np.linalg.norm(q[e, i]))
                for k in range(K)
            ]
            for n in range(N)
        ]
        for n in range(N):
            assert scores[e, i, n].item() == pytest.approx(math.log(sum(raised[n]) / sum(map(sum, raised))))


def test_matchingnet_in_context_is_its_recurrence(maps: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    model = made(MatchingNet(Features(C), steps=2))
    with torch.no_grad():
        scores = model.score(*maps)
        s, q = maps[0].mean((-2, -1))[1].flatten(0, 1), maps[1].mean((-2, -1))[1, 3]
        out = model.of_support(s)[0]
        g = s + out[:, :C] + out[:, C:]
        h, c, r = q, torch.zeros(C).double(), g.mean(0)
        for _ in range(2):
            gates = model.of_query.weight_ih @ torch.cat([q, r]) + model.of_query.bias_ih
            gates = gates + model.of_query.weight_hh @ h + model.of_query.bias_hh
            i, f, new, o = gates.chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * new.tanh()
            h = o.sigmoid() * c.tanh() + q
            r = ((g @ h).softmax(0)[:, None] * g).sum(0)
        weights = F.cosine_similarity(g, h[None]).softmax(0).view(N, K).sum(1)
    torch.testing.assert_close(scores[1, 3], weights.log())


def test_relationnet_looks_at_sum_and_query_together(maps: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    model = made(RelationNet(Features(C), width=5))
    with torch.no_grad():
        scores = model.score(*maps)
        for e, i, n in np.ndindex(E, Q, N):
            pair = torch.cat([maps[0][e, n].sum(0), maps[1][e, i]])[None]
            torch.testing.assert_close(scores[e, i, n], model.relation(pair)[0, 0])
        labels = torch.tensor([[0, 1, 2, 0, 1]] * E)
        loss = model.loss(*maps, labels, labels).total
    expected = [(scores[e, i, n].sigmoid() - (labels[e, i] == n).double()) ** 2 for e, i, n in np.ndindex(E, Q, N)]
    torch.testing.assert_close(loss, torch.stack(expected).sum() / (E * Q))


def test_dsn_is_the_distance_to_numpys_subspace(maps: tuple[Tensor, Tensor]) -> None:
    scores = made(DSN(Features(C), dimensions=2)).score(*maps)
    s, q = pooled(maps)
    for e, i, n in np.ndindex(E, Q, N):
        mean = s[e, n].mean(0)
        basis = np.linalg.svd((s[e, n] - mean).T)[0][:, :2]
        apart = q[e, i] - mean
        rest = apart - basis @ (basis.T @ apart)
        assert scores[e, i, n].item() == pytest.approx(-(rest**2).sum())


def test_dsn_with_one_shot_is_the_distance_to_a_line(maps: tuple[Tensor, Tensor]) -> None:
    scores = made(DSN(Features(C))).score(maps[0][:, :, :1], maps[1])
    s, q = pooled(maps)
    for e, i, n in np.ndindex(E, Q, N):
        line = s[e, n, 0] / np.linalg.norm(s[e, n, 0])
        assert scores[e, i, n].item() == pytest.approx(-((q[e, i] - line * (line @ q[e, i])) ** 2).sum())


def test_dsn_measures_how_far_subspaces_overlap() -> None:
    model = made(DSN(Features(2), dimensions=1, discriminative=0.5))
    along_x, along_y = [[1.0, 0.0], [-1.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]
    labels = torch.zeros(1, 1, dtype=torch.long)
    query = torch.zeros(1, 1, 2, 1, 1).double()
    for classes, overlap in (([along_x, along_x], 1.0), ([along_x, along_y], 0.0)):
        support = torch.tensor([classes]).double()[..., None, None]
        losses = model.loss(support, query, labels, labels)
        assert losses.auxiliary.item() == pytest.approx(overlap)
        torch.testing.assert_close(losses.total, losses.few_shot + 0.5 * losses.auxiliary)


def test_dsn_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    model = made(DSN(Features(C), dimensions=2))
    support = torch.randn(1, 2, 4, C, 1, 1).double().requires_grad_()
    query = torch.randn(1, 2, C, 1, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(model.score, (support, query))


def test_negative_margin_is_its_equation(maps: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    model = made(NegativeMargin(Features(C), classes=7, margin=-0.2, scale=5.0))
    labels, base = torch.tensor([[0, 1, 2, 0, 1]] * E), torch.tensor([[3, 6, 5, 3, 6]] * E)
    with torch.no_grad():
        losses = model.loss(*maps, labels, base)
    s, q = pooled(maps)
    weights = model.global_classifier.weight.detach().numpy()
    terms = []
    pictures = [(q[e, i], int(base[e, i])) for e, i in np.ndindex(E, Q)]
    pictures += [(s[e, n, k], (3, 6, 5)[n]) for e, n, k in np.ndindex(E, N, K)]
    for picture, y in pictures:
        cosines = [cosine(w, picture) for w in weights]
        own = math.exp(5 * (cosines[y] + 0.2))
        terms.append(-math.log(own / (own + sum(math.exp(5 * c) for z, c in enumerate(cosines) if z != y))))
    for e, i in np.ndindex(E, Q):
        for n in range(N):
            mean = sum(v / np.linalg.norm(v) for v in s[e, n])
            assert losses.scores[e, i, n].item() == pytest.approx(5 * cosine(mean, q[e, i]))
    assert losses.total.item() == pytest.approx(np.mean(terms))
