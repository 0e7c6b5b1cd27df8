"""Trainings of several phases: each as it says, resumed to the bit anywhere, and the old ones as they were."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from labkit.episodes.sampler import EpisodeSampler
from labkit.methods.losses import Losses
from labkit.methods.noise import set_keys
from labkit.methods.protonet import ProtoNet
from labkit.models.checkpoints import load_model
from labkit.training.checkpoints import load_state
from labkit.training.loop import build_model, train
from labkit.training.phases import Phase, stretches
from labkit.training.settings import experiment
from tests.helpers.tiny import BASE, TINY, VALIDATION

PRE = Phase(
    7, "pre", batch="pictures", size=12, learning_rate=0.1, validate_every=4, save_every=3, selection="nearest mean"
)
META = Phase(6, "meta", size=2, way=4, shot=2, query=1, optimiser="adam", learning_rate=1e-3, validate_every=4)
BOTH = replace(TINY, name="both", backbone="resnet12", steps=13, phases=(PRE, META))
BOTH = replace(BOTH, backbone_options={"width": 0.0625, "ramp": 10})  # dropout and DropBlock draw in both phases


def digest(state: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = load_state(folder / "last.pt")["model"]
    return model


def same(one: Path, other: Path) -> None:
    a, b = (load_state(folder / "last.pt") for folder in (one, other))
    assert digest(a["model"]) == digest(b["model"])
    assert repr(a["optimiser"]) == repr(b["optimiser"])
    for name in ("metrics.jsonl", "best.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.integration
def test_two_phases_are_resumed_to_the_bit_in_both_and_at_the_border(tmp_path: Path) -> None:
    train(BOTH, BASE, VALIDATION, tmp_path / "whole", progress=False)
    for until in (2, 5, 7, 8, 11, None):  # 7 is the border
        parts = train(BOTH, BASE, VALIDATION, tmp_path / "parts", until=until, progress=False)
    same(tmp_path / "whole", tmp_path / "parts")
    lines = parts.metrics
    assert [(m["step"], m["phase"]) for m in lines if "loss" in m] == [(7, "pre"), (13, "meta")]
    validated = [m["step"] for m in lines if "validation" in m]
    assert validated == [4, 7, 11, 13]  # counted within a phase, and at its end
    of_meta = [m["validation"] for m in lines if "validation" in m and m["phase"] == "meta"]
    assert parts.validation == pytest.approx(max(of_meta))


def test_a_kill_loses_no_more_than_save_every_says(tmp_path: Path) -> None:
    steps: list[int] = []

    def killed(step: int, line: dict[str, Any]) -> None:
        if step == 4 and "validation" in line:
            steps.append(load_state(tmp_path / "last.pt")["step"])

    train(BOTH, BASE, VALIDATION, tmp_path, until=4, progress=False, log=killed)
    assert steps == [3]


@pytest.mark.integration
def test_pictures_teach_and_their_phase_is_an_ordinary_classification(tmp_path: Path) -> None:
    """The curve falls, base classes are told apart, and so are classes that were never seen."""
    phase = replace(PRE, steps=75, optimiser="adam", learning_rate=3e-3, validate_every=75)
    setting = replace(TINY, name="pre", method="classifier", choices={}, steps=75, phases=(phase,))
    trained = train(setting, BASE, VALIDATION, tmp_path, progress=False)
    first, _, last = (m for m in trained.metrics if "loss" in m)
    assert last["loss"] < first["loss"]
    assert last["accuracy"] > 50  # of six classes
    assert trained.validation > 45  # of three
    assert first["few_shot"] == 0
    assert load_model(tmp_path / "best.safetensors").recipe()["backbone"] == "conv4"


def test_episodes_of_training_may_differ_from_those_of_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    made = EpisodeSampler.__init__

    def noted(self: EpisodeSampler, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        drawn.append((self.images.provenance.split, self.way, self.shot, self.query))

    monkeypatch.setattr(EpisodeSampler, "__init__", noted)
    setting = replace(TINY, steps=6, phases=(META,))
    trained = train(setting, BASE, VALIDATION, tmp_path, progress=False)
    assert set(drawn) == {("train", 4, 2, 1), ("val", 3, 1, 5)}
    assert trained.validation > 0


def test_label_smoothing_is_followed_or_refused(tmp_path: Path) -> None:
    one = replace(PRE, steps=1, validate_every=1, optimiser="sgd")
    losses = []
    for smoothing in (0.0, 0.3):
        phase = replace(one, label_smoothing=smoothing)
        setting = replace(TINY, method="classifier", choices={}, steps=1, phases=(phase,))
        trained = train(setting, BASE, VALIDATION, tmp_path / str(smoothing), progress=False)
        losses.append(trained.metrics[0]["loss"])
    model = build_model(setting, 6, 0)
    images, labels = torch.randn(4, 3, 24, 24), torch.tensor([0, 1, 2, 5])
    found = model.classification_loss(images, labels, label_smoothing=0.3)
    logits = model.global_classifier(model.embed(images))
    target = 0.7 * F.one_hot(labels, 6) + 0.3 / 6
    by_hand = -(target[:, :, None, None] * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(found.total, by_hand)
    assert found.scores.shape[-2:] == (4, 6)
    assert losses[0] != losses[1]
    wanted = replace(TINY, method="protonet", choices={}, steps=6, phases=(replace(META, label_smoothing=0.1),))
    with pytest.raises(ValueError, match=r"ProtoNet\.loss takes no label_smoothing"):
        train(wanted, BASE, VALIDATION, tmp_path / "refused", progress=False)


def test_a_method_s_own_label_smoothing_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, given = ProtoNet.loss, []

    def loss(self: ProtoNet, *batch: torch.Tensor, label_smoothing: float = 0.0) -> Losses:
        given.append(label_smoothing)
        return plain(self, *batch)

    monkeypatch.setattr(ProtoNet, "loss", loss)
    phase = replace(META, steps=2, label_smoothing=0.1)
    setting = replace(TINY, method="protonet", choices={}, steps=2, phases=(phase,))
    train(setting, BASE, VALIDATION, tmp_path, progress=False)
    assert given == [0.1, 0.1]


def test_a_frozen_backbone_stands_still(tmp_path: Path) -> None:
    setting = replace(BOTH, steps=10, phases=(PRE, replace(META, steps=3, rates={"backbone": 0.0})))
    train(setting, BASE, VALIDATION, tmp_path, until=7, progress=False)
    before = weights(tmp_path)
    train(setting, BASE, VALIDATION, tmp_path, progress=False)
    after = weights(tmp_path)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"offset_conv.weight", "filter_conv.weight", "global_classifier.weight", "global_classifier.bias"}


def test_no_episode_is_drawn_twice_because_a_phase_begins() -> None:
    first, pictures, second = stretches([META, PRE, replace(META, size=5)])
    assert (first.start, first.end, pictures.start, second.start, second.end) == (0, 6, 6, 13, 19)
    assert list(first.numbers(5)) == [10, 11]
    assert list(pictures.numbers(6)) == list(range(12))
    assert list(second.numbers(13)) == list(range(12, 17))


def test_a_plan_goes_through_json_and_defaults_stay_out_of_it() -> None:
    told = json.loads(json.dumps(BOTH.to_json()))
    assert told["phases"][0] == {
        "steps": 7,
        "name": "pre",
        "batch": "pictures",
        "size": 12,
        "validate_every": 4,
        "save_every": 3,
        "selection": "nearest mean",
    }
    assert replace(BOTH, phases=tuple(told["phases"])) == BOTH
    assert "phases" not in TINY.to_json()


@pytest.mark.parametrize(
    ("made", "kind", "said"),
    [
        (lambda: Phase(0), ValueError, "steps must be at least 1"),
        (lambda: Phase(1, optimiser="lion"), ValueError, r"optimiser must be one of .* got 'lion'"),
        (lambda: Phase(1, batch="images"), ValueError, r"batch must be one of \('episodes', 'pictures'\)"),
        (lambda: Phase(1, milestones=(3,)), ValueError, 'milestones go with schedule="steps"'),
        (lambda: Phase(1, schedule="steps", milestones=(3, 2)), ValueError, "ascending steps"),
        (lambda: Phase(1, schedule="steps", milestones=(1.5, 2)), TypeError, "milestones must be a whole number"),
        (lambda: Phase(1, nesterov="no"), TypeError, "nesterov must be True or False"),
        (lambda: Phase(1, name=3), TypeError, "name must be a text"),
        (lambda: Phase(1, betas=(0.9,)), ValueError, "betas must be two numbers"),
        (lambda: Phase(1, betas=(0.9, 2)), ValueError, "betas must be"),
        (lambda: Phase(1, betas="ab"), TypeError, "betas must be a list of numbers"),
        (lambda: Phase(1, rates={"a": -1.0}), ValueError, "factor of 'a' must be"),
        (lambda: Phase(1, label_smoothing=1.0), ValueError, "label_smoothing must be"),
        (lambda: replace(BOTH, steps=12), ValueError, "steps=12, but the phases take 13"),
        (lambda: experiment("mini-backbone-42", steps=5), ValueError, "but the phases take 9000: give steps=9000"),
        (
            lambda: experiment("mini-backbone-42", learning_rate=0.01, clip=1.0),
            ValueError,
            r"\('pre-training'\), which have their own learning_rate, clip; change phases instead",
        ),
        (lambda: replace(TINY, phases=({"stepz": 3},)), TypeError, "a phase has no option 'stepz'"),
        (lambda: Phase(1, augment={"jiter": 0}), TypeError, "augment has no option 'jiter'"),
        (lambda: replace(TINY, phases=(3,)), TypeError, "a phase must be a"),
    ],
)
def test_what_cannot_be_a_plan_is_refused(made: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        made()


def test_a_method_without_a_classifier_cannot_be_pre_trained(tmp_path: Path) -> None:
    setting = replace(TINY, method="protonet", choices={}, steps=7, phases=(PRE,))
    with pytest.raises(TypeError, match="ProtoNet has no classifier of base classes"):
        train(setting, BASE, VALIDATION, tmp_path, progress=False)


def test_what_a_later_phase_cannot_do_is_said_before_the_first_one(tmp_path: Path) -> None:
    feat = replace(BOTH, method="feat", choices={"pretrain": True})
    for change, said in (
        ({"rates": {"attention": 10.0}}, "rates names 'attention', and no parameter's name begins so"),
        ({"way": 64}, "only 6 classes"),
        ({"label_smoothing": 0.1}, "FEAT.loss takes no label_smoothing"),
    ):
        e = replace(feat, phases=(PRE, replace(META, **change)))
        with pytest.raises(ValueError, match=said):
            train(e, BASE, VALIDATION, tmp_path, progress=False)
    assert not (tmp_path / "last.pt").exists()
    assert train(
        replace(feat, phases=(PRE, replace(META, rates={"to_query": 10.0}))), BASE, VALIDATION, tmp_path
    ).metrics


def test_stopped_before_its_phase_was_validated_a_training_gives_its_last_weights(tmp_path: Path) -> None:
    stopped = train(BOTH, BASE, VALIDATION, tmp_path, until=9, progress=False)  # the second phase validates at 11
    assert stopped.validation == 0
    assert digest(stopped.model.state_dict()) == digest(weights(tmp_path))


def test_lines_are_told_as_they_are_written(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, Any]]] = []
    trained = train(TINY, BASE, VALIDATION, tmp_path, log=lambda step, line: told.append((step, line)), progress=False)
    assert [{"step": step} | line for step, line in told] == trained.metrics
    assert {"loss", "few_shot", "auxiliary", "accuracy", "rate"} == told[1][1].keys()
    assert not any("phase" in line for _, line in told)


@pytest.mark.integration
@pytest.mark.parametrize("changes", [{}, {"backbone": "resnet12", "clip": 1.0, "bfloat16": True}])
def test_settings_without_phases_train_to_the_bits_of_a_plain_loop(changes: dict[str, Any], tmp_path: Path) -> None:
    """The loop as it was before there were phases, written out: episodes, SGD, warm-up and cosine."""
    options = {"width": 0.0625, "ramp": 20} if changes else TINY.backbone_options
    e = replace(TINY, backbone_options=options, **changes)
    train(e, BASE, VALIDATION, tmp_path, progress=False)
    model = build_model(e, 6, 0).to(memory_format=torch.channels_last).train()
    settings: dict[str, Any] = {"momentum": e.momentum, "weight_decay": e.weight_decay, "nesterov": True}
    optimiser = torch.optim.SGD(model.parameters(), lr=e.learning_rate, fused=False, **settings)
    sampler = EpisodeSampler(BASE, e.way, e.shot, e.query, 0, augment=e.augment)
    for step in range(e.steps):
        rate = e.learning_rate * (step + 1) / e.warmup
        if step >= e.warmup:
            rate = e.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - e.warmup) / (e.steps - e.warmup)))
        optimiser.param_groups[0]["lr"] = rate
        numbers = range(step * e.batch, (step + 1) * e.batch)
        batch = sampler.batch(numbers)
        set_keys(model, [(0, i, 4) for i in numbers])
        with torch.autocast("cpu", torch.bfloat16, enabled=e.bfloat16):
            base_labels = batch.classes.gather(1, batch.query_labels)
            losses = model.loss(batch.support, batch.query, batch.query_labels, base_labels)
        optimiser.zero_grad()
        losses.total.backward()
        if e.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), e.clip)
        optimiser.step()
    state = load_state(tmp_path / "last.pt")
    assert digest(state["model"]) == digest(model.state_dict())
    assert repr(state["optimiser"]) == repr(optimiser.state_dict())


def test_checkpoints_of_before_are_still_known() -> None:
    """What the state of a training says of itself, as the code before there were phases wrote it."""
    told = (
        '{"name": "mini-thin", "dataset": "miniimagenet", "size": 84, "per_class": null, "way": 5, "shot": 1, '
        '"query": 6, "method": "dmf", "backbone": "resnet12", "backbone_options": {"width": 0.25}, "groups": 16, '
        '"preset": "paper", '
        '"choices": {"alignment": "closed", "score_scale": 0.08}, "steps": 5000, "batch": 4, "warmup": 250, '
        '"learning_rate": 0.2, "momentum": 0.9, "weight_decay": 0.0005, "clip": null, "validate_every": 500, '
        '"validation_episodes": 600, "test_query": 15, "augment": {"crop": "shift", "padding": 0.09523809523809523, '
        '"flip": 0.5, "jitter": 0.4, "erase": 0.5, "fill": [0.485, 0.456, 0.406]}, "bfloat16": true}'
    )
    assert json.dumps(experiment("mini-thin").to_json()) == told
