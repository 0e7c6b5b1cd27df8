"""Results are written with how they were made, and rows of a sweep join the lab's own."""

import json
from pathlib import Path

import pytest

from labkit.sweeps.kept import all_rows, finished_rows, gather, read_rows, write_result, write_rows
from labkit.sweeps.sweep import Task, key_of


def keep(folder: Path, seed: int, value: float, version: int = 1) -> None:
    parameters = {"cell": "a", "seed": seed}
    task = Task(key_of(parameters, version), parameters, folder, version, "abc")
    task.keep(task.record(result=parameters | {"value": value}))


def test_a_result_says_what_it_is_and_how_to_make_it_again(tmp_path: Path) -> None:
    write_result(tmp_path / "x.json", "Title.\n\nWhat it\nis.\n\nMore.\n", "dmf-lab figure x", {"runs": [1, 2]})
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["what"], found["command"], found["runs"]) == ("What it is.", "dmf-lab figure x", [1, 2])
    assert "torch" in found["versions"]
    assert read_rows(tmp_path / "x.json") == [1, 2]


def test_newer_runs_of_a_sweep_take_the_place_of_the_labs_own(tmp_path: Path) -> None:
    file, folder = tmp_path / "rows.jsonl", tmp_path / "sweep"
    folder.mkdir()
    own = [{"cell": "a", "seed": seed, "value": 0.0} for seed in (2, 0, 1)]
    file.write_text("".join(json.dumps(row) + "\n" for row in own))
    keep(folder, 1, 1.0)
    keep(folder, 3, 3.0)
    keep(folder, 0, 9.0, version=2)  # of another version: does not count
    rows = all_rows(file, folder, 1, ("cell", "seed"))
    assert [(r["seed"], r["value"]) for r in rows] == [(0, 0), (1, 1), (2, 0), (3, 3)]
    assert rows[1]["commit"] == "abc"
    assert all_rows(file, None, 1, ("cell", "seed")) == sorted(own, key=lambda r: int(r["seed"]))
    assert read_rows(tmp_path / "none.json") == []


def test_gathering_adds_what_is_new_and_a_wrong_folder_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder, by = tmp_path / "rows.jsonl", tmp_path / "sweep", ("cell", "seed")
    folder.mkdir()
    write_rows(file, [{"cell": "a", "seed": seed, "value": 0.0} for seed in (0, 1)])
    before = file.read_bytes()
    for wrong, why in ((tmp_path / "typo", "is no folder"), (folder, "holds no finished run of this study")):
        with pytest.raises(ValueError, match=f"{wrong} {why}"):
            gather(file, wrong, finished_rows(wrong, 1), by)
    with pytest.raises(ValueError, match="holds no finished run of this study"):
        gather(file, folder, [{"part": "head"}], by)  # of another study
    assert file.read_bytes() == before
    keep(folder, 1, 1.0)
    keep(folder, 2, 2.0)
    gather(file, folder, finished_rows(folder, 1), by)
    assert [(r["seed"], r["value"]) for r in read_rows(file)] == [(0, 0), (1, 1), (2, 2)]
    assert f"2 of the 2 finished runs in {folder} are new in {file}" in capsys.readouterr().out
    gather(file, folder, finished_rows(folder, 1), by, lambda *_: pytest.fail("nothing is new"))
    assert "0 of the 2 finished runs" in capsys.readouterr().out
