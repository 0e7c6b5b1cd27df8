"""Tables 1 and 2: their cells are what the paper's rows say, and a run is a result in JSON types."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from labkit.common import places
from labkit.data.imageset import ImageSet
from labkit.studies.tables import cells
from labkit.training.loop import build_model
from labkit.training.settings import TABLE1, TABLE2, TABLES
from tests.helpers.tiny import TINY
from tests.helpers.toys import toy_images

RESULTS = places.RESULTS


def test_table2_has_the_papers_rows_and_eleven_cells_a_shot() -> None:
    paper = pd.read_csv(RESULTS / "paper_table2.csv", dtype=str)
    assert list(TABLE2) == list(zip(paper["factor"], paper["value"], strict=True))
    for shot, column in ((1, "k1"), (5, "k5")):
        assert len(cells.cells_of_table2(shot)) == 11
        best = paper.loc[paper["value"] == "ode", column].item()
        for factor, value, reached in zip(paper["factor"], paper["value"], paper[column], strict=True):
            if cells.cell_of_table2(factor, value, shot) == "dmf":  # shared with the base, so its number is the base's
                assert reached == best


@pytest.mark.parametrize("shot", [1, 5])
def test_a_cell_of_table2_differs_from_the_base_in_what_it_says(shot: int) -> None:
    base = cells.setting("dmf", shot)
    assert (base.steps, base.shot, base.groups) == (TABLES.steps, shot, {1: 16, 5: 40}[shot])
    for factor, value in TABLE2:
        cell = cells.cell_of_table2(factor, value, shot)
        e = cells.setting(cell, shot)
        differs = {k for k, v in vars(e).items() if v != getattr(base, k)} - {"name"}
        expected = {"dynamic_sampling": "choices", "last_pooling": "backbone_options", "align": "choices"}
        assert differs == (set() if cell == "dmf" else {expected.get(factor, factor)})
        if cell != "dmf" and factor == "groups":
            assert e.groups == max(1, int(value) // 4)  # a quarter of the paper's channels
        if differs == {"choices"}:
            assert len(set(e.choices.items()) ^ set(base.choices.items())) <= 2


@pytest.mark.parametrize("cell", [cell for settings in TABLE1.values() for cell in settings])
def test_every_system_has_two_settings_that_can_be_built(cell: str) -> None:
    row = next(settings for settings in TABLE1.values() if cell in settings)
    assert len(row) == 2
    for shot in (1, 5):
        e, base = cells.setting(cell, shot), cells.setting("dmf", shot)
        assert cells.image_passes(e) * e.steps == pytest.approx(cells.image_passes(base) * base.steps, rel=0.002)
        assert (e.steps == TABLES.steps) == (e.method != "maml")
        assert e.steps / e.validate_every == pytest.approx(2, abs=0.02)  # half-time and the end, however many
    build_model(e, 64, seed=0)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ValueError, match="there is no cell 'groups 2'"):
        cells.setting("groups 2", 1)
    with pytest.raises(ValueError, match=r"\[1, 5\] shots, got 3"):
        cells.setting("dmf", 3)


def test_the_grid_takes_seeds_before_cells() -> None:
    runs = cells.grid(["dmf", "align 0"], seeds=(0, 1))
    assert [(r["seed"], r["cell"]) for r in runs] == [(0, "dmf"), (0, "align 0"), (1, "dmf"), (1, "align 0")]


def some_images(dataset: str, split: str, **_: Any) -> ImageSet:
    return toy_images(seed=["train", "val", "test"].index(split), split=split)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "load_images", some_images)
    monkeypatch.setattr(cells, "setting", lambda cell, shot: replace(TINY, shot=shot, bfloat16=True))
    monkeypatch.setattr(cells, "EPISODES", 10)


@pytest.mark.usefixtures("tiny")
def test_a_run_is_a_result_and_the_same_when_resumed(tmp_path: Path) -> None:
    run = {"cell": "dmf", "shot": 2, "seed": 1}
    row = cells.run_cell(run, tmp_path)
    assert json.loads(json.dumps(row)) == row
    assert row | run == row
    assert row["novel"]["accuracy"] == pytest.approx(sum(map(int, row["correct"].split())) / (10 * 15) * 100, abs=1e-3)
    assert (row["novel"]["shot"], row["novel"]["precision"]) == (2, "bfloat16")
    assert row["peak_bytes"] > 0
    assert row["test_seconds"] > 0
    again = cells.run_cell(run, tmp_path)  # finished: trains nothing, measures the same
    assert again["seconds"] is None
    assert again["correct"] == row["correct"]
    assert again["validation"] == row["validation"]


@pytest.mark.usefixtures("tiny")
def test_a_loss_that_is_not_finite_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = replace(TINY, learning_rate=1e9, steps=60)
    monkeypatch.setattr(cells, "setting", lambda cell, shot: hot)
    row = cells.run_cell({"cell": "dmf", "shot": 1, "seed": 0}, tmp_path)
    assert "the loss of nan is not finite at step" in row["diverged"]
    assert "novel" not in row


def made(cell: str, shot: int, seed: int, validation: float) -> dict[str, Any]:
    return {"cell": cell, "shot": shot, "seed": seed, "validation": validation}


def test_validation_of_seed_0_chooses() -> None:
    rows = [
        made("can", 1, 0, 50.0),
        made("can, rate 0.2", 1, 0, 51.0),
        made("can", 1, 1, 99.0),
        made("can", 5, 0, 60.0),
    ]
    assert cells.chosen(rows, "CAN", 1) == "can, rate 0.2"
    assert cells.chosen(rows, "CAN", 5) == "can"  # the other is not trained yet
    assert cells.chosen([{"cell": "feat", "shot": 1, "seed": 0, "diverged": "the loss is nan"}], "FEAT", 1) is None


def test_table1_is_filled_with_every_setting_and_more_seeds_of_the_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def sweep(run: Any, runs: list[dict[str, Any]], engine: str, *, folder: Path, expected: Any, **how: Any) -> None:
        assert all(60 < expected(p).seconds < 3 * 3600 for p in runs)
        for p in runs:
            if p not in asked:
                asked.append(p)
                record = {
                    "version": how["version"],
                    "made": "",
                    "key": str(len(asked)),
                    "commit": "abc",
                    "parameters": p,
                }
                row = p | {"validation": 50.0 + ("rate" in p["cell"])}
                (folder / f"{len(asked)}.json").write_text(json.dumps(record | {"result": row}))

    monkeypatch.setattr(cells, "sweep", sweep)
    monkeypatch.setattr(cells, "RESULTS", tmp_path / "lab.jsonl")
    rows = cells.fill(tmp_path, 1, (1,))
    assert len(asked) == 2 * len(TABLE1) + 2 * len(TABLE1)  # two settings at seed 0, one at seeds 1 and 2
    assert {(r["cell"], r["seed"]) for r in rows if r["cell"].startswith("can")} == {
        ("can", 0),
        ("can, rate 0.2", 0),
        ("can, rate 0.2", 1),
        ("can, rate 0.2", 2),
    }
    before = len(asked)
    cells.fill(tmp_path, 1, (5,), (0,), settings_of=1)  # at half the price: the settings of one shot
    assert {p["cell"] for p in asked[before:]} == {r["cell"] for r in rows if r["seed"] == 1}
    assert len(asked) == before + len(TABLE1)
    with pytest.raises(ValueError, match=r"no setting of \['DMF', .* is trained at 10 shots"):
        cells.fill(tmp_path, 1, (5,), settings_of=10)
    rows = cells.results(tmp_path)
    monkeypatch.setattr("sys.argv", ["tables", str(tmp_path), "--gather"])
    cells.main()
    assert cells.results() == cells.fill(tmp_path / "none", 1, engine=None) == rows  # from the lab's file alone
    filled = cells.fill(tmp_path, 2, (1,), (0,))
    assert len(filled) == len(rows) + 10  # the base is shared with Table 1
    monkeypatch.setattr(
        "sys.argv", ["tables", str(tmp_path), "--shots", "1", "--seeds", "3", "4", "--cells", "align 0"]
    )
    cells.main()  # more seeds of what decides a claim
    assert asked[-2:] == cells.grid(["align 0"], (1,), (3, 4))
    with pytest.raises(ValueError, match="of Table 1 validation chooses them"):
        cells.fill(tmp_path, 1, cells=["align 0"])
