"""Authors' trainings: every method has one that the loop runs, and a shorter one keeps its shape."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.methods.dsn import CONV4_TRAINING
from labkit.models.registry import METHODS
from labkit.training.authors import shortened
from labkit.training.loop import train
from labkit.training.phases import Phase, rate_at
from labkit.training.settings import experiment
from tests.helpers.tiny import TINY
from tests.helpers.toys import toy_images

pytestmark = pytest.mark.integration

UNKNOWN = {"vfsl", "classifier", "simpleshot"}
# Authors train with up to 64 ways, and with 21 pictures of a class.
MANY, VALIDATION = toy_images(classes=64, per_class=21), toy_images(seed=1, split="val")
# What is smaller here than theirs, or follows from the pictures: maps of 3 x 3 cells of 16 channels.
SMALLER: dict[str, dict[str, Any]] = {
    "can": {"cells": 9, "reduction": 2},
    "cc_rot": {"head_blocks": 1},
    "deepemd": {"sfc_epochs": 1},
    "dmf": {"groups": 4},
    "e3bm": {"steps": 3},
    "leo": {"latents": 4},
    "maml": {"cells": 9, "steps": 1, "test_steps": 1},
    "metaoptnet": {"head": "ridge"},  # the machine takes seconds a step on maps that are all alike
    "robust_dist": {"members": 2},
    "snail": {"keys": [4, 4, 4], "values": [4, 4, 4], "filters": 4},
    "tapnet": {"references": 15},
}


def tried(phase: Phase) -> Phase:
    """Two steps, and of many episodes or pictures two."""
    way = 15 if phase.way == 20 else phase.way  # TapNet's 20 references leave nothing of 16 channels
    return replace(shortened([phase], 2 / phase.steps)[0], size=min(phase.size, 2), way=way)


@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize("method", sorted(METHODS.keys() - UNKNOWN))
def test_every_methods_authors_training_runs(method: str, shot: int, tmp_path: Path) -> None:
    training = METHODS[method].authors_training[shot]
    choices = {**training.options, **SMALLER.get(method, {})}
    e = replace(
        TINY,
        method=method,
        way=5,
        shot=shot,
        groups=choices.pop("groups", 4),
        choices=choices,
        phases=(phases := tuple(tried(Phase(**fields)) for fields in training.phases)),
        steps=sum(phase.steps for phase in phases),
        validation_episodes=2,
        test_query=2,
    )
    trained = train(e, MANY, VALIDATION, tmp_path, progress=False)
    lines = [m for m in trained.metrics if "loss" in m]
    assert lines[-1]["step"] == e.steps == 2 * len(phases)
    assert all(np.isfinite(m["loss"]) for m in lines)


def test_what_is_not_known_is_left_out() -> None:
    assert {name for name, kind in METHODS.items() if not kind.authors_training} == UNKNOWN


def test_the_papers_preset_is_dmf_s_own_training() -> None:
    for shot, preset in ((1, "mini-1shot"), (5, "mini-5shot")):
        e = experiment(preset)
        training = METHODS["dmf"].authors_training[shot]
        (fields,) = training.phases
        assert Phase(**fields) == replace(e.plan[0], way=e.way, shot=e.shot, query=e.query)
        assert training.options["groups"] == e.groups


@pytest.mark.parametrize("shot", [1, 5])
def test_dsn_has_a_second_one(shot: int) -> None:
    (fields,) = CONV4_TRAINING[shot].phases
    phase = Phase(**fields)
    assert rate_at(phase.steps - 1, phase) == pytest.approx(1e-3 / 2 ** (5 if shot == 1 else 11))


def test_a_shorter_training_keeps_its_shape() -> None:
    whole = Phase(1000, schedule="steps", warmup=100, milestones=(400, 401, 800), decay=0.5, validate_every=7)
    (short,) = shortened([whole], 0.01)
    assert (short.steps, short.warmup, short.milestones, short.validate_every) == (10, 1, (4, 8), 5)
    assert shortened([whole], 1)[0] == replace(whole, validate_every=500)
    assert shortened([whole], 1e-6)[0].steps == 1
    with pytest.raises(ValueError, match="share"):
        shortened([whole], 0)
