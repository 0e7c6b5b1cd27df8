"""Optimisers, groups and schedules are torch's own, with the numbers of the phase."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from labkit.training.optimisers import clip, make_optimiser, parameter_groups, set_modes, set_rate
from labkit.training.phases import Phase, rate_at

CPU = torch.device("cpu")
Made = Callable[[Any], torch.optim.Optimizer]
OPTIMISERS: dict[str, tuple[dict[str, Any], Made]] = {
    "sgd": ({"momentum": 0.8}, lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=5e-4, nesterov=True)),
    "sgd, heavy ball": (
        {"nesterov": False, "weight_decay": 0.0},
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    ),
    "sgd, no momentum": ({"momentum": 0.0}, lambda p: torch.optim.SGD(p, 0.1, weight_decay=5e-4)),
    "adam": (
        {"optimiser": "adam", "betas": (0.8, 0.99)},
        lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.99), weight_decay=5e-4),
    ),
    "adamw": ({"optimiser": "adamw", "weight_decay": 0.2}, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2)),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    parts = {"backbone": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4), "attention": nn.Linear(4, 2)}
    model = nn.Sequential()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def descend(model: nn.Module, optimiser: torch.optim.Optimizer, steps: int = 4) -> dict[str, torch.Tensor]:
    for i in range(steps):
        optimiser.zero_grad()
        model(torch.randn(5, 3, generator=torch.Generator().manual_seed(i))).square().sum().backward()
        optimiser.step()
    return model.state_dict()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_is_torch_s(name: str) -> None:
    fields, made = OPTIMISERS[name]
    ours, theirs = network(), network()
    ours_after = descend(ours, make_optimiser(ours, Phase(4, **fields), CPU))
    theirs_after = descend(theirs, made(theirs.parameters()))
    assert all(torch.equal(ours_after[k], theirs_after[k]) for k in theirs_after)
    assert not torch.equal(ours_after["attention.weight"], network().state_dict()["attention.weight"])


def test_groups_of_parameters_learn_at_rates_of_their_own() -> None:
    """The longest beginning of a name counts, and 0 freezes: weights, and statistics of batch normalisation."""
    rates = {"attention": 10.0, "attention.bias": 0.5, "norm": 0.0}
    ours, theirs = network(), network()
    set_modes(ours, rates)
    optimiser = make_optimiser(ours, Phase(4, rates=rates), CPU)
    set_rate(optimiser, 0.01)
    theirs.norm.eval()
    groups = [
        {"params": list(theirs.backbone.parameters()), "lr": 0.01},
        {"params": [theirs.attention.weight], "lr": 0.1},
        {"params": [theirs.attention.bias], "lr": 0.005},
    ]
    options: dict[str, Any] = {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    a, b = descend(ours, optimiser), descend(theirs, torch.optim.SGD(groups, 1.0, **options))
    assert all(torch.equal(a[k], b[k]) for k in a if k != "norm.weight" and k != "norm.bias")
    assert all(torch.equal(a[k], v) for k, v in network().state_dict().items() if k.startswith("norm"))
    set_modes(ours, {})  # the next phase trains all
    assert all(p.requires_grad for p in ours.parameters())
    assert ours.norm.training


def test_rates_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'attn', and no parameter's name begins so; .*'backbone', 'norm', 'attent"):
        parameter_groups(network(), {"attn": 10.0})
    with pytest.raises(ValueError, match="freeze all of them"):
        parameter_groups(network(), {"backbone": 0, "norm": 0, "attention": 0})


def rates_of(kind: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule, found = kind(optimiser), []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


SCHEDULERS = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("fields", "theirs"),
    [
        ({}, lambda o: SCHEDULERS.CosineAnnealingLR(o, 40)),
        (
            {"schedule": "steps", "milestones": (7, 20), "decay": 0.5},
            lambda o: SCHEDULERS.MultiStepLR(o, [7, 20], gamma=0.5),
        ),
        ({"schedule": "constant"}, lambda o: SCHEDULERS.ConstantLR(o, factor=1.0)),
        (
            {"warmup": 10},
            lambda o: SCHEDULERS.SequentialLR(
                o, [SCHEDULERS.LinearLR(o, 0.1, 1.0, total_iters=9), SCHEDULERS.CosineAnnealingLR(o, 30)], [10]
            ),
        ),
        (
            {"warmup": 5, "schedule": "constant"},
            lambda o: SCHEDULERS.LinearLR(o, 0.2, 1.0, total_iters=4),
        ),
    ],
)
def test_a_schedule_is_torch_s(fields: dict[str, Any], theirs: Callable[[torch.optim.Optimizer], Any]) -> None:
    phase = Phase(40, learning_rate=0.3, **fields)
    assert [rate_at(i, phase) for i in range(40)] == pytest.approx(rates_of(theirs, 40), abs=1e-12)


def test_gradients_are_clipped_by_value_and_by_norm() -> None:
    model = network()
    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    clip(model, Phase(1, clip_value=2.0))
    assert all(float(p.grad.max()) == 2.0 for p in model.parameters() if p.grad is not None)
    clip(model, Phase(1, clip=0.5))
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert float(torch.cat([g.flatten() for g in grads]).norm()) == pytest.approx(0.5, rel=1e-4)
