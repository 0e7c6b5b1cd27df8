"""Which compiler the flagship is trained with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from labkit.studies.gpu import step_time
from labkit.studies.gpu.works import SpeedSetting, tiny, tiny_pictures, works


@pytest.mark.parametrize(
    ("losses", "taken", "fastest"),
    [
        ({"inductor": 2.0, "reduce-overhead": 2.001}, {"inductor": 3.0, "reduce-overhead": 2.0}, "reduce-overhead"),
        ({"inductor": 2.0, "reduce-overhead": 2.001}, {"inductor": 2.0, "reduce-overhead": 3.0}, "inductor"),
        ({"inductor": 2.0, "reduce-overhead": 2.3}, {"inductor": 3.0, "reduce-overhead": 2.0}, "inductor"),
        ({"inductor": 2.0}, {"inductor": 3.0}, "inductor"),
        ({"inductor-loss": 2.0}, {"inductor-loss": 3.0}, "inductor-loss"),
        ({}, {}, None),
    ],
    ids=["faster", "slower", "other losses", "broken", "only the loss compiles", "all broken"],
)
def test_it_is_the_fastest_that_works_and_agrees(
    losses: dict[str, float], taken: dict[str, float], fastest: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def trial(*given: Any) -> Iterator[Callable[[], Tensor]]:
        name = given[-1]
        if name not in losses:
            raise RuntimeError("no such compiler")
        running.append(name)
        yield lambda: torch.full((4,), losses[name])

    running: list[str] = []
    monkeypatch.setattr(step_time, "trial", trial)
    monkeypatch.setattr(step_time, "seconds_of_steps", lambda *_, **__: [taken[running[-1]]])
    pictures = tuple(tiny_pictures(split) for split in ("train", "val", "test"))
    setting = SpeedSetting(device="cuda", pictures=pictures, experiment=tiny("mini-1shot", works()["mini-1shot"]))
    found = step_time.compilers(setting)
    assert found["fastest"] == fastest
    broken = {"inductor", "reduce-overhead", "inductor-loss"} - losses.keys()
    assert {name for name, said in found.items() if isinstance(said, dict) and "error" in said} == broken
