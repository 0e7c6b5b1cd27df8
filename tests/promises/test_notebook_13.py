"""Notebook 13 as somebody runs it, and as somebody breaks it: from an idea to a verdict in a minute of work."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labkit.studies.tables.head_runs import maps_of
from tests.helpers.places import ROOT

pytestmark = pytest.mark.integration
NOTEBOOK = ROOT / "notebooks" / "13_your_method.ipynb"
QUICK = {"steps": 20, "seeds": [0]}
OWN = """
class Mine(nn.Module):
    def score(self, support, query):
        return -torch.cdist(query.flatten(2), support.mean(2).flatten(2))

head = Mine
"""
NAN = OWN.replace("return -", "return float('nan') * ")


def run(folder: Path, head: str | None = None, **parameters: object) -> tuple[int, str, str]:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cell = next(c for c in notebook.cells if c.source.startswith("class Mine"))
    cell.source = head or cell.source
    nbformat.write(notebook, folder / "mine.ipynb")
    given = json.dumps(QUICK | {"runs": str(folder)} | parameters)
    command = [sys.executable, "-m", "papermill", str(folder / "mine.ipynb"), str(folder / "out.ipynb")]
    environment = {k: v for k, v in os.environ.items() if k != "LABKIT_STEPS"}
    done = subprocess.run(
        [*command, "--no-progress-bar", "-y", given], cwd=ROOT / "notebooks", env=environment, text=True,
        capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    cells = nbformat.read(folder / "out.ipynb", as_version=4).cells
    said = "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)
    return done.returncode, said, done.stderr


def test_the_template_reaches_a_verdict_in_a_minute_of_work_and_counts_the_looks(tmp_path: Path) -> None:
    maps_of("quick-none", "glyphs-mini")  # are made once, and kept
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, said, errors = run(tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert code == 0, errors[-2000:]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    assert "on validation classes, 1 seeds" in said
    assert "Novel classes: never." in said
    assert "This measures them:\ndmf-lab table 1" in said
    assert json.loads((tmp_path / "your_method" / "Mine.json").read_text())["looks"] == 0
    assert (tmp_path / "figures").is_dir()
    code, said, errors = run(tmp_path, look=True)
    assert code == 0, errors[-2000:]
    assert "Novel classes were looked at once from this folder." in said


def test_a_head_without_maps_runs_and_a_broken_one_stops_with_a_sentence(tmp_path: Path) -> None:
    code, said, errors = run(tmp_path, OWN)
    assert code == 0, errors[-2000:]
    assert "this head has no score_maps" in said
    code, _, errors = run(tmp_path, NAN)
    assert code != 0
    assert "Mine.score gives" in errors
    assert "not finite before anything is trained" in errors
