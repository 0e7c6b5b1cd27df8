"""What is trained on one backbone: every system of the paper's Table 1 is there or says why not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from labkit.data.imageset import Provenance
from labkit.evaluation.feature_set import FeatureSet
from labkit.models.checkpoints import load_model
from labkit.models.registry import METHODS
from labkit.studies.tables.head_runs import Maps, train_and_measure
from labkit.studies.tables.heads import (
    AS_RELEASED,
    HEADS,
    LEFT_OUT,
    RATE,
    SYSTEMS,
    TABLE1_HEADS,
    Head,
    heads_of_table2,
    options_on,
    pooled_once_more,
)
from labkit.studies.tables.runs import Run
from labkit.studies.tables.table1 import PAPER
from labkit.training.heads import head_experiment
from labkit.training.loop import build_model
from tests.helpers.toy_maps import toy_maps

MAPS = toy_maps()
DIFFERENT = [head for head in TABLE1_HEADS if head.rate == RATE]  # in more than Adam's rate


def test_every_published_system_is_there_or_says_why_not() -> None:
    there = {*SYSTEMS, *LEFT_OUT, "DMF (ours)", "DSN-MR"}
    assert set(pd.read_csv(PAPER)["model"]) <= there
    assert not set(SYSTEMS) & set(LEFT_OUT)
    assert all(len([h for h in TABLE1_HEADS if h.system == s]) == 2 for s in SYSTEMS)  # with equal care
    assert len(HEADS) == len(TABLE1_HEADS) + 15 + 14  # no name twice: 14 rows of Table 2 and the base, and as released


@pytest.mark.parametrize("head", HEADS.values(), ids=list(HEADS))
def test_every_head_is_a_method_with_its_options_and_trains_as_long_as_the_others(head) -> None:  # type: ignore[no-untyped-def]
    phases = head.phases(30)
    assert sum(p.steps for p in phases) == (30 if head.trained else 1)
    options = options_on(head, MAPS.base, 5, 1)
    if head.method == "dmf":
        options["groups"] = min(options["groups"], 16)  # of 16 channels, where the tables have 160
    model = build_model(head_experiment(head.method, options, MAPS.base, phases), 6, 0)
    assert type(model) is METHODS[head.method]


@pytest.fixture(scope="module")
def wide_maps() -> Maps:
    """Tiny maps with as many channels and base classes as the heads are made for."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(21), 23)
    of_class = rng.standard_normal((21, 3, 3, 160))
    found = []
    for split in ("train", "val", "test"):
        pixels = np.abs(of_class[labels] + rng.standard_normal((len(labels), 3, 3, 160))).astype(np.float16)
        where = Provenance("toy", split, "made", "24x24", "none", split, {})
        names = tuple(f"class {i}" for i in range(21))
        found.append(FeatureSet(pixels, labels, names, None, where, picture_size=24, backbone="toy"))
    return Maps(*found)


@pytest.mark.integration
@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize("head", DIFFERENT, ids=[head.name for head in DIFFERENT])
def test_every_head_of_table_1_runs_as_the_command_runs_it(
    head: Head, shot: int, wide_maps: Maps, tmp_path: Path
) -> None:
    if head.mirrored(shot):  # of these maps the mirror images' are as good as any
        both = [replace(m, pixels=np.concatenate([m.pixels, m.pixels], 3), mirrored=True) for m in wide_maps]
        wide_maps = Maps(*both)
    options, phases = options_on(head, wide_maps.base, 5, shot), head.phases(3)
    of = Run("toy", head.system, head.name, shot, 0, "toy")
    few = {"validation_episodes": 2, "episodes": 2}
    run = train_and_measure(head.method, options, wide_maps, tmp_path, of, phases, **few)
    assert not run.diverged
    assert run.steps in (0, sum(phase.steps for phase in phases))
    assert run.accuracy == pytest.approx(run.per_episode.mean(), abs=1e-3)
    if head.method not in ("relationnet", "snail"):  # they begin without any idea of likeness
        assert run.accuracy > 25  # the classes are far apart, and five of them
    if head.trained and run.weights > 0:
        moved = load_model(tmp_path / "best.safetensors").state_dict()
        first = build_model(
            head_experiment(head.method, options, wide_maps.base, phases, shot=shot), 21, 0
        ).state_dict()
        assert any(not torch.equal(moved[name], first[name]) for name in first)


def test_heads_know_which_methods_are_shown_mirror_images() -> None:
    for head in HEADS.values():
        model = METHODS[head.method]
        for shot in (1, 5):
            assert head.mirrored(shot) == model.shows_mirrored(None, shot)  # type: ignore[arg-type]


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("shot", [1, 5])
def test_table_2_has_eleven_cells_of_which_one_reads_pooled_maps(shot: int, released: bool) -> None:
    cells = heads_of_table2(shot, released)
    assert len(cells) == len({h.name for h in cells.values()}) == 11
    assert [cell for cell, h in cells.items() if h.pooled] == ["last_pooling on"]
    assert [cell for cell, h in cells.items() if not h.trained] == ["align 0"]


def test_table_2_as_released_differs_from_the_papers_in_the_released_choices() -> None:
    papers, released = heads_of_table2(1), heads_of_table2(1, released=True)
    for cell, head in released.items():
        for name, value in (AS_RELEASED | papers[cell].options).items():
            own = "alignment" if papers[cell].options["alignment"] == "closed" else ""
            assert head.options[name] == (AS_RELEASED[name] if name == own else value), (cell, name)
    assert HEADS["DMF: as released"] is released["dmf"]


def test_pooled_maps_are_those_of_max_pooling_and_of_another_backbone() -> None:
    pooled = pooled_once_more(MAPS.novel)
    maps = torch.from_numpy(np.array(MAPS.novel.pixels)).movedim(-1, 1)
    assert maps.shape[-1] == 3  # an odd side: the last row is pooled alone
    wanted = F.max_pool2d(maps, 2, ceil_mode=True).movedim(1, -1).numpy()
    np.testing.assert_array_equal(pooled.pixels, wanted)
    assert pooled.backbone != MAPS.novel.backbone
    assert pooled.digest == MAPS.novel.digest  # of the same pictures, so that runs on both can be compared
