"""Ideas are trained beside the baselines, kept by seed, chosen on validation classes, and displaced pictures played."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labkit.__main__ import main
from labkit.common.files import append
from labkit.common.places import RESULTS
from labkit.studies import idea_runs
from labkit.studies.displacement import shifted
from tests.helpers.pretended_sweep import PretendedSweep
from tests.helpers.toy_maps import PICTURES, backbone, toy_maps

MAPS = toy_maps()
WHERE: dict[str, Any] = {"dataset": "toy", "backbone": MAPS.base.backbone, "shot": 1, "seed": 0}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idea_runs, "maps_of", lambda *_, **__: MAPS)
    novel = PICTURES[2]
    monkeypatch.setattr(idea_runs, "_moved", lambda *_: (novel, shifted.embedder(backbone(), novel, "mirrored")))
    monkeypatch.setattr(idea_runs, "DISPLACED", replace(idea_runs.DISPLACED, episodes=4))
    monkeypatch.setattr(idea_runs, "BASE_GROUPS", {1: 4})


@pytest.mark.integration
def test_two_stages_share_a_training_and_every_seed_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*idea_runs.BASELINES, "Contrast"):
        for stage in (idea_runs.VALIDATION, idea_runs.NOVEL):
            run = WHERE | {"name": name, "stage": stage}
            row = idea_runs.run_idea(run, tmp_path / f"{name}{stage}", backbone="b", steps=4, episodes=4)
            assert json.loads(json.dumps(row)) == row
            assert bool(row["novel"]) == (stage == idea_runs.NOVEL)
    lines = (tmp_path / idea_runs.FILE).read_text().splitlines()
    assert len(lines) == 8
    found = idea_runs.rows(tmp_path, steps=4)
    assert idea_runs.chosen(found, 1) == "Contrast"
    by = {(r["system"], r["stage"]): r for r in found}
    assert by["Contrast", "novel"]["validation"] == by["Contrast", "validation"]["validation"]
    assert by["Contrast", "novel"]["seconds"] is None  # found again, not trained anew
    assert set(by["DMF", "novel"]["displaced"]) == {"apart 0", "together 0.5", "apart 0.5"}
    table = idea_runs.table([r for r in found if r["stage"] == "novel"], "novel")
    own = table.set_index("head").loc["Contrast"]
    assert own["minus DMF"] == pytest.approx(
        by["Contrast", "novel"]["novel"]["accuracy"] - by["DMF", "novel"]["novel"]["accuracy"]
    )
    assert {"together 0.5", "apart 0.5"} <= set(table.columns)
    (tmp_path / "lab").mkdir()
    monkeypatch.setattr(idea_runs, "RESULTS", tmp_path / "lab")
    monkeypatch.setattr(idea_runs, "STEPS", 4)
    with pytest.raises(ValueError, match="no finished run"):  # four episodes are a first look
        idea_runs.gather(write_lines(tmp_path / "look", *(r for r in found if r["stage"] == "novel")))
    monkeypatch.setattr(idea_runs, "EPISODES", 4)
    idea_runs.gather(tmp_path)
    kept = idea_runs.table(idea_runs.rows(tmp_path / "lab", stage=idea_runs.NOVEL), idea_runs.NOVEL)
    pd.testing.assert_frame_equal(kept, table, atol=1e-3)


def line(seed: int, validation: float, **more: Any) -> dict[str, Any]:
    """What a run writes of an idea on validation classes."""
    of = WHERE | {"seed": seed, "system": "Contrast", "stage": idea_runs.VALIDATION, "validation": validation}
    return of | {"novel": {}, "correct": "", "diverged": "", "weights": 1, "steps": idea_runs.STEPS} | more


def write_lines(folder: Path, *lines: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / idea_runs.FILE).write_text("".join(json.dumps(row) + "\n" for row in lines))
    return folder


def test_gathering_keeps_the_lab_s_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = write_lines(tmp_path / "lab", line(0, 50.0), line(1, 51.0))
    monkeypatch.setattr(idea_runs, "RESULTS", lab)
    before = (lab / idea_runs.FILE).read_bytes()
    (tmp_path / "empty").mkdir()
    for wrong, said in (("typo", "typo is no folder"), ("empty", "empty holds no finished run")):
        assert main(["ideas", str(tmp_path / wrong), "--gather"]) == 1
        assert said in capsys.readouterr().err
    assert (lab / idea_runs.FILE).read_bytes() == before
    some = write_lines(tmp_path / "some", line(1, 61.0), line(2, 62.0))
    assert main(["ideas", str(some), "--gather"]) == 0
    assert {r["seed"]: r["validation"] for r in idea_runs.rows(lab)} == {0: 50.0, 1: 61.0, 2: 62.0}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(idea_runs.rows("~/some")) == 2


def test_a_first_look_is_never_mixed_with_full_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_up(p: dict[str, Any]) -> dict[str, Any]:
        (steps,) = {run.keywords["steps"] for run, _ in sweep.calls[-1:]}
        row = line(p["seed"], 60.0 if steps == idea_runs.STEPS else 20.0, asked_steps=steps) | {"system": p["name"]}
        append(tmp_path / idea_runs.FILE, (json.dumps(row) + "\n").encode())
        return row

    monkeypatch.setattr(idea_runs, "sweep", sweep := PretendedSweep(made_up))

    def reached(seeds: list[int], steps: int) -> list[float]:
        shown = idea_runs.fill(tmp_path, "b", "toy", shots=[1], seeds=seeds, names=["Contrast"], steps=steps)
        return [float(value) for value in shown["accuracy, %"]]

    assert reached([0, 1], idea_runs.STEPS) == [60.0]
    assert reached([1, 2], 3) == [20.0]
    assert reached([0, 1], idea_runs.STEPS) == [60.0]  # finished before: its lines are not written again
    monkeypatch.setattr(idea_runs, "RESULTS", tmp_path / "lab")
    idea_runs.gather(tmp_path)
    assert {r["seed"]: r["validation"] for r in idea_runs.rows(tmp_path / "lab")} == {0: 60.0, 1: 60.0}


def test_every_idea_says_in_a_line_what_it_changes() -> None:
    said = idea_runs.what_changes()
    assert list(said) == list(idea_runs.BY_NAME)
    assert all(40 < len(line) < 130 and line.endswith(".") for line in said.values()), said


def test_the_lab_s_own_results_hold_every_idea_with_its_command_and_the_chosen_one_on_novel_classes() -> None:
    found = idea_runs.rows(RESULTS, dataset="miniimagenet", shot=1)
    assert {row["system"] for row in found if row["stage"] == idea_runs.VALIDATION} == set(idea_runs.NAMES)
    assert all(row["command"].startswith("dmf-lab ideas") and row["versions"]["torch"] for row in found)
    best = idea_runs.chosen(found, 1)
    seeds = {row["seed"] for row in found if row["stage"] == idea_runs.NOVEL and row["system"] == best}
    assert seeds == set(range(5))


def test_the_second_stage_needs_the_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run the command without --novel first"):
        idea_runs.fill(tmp_path, "b", "toy", shots=[1], novel=True, progress=False)
    with pytest.raises(
        ValueError, match="there is no idea 'Nonsense'; there are 'DMF', 'No alignment', 'No alignment, normalised', "
    ):
        idea_runs.fill(tmp_path, "b", "toy", names=["Nonsense"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--shots", "3"], "the tables have [1, 5] shots, got [3]"),
        (["--seeds", "0", "-1"], "a seed must be at least 0, got -1"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused_once_and_first(
    wrong: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(idea_runs, "maps_of", lambda *_, **__: pytest.fail("maps take minutes"))
    assert main(["ideas", str(tmp_path / "x"), "--backbone", "b", *wrong]) == 1
    assert capsys.readouterr().err.startswith(f"dmf-lab ideas: {said}")
    assert not (tmp_path / "x").exists()


def test_a_head_is_played_in_place_apart_and_together() -> None:
    class Same(type(backbone())):  # type: ignore[misc]
        def score(self, support: Any, query: Any, support_mask: Any = None) -> Any:
            return -(query[:, :, None] - support[:, None, :, 0]).flatten(3).norm(dim=-1)

    head = Same("conv4", classes=6, backbone_options={"width": 16})
    found = idea_runs.displaced(head, 1, PICTURES[2], shifted.embedder(backbone(), PICTURES[2], "mirrored"))
    assert {len(values) for values in found.values()} == {4}
    assert np.mean(found["apart 0"]) > 20
