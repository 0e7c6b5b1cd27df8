"""TapNet against the numbers of its authors' code, and its projection against what it is for."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.tapnet import TapNet
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

GOLDEN = golden("tapnet")
WEIGHTS = {"reference.weight": "l_phi/W", "reference.bias": "l_phi/b"}


@pytest.fixture
def model() -> TapNet:
    made = TapNet(Features(24), references=8).double()
    put_weights(made, GOLDEN, "weights/", WEIGHTS)
    return made


def maps(pooled: Tensor) -> Tensor:
    return pooled[None, ..., None, None].requires_grad_()


@pytest.mark.parametrize("shots", [1, 5])
def test_training_is_the_authors(model: TapNet, shots: int) -> None:
    at = f"k{shots}/train/"
    support, query = maps(GOLDEN[at + "support"]), maps(GOLDEN[at + "query"])
    labels = GOLDEN[at + "query_labels"][None]
    losses = model.train().loss(support, query, labels, labels)
    losses.total.backward()
    check("scores", losses.scores[0], GOLDEN[at + "scores"], SCORES)
    check("loss", losses.total, GOLDEN[at + "loss"], SCORES)
    assert query.grad is not None
    check("gradient of the queries", query.grad[0, ..., 0, 0], GOLDEN[at + "grad_query"], GRADIENTS)
    assert support.grad is None or not support.grad.any()
    for own, theirs in WEIGHTS.items():
        found = model.get_parameter(own).grad
        assert found is not None
        check(f"gradient of {own}", found, GOLDEN[f"{at}grad_weights/{theirs}"], GRADIENTS)


@pytest.mark.parametrize("shots", [1, 5])
def test_the_test_is_the_authors(model: TapNet, shots: int) -> None:
    at = f"k{shots}/test/"
    support, query = maps(GOLDEN[at + "support"]), maps(GOLDEN[at + "query"])
    means = support.mean((2, -2, -1))
    with torch.no_grad():
        chosen = model.eval().chosen(means)
        taken = model.space(model.reference.weight[chosen], means)[0]
        check("scores", model.score(support, query)[0], GOLDEN[at + "scores"], SCORES)
    assert torch.equal(chosen[0], GOLDEN[at + "chosen_phi"])
    check("projector", torch.eye(24).double() - taken @ taken.T, GOLDEN[at + "projector"], SCORES)


def test_the_projection_brings_class_means_and_references_together(model: TapNet) -> None:
    torch.manual_seed(0)
    phi, means = torch.randn(2, 5, 24).double(), torch.randn(2, 5, 24).double()
    taken = model.space(phi, means)
    apart = phi - (phi.sum(1, keepdim=True) - phi) / 4  # the paper's v_k
    left = [x - x @ taken @ taken.mT for x in (F.normalize(apart, dim=-1), F.normalize(means, dim=-1))]
    torch.testing.assert_close(left[0], left[1], atol=1e-5, rtol=0)
    assert left[0].norm(dim=-1).min() > 0.1


def test_an_episode_of_fewer_classes_chooses_in_training_too(model: TapNet) -> None:
    support, query = maps(GOLDEN["k1/test/support"]), maps(GOLDEN["k1/test/query"])
    torch.testing.assert_close(model.train().score(support, query), model.eval().score(support, query))


def test_more_classes_than_references_are_refused(model: TapNet) -> None:
    with pytest.raises(ValueError, match=r"each of the 9 classes .* has 8 references"):
        model.score(torch.zeros(1, 9, 1, 24, 1, 1), torch.zeros(1, 1, 24, 1, 1))


@pytest.mark.integration
def test_its_loss_is_one_graph(model: TapNet) -> None:
    support, query = maps(GOLDEN["k1/test/support"]), maps(GOLDEN["k1/test/query"])
    labels = GOLDEN["k1/test/query_labels"][None]
    compiled = torch.compile(model.loss, fullgraph=True, backend="eager")
    found, expected = (loss(support, query, labels, labels) for loss in (compiled, model.loss))
    torch.testing.assert_close(found.total, expected.total)
