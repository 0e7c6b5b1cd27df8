"""Trainings of the tables: a run is a result in JSON types, and what validation chooses is trained with more seeds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labkit.__main__ import main
from labkit.common import checks
from labkit.data.glyphs import load as glyphs
from labkit.data.imageset import ImageSet
from labkit.data.real import load_real
from labkit.studies.tables import train_cells
from labkit.studies.tables.cells import BASE, BASES, CELLS, SYSTEMS, TABLE1, row_of_table2
from labkit.studies.tables.runs import Run
from labkit.training.settings import QUICK
from tests.helpers.pretended_sweep import PretendedSweep
from tests.helpers.tiny import TINY
from tests.helpers.toys import toy_images

NO_ALIGNMENT = row_of_table2("align", "0")


def test_the_grid_takes_seeds_before_cells() -> None:
    runs = train_cells.grid([BASE, NO_ALIGNMENT], seeds=(0, 1))
    assert [(r["seed"], r["cell"]) for r in runs] == [(0, "dmf"), (0, "align 0"), (1, "dmf"), (1, "align 0")]


def some_images(dataset: str, split: str, **_: Any) -> ImageSet:
    return toy_images(seed=["train", "val", "test"].index(split), split=split)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_cells, "load_images", some_images)
    monkeypatch.setattr(train_cells, "setting", lambda cell, shot, dataset: replace(TINY, shot=shot, bfloat16=True))
    monkeypatch.setattr(train_cells, "EPISODES", 10)


@pytest.mark.integration
@pytest.mark.usefixtures("tiny")
def test_a_run_is_a_result_and_the_same_when_resumed(tmp_path: Path) -> None:
    run = {"cell": "dmf", "shot": 2, "seed": 1}
    row = train_cells.run_cell(run, tmp_path)
    assert json.loads(json.dumps(row)) == row
    assert row | run == row
    assert row["novel"]["accuracy"] == pytest.approx(sum(map(int, row["correct"].split())) / (10 * 15) * 100, abs=1e-3)
    assert (row["novel"]["shot"], row["novel"]["precision"]) == (2, "bfloat16")
    assert row["peak_bytes"] > 0
    assert row["test_seconds"] > 0
    again = train_cells.run_cell(run, tmp_path)  # finished: trains nothing, measures the same
    assert again["seconds"] is None
    assert again["correct"] == row["correct"]
    assert again["validation"] == row["validation"]


@pytest.mark.parametrize("dataset", BASES)
def test_pictures_are_asked_for_in_words_that_their_reader_knows(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = glyphs.load_glyphs if dataset in glyphs.DATASETS else load_real

    def asked(name: str, split: str, root: str | None = None, **options: Any) -> ImageSet:
        checks.options(name, reader, options)
        return some_images(name, split)

    def no_training(*_: Any, **__: Any) -> None:
        raise FloatingPointError("not trained")

    monkeypatch.setattr(train_cells, "load_images", asked)
    monkeypatch.setattr(train_cells, "train", no_training)
    run = {"cell": "dmf", "shot": 1, "seed": 0}
    row = train_cells.run_cell(run, tmp_path, dataset=dataset, data_root=None if dataset == QUICK.dataset else "x")
    assert row["diverged"] == "not trained"


@pytest.mark.usefixtures("tiny")
def test_a_loss_that_is_not_finite_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = replace(TINY, learning_rate=1e9, steps=60)
    monkeypatch.setattr(train_cells, "setting", lambda cell, shot, dataset: hot)
    row = train_cells.run_cell({"cell": "dmf", "shot": 1, "seed": 0}, tmp_path)
    assert "the loss of nan is not finite at step" in row["diverged"]
    assert "novel" not in row


def made(cell: str, shot: int, seed: int, validation: float) -> Run:
    return Run("toy", CELLS[cell].factor, cell, shot, seed, validation=validation)


def test_validation_of_seed_0_chooses() -> None:
    rows = [
        made("can, common", 1, 0, 50.0),
        made("can, authors'", 1, 0, 51.0),
        made("can, common", 1, 1, 99.0),
        made("can, common", 5, 0, 60.0),
    ]
    assert train_cells.chosen(rows, "CAN", 1) == CELLS["can, authors'"]
    assert train_cells.chosen(rows, "CAN", 5) == CELLS["can, common"]  # the other is not trained yet
    diverged = Run("toy", "FEAT", "feat, authors'", 1, 0, diverged="the loss is nan")
    assert train_cells.chosen([diverged], "FEAT", 1) is None


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendedSweep:
    """Instead of trainings: on validation classes every common setting is better than its authors'."""
    made_up = PretendedSweep(lambda p: p | {"validation": 50.0 + ("common" in p["cell"])})
    monkeypatch.setattr(train_cells, "sweep", made_up)
    monkeypatch.setattr(train_cells, "RESULTS", tmp_path / "lab.jsonl")
    return made_up


def test_table1_is_filled_with_every_setting_and_more_seeds_of_the_chosen(
    tmp_path: Path, sweep: PretendedSweep
) -> None:
    rows = train_cells.fill(tmp_path, 1, (1,))
    assert len(sweep.asked) == len(TABLE1) + 2 * len(SYSTEMS)  # two settings at seed 0, one at seeds 1 and 2
    assert {(r.name, r.seed) for r in rows if r.name.startswith("can")} == {
        ("can, authors'", 0),
        ("can, common", 0),
        ("can, common", 1),
        ("can, common", 2),
    }


def test_at_half_the_price_the_settings_are_those_of_another_number_of_shots(
    tmp_path: Path, sweep: PretendedSweep
) -> None:
    rows = train_cells.fill(tmp_path, 1, (1,))
    sweep.asked.clear()
    train_cells.fill(tmp_path, 1, (5,), (0,), settings_of=1)
    assert {p["cell"] for p in sweep.asked} == {r.name for r in rows if r.seed == 1}
    assert len(sweep.asked) == len(SYSTEMS)
    with pytest.raises(ValueError, match=r"no setting of \['DMF', .* is trained at 10 shots"):
        train_cells.fill(tmp_path, 1, (5,), settings_of=10)


@pytest.mark.usefixtures("sweep")
def test_what_is_gathered_is_read_from_the_labs_file_alone(tmp_path: Path) -> None:
    rows = train_cells.fill(tmp_path, 1, (1,), (0,))
    assert train_cells.results() == []
    assert main(["table", "1", str(tmp_path), "--gather"]) == 0
    assert train_cells.results() == train_cells.fill(tmp_path / "none", 1, engine=None) == rows


@pytest.mark.usefixtures("sweep")
def test_a_mistyped_folder_or_dataset_is_not_gathered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for wrong, said in (
        (["typo", "--gather"], "typo is no folder"),
        (["empty", "--gather"], "empty holds no finished run"),
        (["empty", "--gather", "--dataset", "foo"], "the tables are measured on ['glyphs-mini', 'miniimagenet'], got"),
        (["empty", "--dataset", "foo"], "the tables are measured on ['glyphs-mini', 'miniimagenet'], got 'foo'"),
    ):
        assert main(["table", "1", str(tmp_path / wrong[0]), *wrong[1:]]) == 1
        assert said in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


@pytest.mark.usefixtures("sweep")
def test_table_2_shares_its_base_with_table_1(tmp_path: Path) -> None:
    rows = train_cells.fill(tmp_path, 1, (1,), (0,))
    assert len(train_cells.fill(tmp_path, 2, (1,), (0,))) == len(rows) + 10


def test_more_seeds_are_trained_of_what_decides_a_claim(tmp_path: Path, sweep: PretendedSweep) -> None:
    more = ["table", "2", str(tmp_path), "--shots", "1", "--seeds", "3", "4", "--cells", "align 0"]
    assert main(more) == 0
    assert sweep.asked == train_cells.grid([NO_ALIGNMENT], (1,), (3, 4))


PHOTOGRAPHS = ["--dataset", "miniimagenet", "--data-root", "x", "--shots", "1", "--seeds", "0", "--systems", "CAN"]


@pytest.mark.usefixtures("sweep")
def test_photographs_have_a_file_of_their_own(tmp_path: Path) -> None:
    assert main(["table", "1", str(tmp_path), *PHOTOGRAPHS]) == 0
    assert main(["table", "1", str(tmp_path), "--gather", "--dataset", "miniimagenet"]) == 0
    assert train_cells.results() == []
    assert {run.name for run in train_cells.results(dataset="miniimagenet")} == {"can, common", "can, authors'"}


def test_own_training_tries_the_first_setting_of_each_system_alone(tmp_path: Path, sweep: PretendedSweep) -> None:
    assert main(["table", "1", str(tmp_path), *PHOTOGRAPHS, "DMF", "--own-training"]) == 0
    assert [p["cell"] for p in sweep.asked] == ["can, authors'", "dmf"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"table": 2, "own_training": True}, "own_training, systems and settings_of are of Table 1"),
        ({"table": 2, "systems": ["DMF"]}, "of Table 2 choose by cells"),
        ({"table": 2, "settings_of": 1}, "of Table 2 choose by cells"),
        ({"table": 1, "settings_of": 0}, "settings_of must be at least 1, got 0"),
        ({"table": 1, "own_training": True, "settings_of": 1}, "own_training takes no settings_of"),
        ({"table": 1, "systems": ["CAN't"]}, "there is no system CAN't; there are DMF, ProtoNet"),
        ({"table": 1, "cells": [NO_ALIGNMENT]}, "of Table 1 validation chooses them"),
    ],
)
def test_what_contradicts_the_protocol_is_refused(
    wrong: dict[str, Any], said: str, tmp_path: Path, sweep: PretendedSweep
) -> None:
    with pytest.raises(ValueError, match=said):
        train_cells.fill(tmp_path, **wrong)
    assert sweep.asked == []
