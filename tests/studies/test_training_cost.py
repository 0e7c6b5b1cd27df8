"""Work counted on the meta device, against numbers that are known otherwise."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from labkit.methods.backbones import ResNet12
from labkit.studies import training_cost
from labkit.training.settings import experiment


def test_work_of_a_backbone_is_what_real_tensors_need() -> None:
    work, kept, weights = training_cost.work_of_an_image("resnet12", (("width", 0.25),), 40)
    network = ResNet12(width=0.25)
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(3, 3, 40, 40)).sum().backward()
    assert work == pytest.approx(counter.get_total_flops() / 3)
    assert weights == sum(p.numel() for p in network.parameters())
    assert kept > 4 * 16 * 40 * 40  # at the least the first convolution's output


def test_the_paper_s_schedule_is_what_the_design_says() -> None:
    """9e16 operations, worked out independently before any of this was written."""
    e = experiment("mini-1shot", validate_every=10**9)
    one = training_cost.training_cost(e, training_cost.Rate(1.0, "one a second"))
    assert one.seconds == pytest.approx(9e16, rel=0.03)
    five = training_cost.training_cost(experiment("mini-5shot", validate_every=10**9), training_cost.Rate(1.0, ""))
    assert five.seconds / one.seconds == pytest.approx(55 / 35, rel=0.01)  # images an episode
    assert (
        training_cost.training_cost(experiment("mini-1shot"), training_cost.Rate(1.0, "")).seconds > one.seconds
    )  # validation costs


def test_a_cpu_is_measured_and_a_gpu_assumed_until_it_is(tmp_path, monkeypatch) -> None:
    seconds = training_cost.measured("cpu").source
    assert "measured on 2 threads of AMD EPYC" in seconds
    monkeypatch.setattr(training_cost, "RESULTS", tmp_path)
    assert training_cost.measured("cuda", bfloat16=True) is training_cost.ASSUMED
    step = {"seconds": {"fast, bfloat16": [0.04, 0.05, 0.06]}, "made": {"device": "a GPU"}}
    (tmp_path / "speed_gpu.json").write_text(json.dumps({"step": step}))
    rate = training_cost.measured("cuda", bfloat16=True)
    assert rate.flops * 0.05 * 28500 == pytest.approx(9e16, rel=0.03)
    assert rate.source == "a step of 0.05 s of mini-1shot, measured on a GPU"


def test_only_long_trainings_are_announced(tmp_path, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(training_cost, "RESULTS", tmp_path)
    step = {"seconds": {"fast": [31.2, 31.4, 31.3]}, "made": {"device": "a CPU", "threads": 2}}
    (tmp_path / "speed_cpu.json").write_text(json.dumps({"step": step}))
    training_cost.announce(experiment("quick"), "cpu")
    assert not capsys.readouterr().out
    training_cost.announce(experiment("mini-1shot"), "cpu")
    assert "1 run: about 11.1 days, up to 5.5 GiB" in capsys.readouterr().out
