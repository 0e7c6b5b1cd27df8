"""Work counted on the meta device, against numbers that are known otherwise."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from labkit.methods.backbones import ResNet12
from labkit.studies import training_cost
from labkit.training.phases import Phase
from labkit.training.settings import experiment

pytestmark = pytest.mark.integration


def test_work_of_a_backbone_is_what_real_tensors_need() -> None:
    e = experiment("quick")
    with FlopCounterMode(display=False) as counter:
        ResNet12(width=0.25)(torch.randn(3, 3, 40, 40)).sum().backward()
    pictures = e.steps * 4 * 5 * (1 + 6)
    assert training_cost.operations(e) == pytest.approx(pictures * counter.get_total_flops() / 3)


def test_every_phase_counts_the_pictures_that_it_takes() -> None:
    phases = (Phase(10, batch="pictures", size=35), Phase(5, size=4, way=5, shot=2, query=5))
    both = experiment("quick", steps=15, phases=phases)
    assert training_cost.operations(both) == training_cost.operations(experiment("quick", steps=15, batch=2))


def test_the_paper_s_schedule_is_what_the_design_says() -> None:
    """9e16 operations, worked out independently before any of this was written."""
    one = training_cost.operations(experiment("mini-1shot"))
    assert one == pytest.approx(9e16, rel=0.03)
    assert training_cost.operations(experiment("mini-5shot")) / one == pytest.approx(55 / 35)  # images an episode


def test_only_long_trainings_are_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_cost, "RESULTS", tmp_path)
    step = {"seconds": {"fast": [31.2, 31.4, 31.3]}, "made": {"device": "a CPU", "threads": 2}}
    (tmp_path / "speed_cpu.json").write_text(json.dumps({"step": step}))
    training_cost.announce(experiment("quick"), "cpu")
    training_cost.announce(experiment("mini-1shot"), "cuda")  # was not measured
    assert not capsys.readouterr().out
    training_cost.announce(experiment("mini-1shot"), "cpu")
    said = capsys.readouterr().out
    assert said == "28500 steps: about 10.3 days, by a step of 31.3 s of mini-1shot, measured on a CPU.\n"
