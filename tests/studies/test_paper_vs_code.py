"""Paper against released code: the statistics, and a grid that is trained once and shared by processes."""

import json
from pathlib import Path

import pytest

from labkit.__main__ import main
from labkit.studies import paper_vs_code
from labkit.studies.paper_vs_code import PAPER_AND_CODE, setting
from labkit.training.loop import build_model
from tests.helpers.pretended_sweep import PretendedSweep


def row(cell: str, seed: int, novel: float) -> dict:
    return {"cell": cell, "seed": seed, "novel": {"accuracy": novel}, "validation": novel + 1}


ROWS = [
    *(row("paper", s, v) for s, v in enumerate((60.0, 62.0, 64.0))),
    *(row("relu", s, v) for s, v in enumerate((61.0, 63.5, 65.0))),
    *(row("border", s, v) for s, v in enumerate((50.0, 70.0, 64.0))),
    row("solver", 1, 61.0),
    {"cell": "printed loss", "seed": 0, "diverged": "the loss is nan"},
]


def test_table_and_verdicts() -> None:
    table = paper_vs_code.table(ROWS)
    assert list(table.index) == ["paper", "relu", "border", "solver"]  # nothing is made up for what diverged
    assert table.loc["relu", "novel difference"] == pytest.approx(7 / 6)
    assert table.loc["paper", "validation"] == pytest.approx(63)
    assert table.loc["solver", "novel difference"] == pytest.approx(-1)  # of the seed they share
    assert paper_vs_code.verdicts(table) == ["", "better", "not decidable", "not decidable"]
    assert paper_vs_code.figure(table).axes[0].get_legend() is not None


@pytest.mark.parametrize("cell", PAPER_AND_CODE)
def test_every_cell_is_a_model_that_differs_as_it_says(cell: str) -> None:
    e = setting(cell)
    assert (e.steps, e.bfloat16, e.name) == (800, True, f"paper and code: {cell}")
    model = build_model(e, 64, seed=0)
    base = build_model(setting("paper"), 64, seed=0)
    changed = {k for k, v in vars(model.choices).items() if v != getattr(base.choices, k)}
    asked = set(PAPER_AND_CODE[cell].get("choices", {}))
    assert changed >= asked - {"score_scale"}
    if "released" not in cell:
        assert changed == asked


def test_what_is_finished_is_gathered_and_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_vs_code, "RESULTS", tmp_path / "all.json")
    every = sorted(paper_vs_code.missing(), key=lambda p: (list(PAPER_AND_CODE).index(p["cell"]), p["seed"]))
    assert len(every) == 3 * len(PAPER_AND_CODE)
    trained = [p for p in every if p != {"cell": "relu", "seed": 1}]
    sweep = PretendedSweep(lambda p: row(**p, novel=50.0))
    sweep(paper_vs_code.run_cell, trained[::-1], folder=tmp_path, version=paper_vs_code.VERSION)
    assert main(["figure", "paper-vs-code", str(tmp_path), "--gather"]) == 0
    rows = json.loads((tmp_path / "all.json").read_text())["runs"]
    assert rows == [row(**p, novel=50.0) | {"commit": None} for p in trained]
    assert paper_vs_code.missing() == [{"cell": "relu", "seed": 1}]
    assert paper_vs_code.missing(["relu"], [0, 3]) == [{"cell": "relu", "seed": 3}]
    assert len(paper_vs_code.missing(["relu"], [0, 3], "miniimagenet")) == 2  # photographs are kept apart


def test_a_mistyped_folder_leaves_the_results_and_their_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paper_vs_code, "RESULTS", tmp_path / "all.json")
    (tmp_path / "all.json").write_text('{"date": "2020-01-01", "runs": []}')
    assert main(["figure", "paper-vs-code", str(tmp_path / "typo"), "--gather"]) == 1
    assert "typo is no folder: give the folder that the runs were made in" in capsys.readouterr().err
    assert (tmp_path / "all.json").read_text() == '{"date": "2020-01-01", "runs": []}'


def test_photographs_are_trained_as_the_same_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    e = setting("no alignment, released", "miniimagenet")
    assert (e.dataset, e.size, e.steps, e.preset) == ("miniimagenet", 42, 3000, "released")

    def made_up(p: dict) -> dict:
        if p["seed"] == 10:
            raise OSError("no room")
        return row(**p, novel=50.0)

    monkeypatch.setattr(paper_vs_code, "sweep", sweep := PretendedSweep(made_up))
    command = ["figure", "paper-vs-code", str(tmp_path), "--dataset", "miniimagenet", "--data-root", "/photos"]
    assert main([*command, "--cells", "released", "relu", "--seeds", "8", "9", "--workers", "1"]) == 0
    ((run, how),) = sweep.calls
    assert run.keywords == {"dataset": "miniimagenet", "data_root": "/photos"}
    assert [(p["seed"], p["cell"]) for p in sweep.asked] == [(8, "released"), (8, "relu"), (9, "released"), (9, "relu")]
    assert how == {"folder": tmp_path, "version": "1, miniimagenet", "workers": 1}
    assert main([*command, "--cells", "relu", "--seeds", "10"]) == 1
    assert "1 run failed, and what is finished is kept; the first is" in capsys.readouterr().err


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", "paper-vs-code", str(tmp_path), "--cells", "border", "relo"]) == 1
    assert "no 'relo' in paper against code; there are 'paper', 'released'" in capsys.readouterr().err
    assert main(["figure", "paper-vs-code", str(tmp_path), "--dataset", "tieredimagenet"]) == 1
    assert (
        "no 'tieredimagenet' in paper against code; there are 'glyphs-mini', 'miniimagenet'" in capsys.readouterr().err
    )
