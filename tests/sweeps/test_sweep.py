"""Sweeps: what is finished stays finished, whatever is killed, and one run's failure is its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from filelock import FileLock

import labkit
from labkit.sweeps.engines import _submitted, local_places
from labkit.sweeps.sweep import changed_since, combinations, commit_of, finished, key_of
from labkit.sweeps.task import Task
from tests.helpers import sweep_runs
from tests.helpers.places import ROOT
from tests.helpers.sweep_runs import events


def start(run: str, grid: list[dict], folder: Path, workers: int = 1, **how: Any) -> subprocess.Popen:
    """A sweep in a process, and a process group, of its own."""
    code = (
        f"import labkit; from tests.helpers.sweep_runs import {run}\n"
        f"labkit.sweep({run}, {grid!r}, folder={str(folder)!r}, version=1, workers={workers})"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT, start_new_session=True, **how)


@pytest.mark.integration
def test_a_grid_is_done_once_and_is_one_call_from_a_table(tmp_path: Path) -> None:
    grid = {"x": [2, 3], "y": [[1, 2]]}
    done = labkit.sweep(sweep_runs.square, grid, folder=tmp_path, version=1, cpus=1, workers=2, progress=False)
    table = pd.json_normalize(done.rows)
    assert table["result.square"].tolist() == [4, 9]
    assert table["parameters.y"].tolist() == [[1, 2], [1, 2]]
    assert table["result.process.threads"].tolist() == [1, 1]
    assert (table["disk"] == 0).all()
    assert (table["memory"] > 1e7).all()
    pd.testing.assert_frame_equal(done.table(), table)
    # One more value costs one more run; a new version costs them all; the old results stay.
    more = labkit.sweep(sweep_runs.square, {"x": [2, 3, 4], "y": [[1, 2]]}, folder=tmp_path, version=1, progress=False)
    assert more.rows[:2] == done.rows
    assert len(events(tmp_path, "finished")) == 3
    assert labkit.sweep(sweep_runs.square, [{"x": 2, "y": [1, 2]}], folder=tmp_path, version="2", progress=False).rows
    assert len(events(tmp_path, "started")) == 4
    assert len(finished(tmp_path)) == 4
    assert [r["result"]["square"] for r in finished(tmp_path, version="2")] == [4]


@pytest.mark.integration
def test_failures_are_reported_stop_nothing_and_are_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    grid = [{"x": i, "how": how} for i, how in enumerate(("well", "raises", "dies", "answers with a set", "well"))]
    done = labkit.sweep(sweep_runs.fragile, grid, folder=tmp_path, version=1, workers=1)
    assert [r["result"]["x"] for r in done.rows] == [0, 4]
    said = [r["error"] for r in done.failed]
    assert said[0] == "ZeroDivisionError: no such seed"
    assert said[1].startswith("its process ended with exit code -9")
    assert "the result must be made of JSON types" in said[2]
    assert "fragile" in done.failed[0]["traceback"]
    assert 'raise ZeroDivisionError("no such seed")' in capsys.readouterr().out
    assert not done.unfinished
    left = labkit.sweep(sweep_runs.fragile, grid, folder=tmp_path, version=1, retry_failed=False, progress=False)
    assert (len(left.failed), len(events(tmp_path, "started"))) == (3, 5)
    (tmp_path / "healed").touch()
    healed = labkit.sweep(sweep_runs.fragile, grid, folder=tmp_path, version=1, workers=1, progress=False)
    assert [r["result"]["x"] for r in healed.rows] == [0, 1, 2, 3, 4]
    assert not healed.failed
    assert not list(tmp_path.glob("*.error.json"))
    assert len(events(tmp_path, "started")) == 8


def test_a_damaged_record_is_named_and_nobody_throws_it_away_unasked(tmp_path: Path) -> None:
    task = Task(key_of({"x": 1}, 1), {"x": 1}, tmp_path, 1, None)
    task.keep(task.record(result=1))
    record = task.file(".json")
    record.write_text(record.read_text()[:-9])
    for read in (
        lambda: finished(tmp_path),
        lambda: labkit.sweep(sweep_runs.square, {"x": [1]}, folder=tmp_path, version=1, progress=False),
    ):
        with pytest.raises(ValueError, match=rf"{record.name} is damaged .*; delete it, and the run is done again"):
            read()
    assert record.exists()


def test_json_files_of_others_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    task = Task(key_of({"x": 1}, 1), {"x": 1}, tmp_path, 1, None)
    task.keep(task.record(result=1))
    for name, content in (("notes", "{}"), ("0" * 16, "{}"), ("1" * 16, "[1]"), ("half", "{"), ("2" * 17, "{")):
        (tmp_path / f"{name}.json").write_text(content)
    assert [r["key"] for r in finished(tmp_path)] == [task.key]


@pytest.mark.integration
def test_a_folder_that_cannot_be_written_ends_the_sweep_with_the_reason(tmp_path: Path) -> None:
    grid = [{"x": i, "how": how} for i, how in enumerate(("well", "may write nothing more", "well"))]
    with pytest.raises(OSError, match=r"\.log cannot be written: the file would be larger than is allowed"):
        labkit.sweep(sweep_runs.fragile, grid, folder=tmp_path, version=1, workers=1, progress=False)
    assert [r["result"]["x"] for r in finished(tmp_path)] == [0]
    (tmp_path / key_of(grid[2], 1)).touch()
    with pytest.raises(OSError, match="a file is where a folder should be"):
        labkit.sweep(sweep_runs.fragile, grid[2:], folder=tmp_path, version=1, workers=1, progress=False)


def test_a_sweep_s_folder_that_cannot_be_made_is_said_before_any_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "sweep"):
        with pytest.raises(OSError, match=f"{folder} cannot be written: a file is where a folder should be, choose"):
            labkit.sweep(sweep_runs.square, {"x": [1]}, folder=folder, version=1, progress=False)


def test_on_a_cluster_such_a_folder_fails_the_run_and_not_the_sweep(tmp_path: Path) -> None:
    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        cause = PermissionError("the disk of that machine")

    def get(_: str) -> None:
        raise RayTaskError

    errors = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    ray = SimpleNamespace(exceptions=errors, get=get, wait=lambda all_: (all_[:1], all_[1:]))
    tasks = [Task(f"{i}" * 16, {"x": i}, tmp_path, 1, None) for i in range(2)]
    failed = [record for _, record in _submitted(tasks, ray, lambda task: task.key, None)]
    assert [record["error"] for record in failed if record] == ["PermissionError: the disk of that machine"] * 2


@pytest.mark.integration
def test_killed_in_the_middle_of_writing_a_result(tmp_path: Path) -> None:
    grid = [{"x": i} for i in range(4)]
    assert start("killed_while_writing", grid, tmp_path).wait(timeout=120) == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert len(list(tmp_path.glob(".*.json-*"))) == 1  # half a result, under a name that nothing reads
    done = labkit.sweep(sweep_runs.killed_while_writing, grid, folder=tmp_path, version=1, workers=1, progress=False)
    assert [r["result"]["x"] for r in done.rows] == [0, 1, 2, 3]
    started = events(tmp_path, "started")
    assert [started.count(key_of(p, 1)) for p in grid] == [1, 1, 2, 1]
    assert not list(tmp_path.glob(".*.json-*"))


@pytest.mark.integration
def test_workers_leave_nothing_of_their_progress_bars(tmp_path: Path) -> None:
    sweep = start("with_a_bar", [{"x": 1}, {"x": 2}], tmp_path, workers=2, stderr=subprocess.PIPE, text=True)
    assert "leaked" not in sweep.communicate(timeout=120)[1]
    assert len(finished(tmp_path)) == 2


@pytest.mark.integration
def test_two_sweeps_share_a_folder_and_one_takes_over_from_the_other_killed(tmp_path: Path) -> None:
    """The other's driver alone is killed, in the middle of a run: its worker must end with it, and its run go on."""
    grid = [{"seconds": 2, "i": i} for i in range(5)]
    keys = [key_of(p, 1) for p in grid]
    other = start("slow", grid, tmp_path)
    while len(events(tmp_path, "started")) < 2 and other.poll() is None:
        time.sleep(0.05)
    timer = threading.Timer(1.0, other.kill)
    timer.start()
    done = labkit.sweep(sweep_runs.slow, grid, folder=tmp_path, version=1, workers=1, progress=False)
    timer.join()
    assert other.wait() == -signal.SIGKILL
    assert [r["parameters"]["i"] for r in done.rows] == list(range(5))
    assert sorted(events(tmp_path, "finished")) == sorted(keys)
    halves = 0
    for row in done.rows:
        steps, processes = zip(*(line.split(":") for line in row["result"]["counted"]), strict=True)
        assert steps == tuple("0123456789")  # none twice: a worker that went on unseen would have counted too
        assert events(tmp_path, "started").count(row["key"]) == len(set(processes))
        halves += len(set(processes)) == 2
    assert halves == 1


@pytest.mark.integration
def test_each_run_sees_its_own_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    done = labkit.sweep(sweep_runs.square, {"x": [1, 2]}, folder=tmp_path, version=1, progress=False)
    assert sorted(r["result"]["process"]["gpu"] for r in done.rows) == ["0", "1"]
    assert local_places(1, 0.5) == ["0", "1", "0", "1"]
    assert local_places(1, 2) == ["0,1"]
    assert set(local_places(1, 0)) == {""}
    with pytest.raises(ValueError, match=r"a fraction of one GPU, or whole ones, and not 1\.5"):
        local_places(1, 1.5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert local_places(1, None) == ["5", "7"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    cores = len(local_places(1, None))
    assert len(local_places(2, None)) == max(1, cores // 2)


def test_what_others_hold_can_be_left_to_them(tmp_path: Path) -> None:
    grid = [{"x": 1}, {"x": 2}]
    with FileLock(tmp_path / f"{key_of(grid[0], 1)}.lock"):
        done = labkit.sweep(sweep_runs.square, grid, folder=tmp_path, version=1, wait=False, progress=False)
    assert [r["parameters"] for r in done.rows] == grid[1:]
    assert done.unfinished == grid[:1]


def test_keys_and_combinations() -> None:
    assert key_of({"a": 1, "b": [2]}, 1) == key_of({"b": [2], "a": 1}, 1)
    assert len({key_of({"a": 1}, 1), key_of({"a": 1}, 2), key_of({"a": 1}, "1"), key_of({"a": 2}, 1)}) == 4
    assert combinations({"a": [1, 2], "b": [(3,)]}) == [{"a": 1, "b": [3]}, {"a": 2, "b": [3]}]
    assert combinations([{"a": 1}]) == [{"a": 1}]
    with pytest.raises(TypeError, match="must be made of JSON types"):
        combinations([{"a": Path()}])


def test_what_cannot_be_swept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no engine 'dask'; there are"):
        labkit.sweep(sweep_runs.square, [], "dask", folder=tmp_path, version=1)
    with pytest.raises(ValueError, match="has no address"):
        labkit.sweep(sweep_runs.square, [], folder=tmp_path, version=1, address="10.0.0.1:6379")
    with pytest.raises(ValueError, match="8 GPUs a run were asked for"):
        labkit.sweep(sweep_runs.square, [], folder=tmp_path, version=1, gpus=8)


def test_results_of_changed_code_are_flagged(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    code = tmp_path / "package"
    code.mkdir()
    assert commit_of(code) is None
    assert not changed_since("0123456789ab", code)
    (code / "a.py").write_text("x = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    first = commit_of(code)
    assert first is not None
    assert len(first) == 12
    assert not changed_since(first, code)
    (tmp_path / "README.md").write_text("another commit, the same code\n")
    git("add", ".")
    git("commit", "-m", "two")
    assert not changed_since(first, code)
    (code / "a.py").write_text("x = 2\n")
    assert changed_since(first, code)
    assert commit_of(code) == f"{commit_of(tmp_path)}"
    assert str(commit_of(code)).endswith("+")
    git("checkout", "--", ".")
    (tmp_path / "method.py").write_text("y = 1\n")  # the swept function calls it, from another folder
    git("add", ".")
    assert changed_since(first, code)
    git("commit", "-m", "three")
    assert changed_since(first, code)
    assert changed_since("0123456789ab", code)  # a commit that is not here
