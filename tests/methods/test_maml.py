"""MAML: its meta-gradient against finite differences, its steps against autograd's, and what it refuses."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.evaluation.protocol import evaluate
from labkit.methods.maml import MAML
from labkit.training.loop import train
from tests.helpers.tiny import BASE, TINY, VALIDATION
from tests.helpers.toys import toy_images

N, K, Q = 3, 2, 4
LABELS = torch.tensor([[0, 1, 2, 1]])


def learner(**options: object) -> MAML:
    """A small one, smooth so that finite differences mean something."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Softplus()
    return MAML(nn.Sequential(*layers), way=N, inner_rate=0.5, **options).double()  # type: ignore[arg-type]


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
    both = torch.cat([pictures, query[0]])
    loss = F.cross_entropy(model.outputs(leaves, both, len(pictures))[len(pictures) :], LABELS[0])
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


def test_it_is_trained_and_evaluated_like_any_other(tmp_path: Path) -> None:
    own = {"method": "maml", "choices": {"way": 3, "steps": 1, "test_steps": 2, "inner_rate": 0.1}}
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
