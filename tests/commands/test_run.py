"""`make run`: every notebook in order, a failure reported and the others run all the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from labkit.__main__ import main
from labkit.commands import run
from labkit.evaluation import provenance
from labkit.evaluation.protocol import Result
from labkit.models.checkpoints import read_header
from labkit.training import shipping
from labkit.training.loop import train
from labkit.training.settings import PRESETS
from tests.helpers.notebooks import write_notebook
from tests.helpers.tiny import BASE, TINY, VALIDATION
from tests.helpers.toys import toy_images

pytestmark = pytest.mark.integration


def test_runs_all_reports_the_failed_and_prints_the_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notebooks").mkdir()
    result = {"accuracies": {"DMF": {"accuracy": 71.234, "ci95": 0.456, "episodes": 2000}}}
    write_notebook(tmp_path / "notebooks" / "01_fails.ipynb", "raise ValueError('no such image')")
    write_notebook(
        tmp_path / "notebooks" / "02_writes.ipynb",
        "from pathlib import Path; folder = Path(runs) / 'quick-seed0'; folder.mkdir()",
        f"_ = (folder / 'result.json').write_text({json.dumps(result)!r})",
    )
    monkeypatch.chdir(tmp_path)
    assert main(["run"]) == 1
    said = capfd.readouterr()
    assert "ValueError: no such image" in said.out
    assert "01_fails.ipynb failed" in said.err
    assert "s  runs/02_writes.ipynb" in said.out
    assert "DMF             71.23 ± 0.46 %  (2000 episodes)" in said.out
    assert "runs/02_writes.ipynb" in said.out


def test_without_notebooks_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run"]) == 1
    assert "no notebooks in notebooks" in capsys.readouterr().err


def test_what_notebook_3_writes_is_read_by_ship_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    per_episode = np.array([60.0, 80.0])
    result = Result(70.0, 19.6, (55.0, 85.0), per_episode, {"way": 5, "shot": 1, "episodes": 2, "seed": 0})
    folder = tmp_path / "quick-seed0"
    train(TINY, BASE, VALIDATION, folder, progress=False)
    provenance.write_results(folder, {"DMF": result}, seed=0, validation=71.5)
    run.report(tmp_path)
    assert "DMF             70.00 ± 19.60 %  (2 episodes)" in capsys.readouterr().out
    monkeypatch.setattr(shipping, "load_images", lambda *_, **__: toy_images(seed=2, split="test"))
    monkeypatch.setitem(PRESETS, "mine", TINY)
    about = read_header(shipping.ship(folder, "mine", "papermill 03_train.ipynb", None, tmp_path, episodes=4))["about"]
    assert about["result"] == {"accuracies": {"DMF": result.summary()}, "validation": 71.5}
    assert about["versions"] == json.loads((folder / "result.json").read_text())["versions"]


def test_a_hung_notebook_is_stopped_and_the_next_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "01_hangs.ipynb", "import time; time.sleep(600)")
    write_notebook(tmp_path / "notebooks" / "02_dies.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    write_notebook(tmp_path / "notebooks" / "03_runs.ipynb", "print('here')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "CELL_SECONDS", 4)
    assert main(["run"]) == 2
    said = capfd.readouterr()
    assert "stopped: A cell timed out" in said.out
    assert "stopped: Kernel died" in said.out
    assert "01_hangs.ipynb failed" in said.err
    assert "here" in (tmp_path / "runs" / "03_runs.ipynb").read_text()


def test_the_forecast_counts_what_is_executed_at_once_and_the_training_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_work", lambda: 1.0)
    monkeypatch.setattr(run, "SECONDS", {"01_a": 240, "02_b": 240, run.LAST: 600})
    for cores, minutes in ((2, 14), (1, 18)):
        monkeypatch.setattr(run, "cores", lambda cores=cores: cores)
        run.announce(["01_a", "02_b", run.LAST], fast=False)
        assert f"{minutes} minutes" in capsys.readouterr().out
