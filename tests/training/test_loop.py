"""The loop learns, is a function of its seed, and goes on where it stopped."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from labkit.episodes.augment import Augment
from labkit.episodes.sampler import Episode, EpisodeSampler
from labkit.training.checkpoints import load_state
from labkit.training.divergence import Watch
from labkit.training.loop import build_model, train
from labkit.training.phases import rate_at
from labkit.training.settings import PRESETS, Experiment, experiment
from tests.helpers.tiny import BASE, TINY, VALIDATION


@pytest.mark.integration
def test_learns_what_can_be_learnt(tmp_path: Path) -> None:
    trained = train(replace(TINY, steps=60, validate_every=30), BASE, VALIDATION, tmp_path, progress=False)
    assert trained.validation > 60  # of 3 classes; chance is 33
    first, last = (m for m in trained.metrics if "loss" in m and m["step"] in (25, 60))
    assert last["auxiliary"] < first["auxiliary"]


@pytest.mark.integration
def test_same_seed_same_bits_and_a_stopped_run_goes_on_to_the_same(tmp_path: Path) -> None:
    """Stopped inside a step-group, at a validation and beside one: weights, momenta, metrics and best are the same."""
    setting = replace(TINY, steps=30, validate_every=10)
    whole = train(setting, BASE, VALIDATION, tmp_path / "whole", progress=False)
    asked = iter([False, False, True])
    for until, reached in ((4, 4), (lambda: next(asked), 7), (20, 20), (27, 27), (None, 30)):
        parts = train(setting, BASE, VALIDATION, tmp_path / "parts", until=until, progress=False)  # type: ignore[arg-type]
        assert parts.step == reached
    a, b = (load_state(tmp_path / n / "last.pt") for n in ("whole", "parts"))
    assert a["step"] == b["step"] == 30
    assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"])
    momenta = [state["optimiser"]["state"] for state in (a, b)]
    assert all(torch.equal(v["momentum_buffer"], momenta[1][k]["momentum_buffer"]) for k, v in momenta[0].items())
    assert parts.metrics == whole.metrics
    for name in ("metrics.jsonl", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_another_seed_is_another_model(tmp_path: Path) -> None:
    runs = [train(replace(TINY, steps=2), BASE, VALIDATION, tmp_path / str(s), seed=s, progress=False) for s in (0, 1)]
    weights = [r.model.backbone.layers[0].weight for r in runs]
    assert not torch.equal(*weights)


def test_every_seed_that_torch_takes_can_be_trained_with(tmp_path: Path) -> None:
    largest = 2**64 - 1
    assert train(replace(TINY, steps=1), BASE, VALIDATION, tmp_path, seed=largest, progress=False).step == 1
    for call in (lambda s: build_model(TINY, 6, s), lambda s: train(TINY, BASE, VALIDATION, tmp_path, seed=s)):
        with pytest.raises(ValueError, match=f"seed must be from 0 to {largest}, got {largest + 1}"):
            call(largest + 1)


def test_an_interrupted_group_leaves_no_line_behind(tmp_path: Path) -> None:
    train(TINY, BASE, VALIDATION, tmp_path, until=6, progress=False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 8, "loss": 1.0}) + "\n")
    trained = train(TINY, BASE, VALIDATION, tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == trained.metrics
    assert all(m["step"] != 8 for m in lines)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    train(replace(TINY, steps=2), BASE, VALIDATION, tmp_path, progress=False)
    with pytest.raises(ValueError, match="another experiment or seed"):
        train(replace(TINY, steps=2), BASE, VALIDATION, tmp_path, seed=1, progress=False)
    corrected = replace(BASE, labels=BASE.labels[::-1].copy())  # the same pictures
    inverted = replace(BASE, pixels=255 - BASE.pixels)  # and others, of the same provenance
    for other in (corrected, inverted):
        with pytest.raises(ValueError, match="a training on other pictures or labels"):
            train(replace(TINY, steps=2), other, VALIDATION, tmp_path, progress=False)


def test_the_last_weights_are_not_taken_for_the_best_where_those_are_missing(tmp_path: Path) -> None:
    said = r"best\.safetensors is missing: .* of \d+\.\d\d % on .* Put it back, or delete .*last\.pt to train anew"
    best = tmp_path / "best.safetensors"
    train(TINY, BASE, VALIDATION, tmp_path, until=6, progress=False)
    content = best.read_bytes()
    best.unlink()
    with pytest.raises(ValueError, match=said):  # before any step
        train(TINY, BASE, VALIDATION, tmp_path, log=lambda *_: pytest.fail("it trains"), progress=False)
    best.write_bytes(content)

    def vanishes() -> bool:
        best.unlink()
        return True

    with pytest.raises(ValueError, match=said):
        train(TINY, BASE, VALIDATION, tmp_path, until=vanishes, progress=False)


def poisoned(monkeypatch: pytest.MonkeyPatch, step: int, episode: int, value: float = math.nan) -> None:
    """Make the pixels of one episode `value`, from step `step` on (counted from 1)."""
    draw = EpisodeSampler.batch

    def batch(self: EpisodeSampler, episodes: range) -> Episode:
        drawn = draw(self, episodes)
        if episodes[0] == TINY.batch * (step - 1):
            drawn.query[episode] = value
        return drawn

    monkeypatch.setattr(EpisodeSampler, "batch", batch)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_number_stops_training_at_its_step(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names step, episodes, the layers and the checkpoint; the files are those of a run that stopped before."""
    train(TINY, BASE, VALIDATION, tmp_path / "good", until=6, progress=False)
    poisoned(monkeypatch, step=9, episode=1, value=value)
    said = (
        r"the loss of (nan|inf) is not finite at step 9 \(seed 0, episodes 16, 17; scores are not finite in .*17\)\. "
        r"Largest gradients there: backbone\..* nan, .* \(20 of 20 are not finite\); one step before: [a-z]+\S+ \d.*\. "
        r"The last good checkpoint is .*last\.pt, of step 6\. .* lower learning_rate or set clip"
    )
    with pytest.raises(FloatingPointError, match=said):
        train(TINY, BASE, VALIDATION, tmp_path / "bad", progress=False)
    for file in (tmp_path / "good").iterdir():
        assert file.read_bytes() == (tmp_path / "bad" / file.name).read_bytes() or file.name == "last.pt"
    a, b = (load_state(tmp_path / n / "last.pt")["model"] for n in ("good", "bad"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_without_a_look_at_every_step_the_first_bad_one_is_still_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the loss is looked at once a step-group only, when the weights have long been broken."""
    poisoned(monkeypatch, step=3, episode=0)
    check, looks = Watch.check, []

    def seldom(self: Watch, *arguments: Any) -> None:
        looks.append(1)
        if len(looks) > TINY.steps // 2:
            check(self, *arguments)

    monkeypatch.setattr(Watch, "check", seldom)
    with pytest.raises(FloatingPointError, match=r"step 3 \(seed 0, episodes 4, 5.*one step before: [a-z]+\S+ \d"):
        train(TINY, BASE, VALIDATION, tmp_path, progress=False)
    assert not (tmp_path / "last.pt").exists()
    assert not (tmp_path / "best.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_training_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = Watch.note

    def overflown(self: Watch, step: int, *rest: Any) -> None:
        if step == 2:
            self.parameters["filter_conv.weight"].grad[0, 0, 0, 0] = math.inf  # type: ignore[index]
        note(self, step, *rest)

    monkeypatch.setattr(Watch, "note", overflown)
    said = r"the gradient of a loss of \d.* not finite at step 2 .* there: filter_conv\.weight inf, .*\(1 of 20 are"
    with pytest.raises(FloatingPointError, match=said):
        train(TINY, BASE, VALIDATION, tmp_path, progress=False)


def test_weights_broken_by_the_step_itself_are_not_written(tmp_path: Path) -> None:
    far = replace(TINY, learning_rate=1e38, warmup=0, weight_decay=1e4)
    with pytest.raises(FloatingPointError, match=r"after step 1 weights are not finite: .* There is no checkpoint yet"):
        train(far, BASE, VALIDATION, tmp_path, until=1, progress=False)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["metrics.jsonl"]


def test_the_rate_rises_linearly_and_falls_to_zero() -> None:
    (phase,) = replace(TINY, steps=100, warmup=10, learning_rate=1.0).plan
    rates = [rate_at(i, phase) for i in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(rates) == rates[10] == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 1e-3


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_papers(name: str) -> None:
    e = experiment(name)
    assert json.loads(json.dumps(e.to_json()))["name"] == name
    dataset, _, shot = name.partition("-")
    if shot in ("1shot", "5shot"):
        assert (e.shot, e.query, e.batch) == (int(shot[0]), 6, 4)
        assert e.groups == {"mini-1shot": 64, "mini-5shot": 160, "tiered-1shot": 64, "tiered-5shot": 320}[name]
        assert e.learning_rate == {"mini": 0.35, "tiered": 0.05}[dataset]


def test_an_unknown_experiment_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="quick"):
        experiment("mini")


def test_changed_choices_are_added_to_the_presets() -> None:
    preset, changed = experiment("quick"), experiment("quick", choices={"alignment": "none"}, steps=7)
    assert changed.steps == 7
    assert changed.choices == preset.choices | {"alignment": "none"}


def test_a_changed_augmentation_is_the_presets_but_for_what_is_named() -> None:
    """As ``--changes`` gives it; `quick` has neither jitter nor erasing."""
    assert experiment("quick", augment={"jitter": 0.2}).augment == Augment(jitter=0.2, erase=0)
    assert experiment("mini-1shot", augment={"jitter": 0}).augment == Augment(jitter=0)
    e = experiment("tiered-1shot")
    assert Experiment(**json.loads(json.dumps(e.to_json()))) == e  # as a file tells of it
    with pytest.raises(TypeError, match=r"augment has no option 'jiter'; there are crop, erase, fill, flip, jitter"):
        experiment("quick", augment={"jiter": 0})
    with pytest.raises(ValueError, match="jitter must be from 0 to 1, got 2"):
        experiment("quick", augment={"jitter": 2})
