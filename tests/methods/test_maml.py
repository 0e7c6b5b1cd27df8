"""MAML: a re-implementation's numbers, finite differences of its meta-gradient, and what it refuses."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.evaluation.protocol import evaluate
from labkit.methods.maml import MAML
from labkit.training.loop import train
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden
from tests.helpers.tiny import BASE, TINY, VALIDATION
from tests.helpers.toys import toy_images

N, K, Q = 3, 2, 4
PLACES = (0, 0, "C"), (1, 0, "BN"), (4, 1, "C"), (5, 1, "BN")  # in our backbone; block and layer in theirs
LABELS = torch.tensor([[0, 1, 2, 1]])


NAMES = {f"backbone.{i}.{w}": f"feature.trunk.{b}.{m}.{w}" for i, b, m in PLACES for w in ("weight", "bias")}
NAMES |= {f"head.{w}": f"classifier.{w}" for w in ("weight", "bias")}


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize(("steps", "rate"), [(1, 0.01), (1, 0.4), (3, 0.01), (3, 0.4)])
@pytest.mark.parametrize("first_order", [False, True])
def test_it_is_the_re_implementation(shots: int, steps: int, rate: float, first_order: bool) -> None:
    arrays, k = golden("maml"), f"k{shots}/steps{steps}_rate{rate}/"
    widths = ((3, 8), (8, 8))
    blocks = [nn.Sequential(nn.Conv2d(*w, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)) for w in widths]
    backbone = nn.Sequential(*blocks[0], *blocks[1])
    options = {"steps": steps, "test_steps": steps, "inner_rate": rate, "first_order": first_order, "cells": 9}
    model = MAML(backbone, **options).double()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for own, theirs in NAMES.items():
            weights[own].copy_(arrays[f"weights/{theirs}"])
    support, query = arrays[f"k{shots}/support_images"][None], arrays[f"k{shots}/query_images"][None]
    labels = arrays[f"k{shots}/query_labels"][None]
    with torch.no_grad():
        check("scores", model.eval().score(support, query)[0], arrays[k + "scores"], SCORES)
    losses = model.train().loss(support, query, labels, labels)
    check("loss", losses.total, arrays[k + "loss"], SCORES)
    losses.total.backward()
    gradients = k + ("grad_first_order/" if first_order else "grad_weights/")
    for own, theirs in NAMES.items():
        gradient, expected = weights[own].grad, arrays.get(gradients + theirs)
        assert gradient is not None
        if own in ("backbone.0.bias", "backbone.4.bias"):  # in front of batch normalisation
            assert gradient.abs().max() < 1e-12
        elif expected is not None:
            check(f"gradient of {own}", gradient, expected, GRADIENTS)


def test_by_the_support_s_statistics_no_query_sees_another() -> None:
    model = learner(statistics="support", test_steps=2).eval()
    support, query = episode()
    with torch.no_grad():
        scores, alone = model.score(support, query), model.score(support, query[:, :1])
        torch.testing.assert_close(scores[:, :1], alone)
        model.statistics = "batch"
        assert not torch.allclose(model.score(support, query)[:, :1], model.score(support, query[:, :1]))


def test_a_module_that_is_given_stays_as_it_is_and_what_it_learned_is_kept() -> None:
    given = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.MaxPool2d(8))
    given[1].weight.data.fill_(3.0)
    model = MAML(given, cells=9)
    assert isinstance(given[1], nn.BatchNorm2d)
    assert isinstance(given[2], nn.Dropout)
    assert model.backbone[1].weight.tolist() == [3.0] * 8
    assert isinstance(model.backbone[2], nn.Identity)


def test_maps_of_another_size_are_refused() -> None:
    support, query = (x[..., :6, :6] for x in episode())
    with pytest.raises(ValueError, match="maps of 9 cells, and was given 4"):
        learner().score(support, query)


def learner(**options: object) -> MAML:
    """A small one, smooth so that finite differences mean something."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Softplus()
    return MAML(nn.Sequential(*layers), way=N, inner_rate=0.5, cells=9, **options).double()  # type: ignore[arg-type]


def episode() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(1, N, K, 3, 7, 7).double(), torch.randn(1, Q, 3, 7, 7).double()


def gradient(model: MAML, weights: list[Tensor]) -> Tensor:
    loss = model.loss(*episode(), LABELS, LABELS).total
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])


@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_that_of_finite_differences(steps: int) -> None:
    model = learner(steps=steps).train()
    weights = list(model.parameters())
    found = gradient(model, weights)
    for seed in range(4):
        torch.manual_seed(seed)
        direction = [torch.randn_like(w) for w in weights]
        losses = []
        with torch.no_grad():
            for h in (1e-5, -2e-5):
                for w, d in zip(weights, direction, strict=True):
                    w += h * d
                losses.append(model.loss(*episode(), LABELS, LABELS).total.item())
            for w, d in zip(weights, direction, strict=True):
                w += 1e-5 * d
        slope = (losses[0] - losses[1]) / 2e-5
        along = float(found @ torch.cat([d.flatten() for d in direction]))
        assert along == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_first_order_is_the_gradient_at_the_adapted_weights() -> None:
    model = learner(steps=2, first_order=True).train()
    weights = dict(model.named_parameters())
    support, query = episode()
    pictures, labels = support[0].flatten(0, 1), torch.arange(N).repeat_interleave(K)
    there = {n: w.detach().clone() for n, w in weights.items()}
    for _ in range(2):  # plain gradient descent
        leaves = {n: w.requires_grad_() for n, w in there.items()}
        loss = F.cross_entropy(model.outputs(leaves, pictures, len(pictures)), labels)
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        there = {n: (w - 0.5 * g).detach() for (n, w), g in zip(leaves.items(), slopes, strict=True)}
    leaves = {n: w.requires_grad_() for n, w in there.items()}
    loss = F.cross_entropy(model.outputs(leaves, query[0], Q), LABELS[0])
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(leaves.values()))])
    torch.testing.assert_close(gradient(model, list(weights.values())), expected)
    exact = learner(steps=2).train()
    assert not torch.allclose(gradient(exact, list(exact.parameters())), expected, rtol=1e-2)


def test_more_steps_fit_the_support_better_in_any_mode() -> None:
    model = learner(test_steps=20).eval()
    support = episode()[0]
    with torch.inference_mode():
        scores = model.score(support, support.flatten(1, 2))[0]
    assert not scores.requires_grad
    assert (scores.argmax(-1) == torch.arange(N).repeat_interleave(K)).all()


@pytest.mark.integration
def test_it_is_trained_and_evaluated_like_any_other(tmp_path: Path) -> None:
    own = {"method": "maml", "choices": {"way": 3, "steps": 1, "test_steps": 2, "inner_rate": 0.1, "cells": 9}}
    setting = TINY.__class__(**vars(TINY) | own | {"bfloat16": True})
    trained = train(setting, BASE, VALIDATION, tmp_path, progress=False)
    assert [m for m in trained.metrics if "validation" in m]
    result = evaluate(trained.model, toy_images(seed=2, split="test"), 3, 2, 5, episodes=10)
    assert result.accuracy > 45  # of 3 classes; chance is 33


def test_another_number_of_classes_is_refused() -> None:
    support, query = episode()
    with pytest.raises(ValueError, match="tells 3 classes apart, and was given 2"):
        learner().score(support[:, :2], query)
    assert learner().embed(query) is query  # it has no features to give
