"""A step alone: what it is compiled with, and how long it takes."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from labkit.episodes.preparation import Preparation
from labkit.training.loop import build_model
from labkit.training.run import GROUP
from labkit.training.step import GRAPHS, LOSS_ALONE, seconds_of_steps, trial
from tests.helpers.tiny import BASE, TINY


@pytest.mark.integration
def test_steps_are_timed_by_groups() -> None:
    with trial(build_model(TINY, 6, 0), replace(TINY, steps=200), BASE, "cpu") as step:
        times = seconds_of_steps(step, 2 * GROUP, warm_up=1)
    assert len(times) == 2
    assert min(times) > 0


@pytest.mark.integration
def test_a_compiled_step_is_the_same_step() -> None:
    losses, e = {}, replace(TINY, method="protonet", choices={})
    for name in (None, "aot_eager"):
        with trial(build_model(e, 6, 0), e, BASE, "cpu", name) as step:
            losses[name] = torch.stack([step()[:3] for _ in range(6)])
    torch.testing.assert_close(losses["aot_eager"], losses[None], atol=2e-4, rtol=2e-3)


@pytest.mark.integration
def test_graphs_are_asked_of_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, **how: asked.append(how))
    monkeypatch.setattr(Preparation, "compile", lambda _, backend: asked.append({"pictures": backend}))
    for name in (None, "inductor", GRAPHS, LOSS_ALONE):
        with trial(build_model(TINY, 6, 0), TINY, BASE, "cpu", name) as step:
            assert step().isfinite().all()
    plain, graphs = {"backend": "inductor", "dynamic": False}, {"mode": GRAPHS, "dynamic": False}
    assert asked == [plain, {"pictures": "inductor"}, graphs, {"pictures": "inductor"}, plain]
