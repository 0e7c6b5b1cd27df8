"""`make run`: every notebook in order, a failure reported and the others run all the same."""

import json
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from labkit import lab
from labkit.evaluation import Result


def write_notebook(path: Path, *lines: str) -> None:
    cells = [nbformat.v4.new_code_cell("runs = None", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(line) for line in lines]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), path)


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
    monkeypatch.setattr(sys, "argv", ["lab"])
    assert lab.main() == 1
    said = capfd.readouterr()
    assert "ValueError: no such image" in said.err
    assert "01_fails.ipynb failed" in said.err
    assert "[2/2] 02_writes.ipynb" in said.out
    assert "DMF             71.23 ± 0.46 %  (2000 episodes)" in said.out
    assert "runs/02_writes.ipynb" in said.out


def test_without_notebooks_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lab"])
    assert lab.main() == 1
    assert "no notebooks in notebooks" in capsys.readouterr().err


def test_a_run_is_kept_with_its_versions_and_read_back_by_promote_and_report(tmp_path: Path) -> None:
    per_episode = np.array([60.0, 80.0])
    result = Result(70.0, 19.6, (55.0, 85.0), per_episode, {"way": 5, "shot": 1, "episodes": 2, "seed": 0})
    table = lab.keep(tmp_path / "quick-seed0", {"DMF": result}, seed=0, validation=71.5)
    assert table.loc["DMF", "accuracy"] == 70.0
    kept = json.loads((tmp_path / "quick-seed0" / "result.json").read_text())
    assert kept["accuracies"]["DMF"] == result.summary()
    assert (kept["seed"], kept["validation"]) == (0, 71.5)
    assert {"torch", "numpy", "python"} <= set(kept["versions"])
    assert "70.0,19.6" in (tmp_path / "quick-seed0" / "accuracies.csv").read_text()


def test_a_hung_notebook_is_stopped_and_the_next_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "01_hangs.ipynb", "import time; time.sleep(600)")
    write_notebook(tmp_path / "notebooks" / "02_dies.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    write_notebook(tmp_path / "notebooks" / "03_runs.ipynb", "print('here')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "CELL_SECONDS", 4)
    monkeypatch.setattr(sys, "argv", ["lab"])
    assert lab.main() == 2
    said = capfd.readouterr()
    assert "stopped: A cell timed out" in said.err
    assert "stopped: Kernel died" in said.err
    assert "01_hangs.ipynb failed" in said.err
    assert "here" in (tmp_path / "runs" / "03_runs.ipynb").read_text()
