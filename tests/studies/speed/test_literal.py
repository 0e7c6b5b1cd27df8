"""The literal form computes what the lab's own form computes, so that their times can be compared."""

import pytest
import torch
from torch import Tensor, nn

from labkit.dmf.model import DMF
from labkit.studies.speed.literal import LiteralDMF
from tests.helpers.features import Features
from tests.helpers.literal import literal_head


def pair(kernel: int = 1, **choices: object) -> tuple[DMF, LiteralDMF, Tensor, Tensor]:
    torch.manual_seed(0)
    model = DMF(Features(6), 3, kernel=kernel, classes=5, **choices).double()  # type: ignore[arg-type]
    support = torch.randn(2, 3, 2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    return model, LiteralDMF(model), support, torch.randn(2, 4, 6, 5, 4, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    "choices",
    [
        {"preset": "released"},
        {"preset": "released", "kernel": 3},
        {"preset": "paper", "rtol": 1e-11, "atol": 1e-11, "score_scale": 0.3},
        {"preset": "paper", "alignment": "none"},
        {"preset": "paper", "alignment": "rk4", "sampling": False},
    ],
)
def test_scores_and_gradients_are_those_of_the_fast_form(choices: dict) -> None:
    model, literal, support, query = pair(**choices)
    torch.testing.assert_close(literal(support, query), model(support, query), atol=1e-8, rtol=0)
    slow = literal_head(support, query, model)["score_map"]
    torch.testing.assert_close(literal.head(support.mean(2), query), slow, atol=1e-8, rtol=0)
    inputs = [support, query, model.offset_conv.weight, model.filter_conv.weight]
    both = [torch.autograd.grad(m(support, query).square().sum(), inputs, allow_unused=True) for m in (model, literal)]
    for fast, slow_gradient in zip(*both, strict=True):
        if fast is not None and slow_gradient is not None:
            torch.testing.assert_close(fast, slow_gradient, atol=1e-8, rtol=0)


def test_losses_are_those_of_the_fast_form() -> None:
    model, literal, support, query = pair(preset="released")
    labels, base = torch.tensor([[0, 1, 2, 1]] * 2), torch.tensor([[4, 1, 2, 1]] * 2)
    fast, slow = (m.loss(support, query, labels, base) for m in (model, literal))
    for name in ("total", "few_shot", "auxiliary", "scores"):
        torch.testing.assert_close(getattr(fast, name), getattr(slow, name), atol=1e-8, rtol=0)


def test_what_the_released_code_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no alignment closed; it has \['dopri5', 'rk4'\]"):
        LiteralDMF(DMF(Features(6), 3, alignment="closed"))
    model, literal, support, query = pair(preset="paper", alignment="rk4")
    assert isinstance(model, nn.Module)
    with pytest.raises(ValueError, match="reads the backbone"):
        literal.loss(support, query, torch.zeros(2, 4).long(), torch.zeros(2, 4).long())
