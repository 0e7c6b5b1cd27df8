"""RelationNet against its authors' numbers."""

import pytest
import torch
from torch import Tensor

from labkit.methods.backbones import Conv4
from labkit.methods.relationnet import RelationNet
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

NORM = ("weight", "bias", "running_mean", "running_var")
LAYERS = {f"fc{i}.{w}": f"fc{i}.{w}" for i in (1, 2) for w in ("weight", "bias")}
LAYERS |= {f"conv{i}.{w}": f"layer{i}.0.{w}" for i in (1, 2) for w in ("weight", "bias")}
LAYERS |= {f"norm{i}.{w}": f"layer{i}.1.{w}" for i in (1, 2) for w in NORM}
NAMES = {f"relation.{own}": theirs for own, theirs in LAYERS.items()}


@pytest.fixture
def arrays() -> dict[str, Tensor]:
    return golden("relationnet")


@pytest.mark.parametrize("shots", [1, 5])
def test_it_is_the_released_code(arrays: dict[str, Tensor], shots: int) -> None:
    k = f"k{shots}/"
    model = RelationNet(Features(4), width=4).double()
    put_weights(model, arrays, "weights/", NAMES)
    support, query, labels = (arrays[k + name][None] for name in ("support", "query", "query_labels"))
    support, query = support.clone().requires_grad_(), query.clone().requires_grad_()
    with torch.no_grad():
        check("scores", model.eval().score(support, query)[0].sigmoid(), arrays[k + "scores"], SCORES)
    losses = model.train().loss(support, query, labels, labels)
    losses.total.backward()
    check("scores in training", losses.scores[0].sigmoid(), arrays[k + "scores"], SCORES)
    check("loss", losses.total, arrays[k + "loss"], SCORES)
    assert query.grad is not None
    assert support.grad is not None
    check("gradient of query", query.grad[0], arrays[k + "grad_query"], GRADIENTS)
    first = support.grad[:, :1, :1]
    check("gradient of support", first[0], arrays[k + "grad_support_of_first_class"], GRADIENTS)
    weights, state = dict(model.named_parameters()), model.state_dict()
    for own, theirs in NAMES.items():
        if "running" in theirs:
            check(theirs, state[own], arrays[f"{k}after/{theirs}"], SCORES)
        elif own.endswith(("conv1.bias", "conv2.bias")):
            assert weights[own].grad.abs().max() < 1e-12  # type: ignore[union-attr]
        else:
            check(theirs, weights[own].grad, arrays[f"{k}grad_weights/{theirs}"], GRADIENTS)  # type: ignore[arg-type]
    running = RelationNet(Features(4), width=4, statistics="running").double().eval()
    running.load_state_dict(state)
    with torch.no_grad():
        alone = running.score(support, query[:, :1])[0].sigmoid()
        check(
            "running", running.score(support, query)[0].sigmoid(), arrays[k + "scores_with_running_statistics"], SCORES
        )
    check("alone", alone, arrays[k + "scores_with_running_statistics"][:1], 10 * SCORES)


def test_the_module_has_as_many_weights_as_the_authors() -> None:
    model = RelationNet(Features(64))
    assert sum(p.numel() for p in model.parameters()) == 115_601


@pytest.mark.parametrize("side", [3, 5, 6, 11, 19])
def test_maps_of_any_size_are_read(side: int) -> None:
    model = RelationNet(Features(4), width=4)
    assert model.score(torch.randn(2, 3, 1, 4, side, side), torch.randn(2, 5, 4, side, side)).shape == (2, 5, 3)


def test_every_episode_is_normalised_by_itself() -> None:
    torch.manual_seed(0)
    model = RelationNet(Conv4(8), width=4).eval()
    support, query = torch.randn(2, 3, 1, 8, 5, 5), torch.randn(2, 5, 8, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(model.score(support, query)[1:], model.score(support[1:], query[1:]))
