"""The notebooks as files: executed, short, with one tagged cell of parameters, and true to the shipped results."""

import json
import re
from statistics import median

import nbformat
import pytest

from labkit.models.checkpoints import read_header
from tests.helpers.places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [c for c in notebook.cells if c.cell_type == "code"]


def test_every_code_cell_was_executed_in_order_without_an_error(notebook: nbformat.NotebookNode) -> None:
    counts = [c.execution_count for c in code(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run the notebook from top to bottom and save it"
    assert not [o for c in code(notebook) for o in c.outputs if o.output_type == "error"]


def test_every_figure_is_in_the_file(notebook: nbformat.NotebookNode) -> None:
    for cell in code(notebook):
        if "plt.show()" in cell.source:
            kinds = {kind for o in cell.outputs for kind in o.get("data", {})}
            assert "image/png" in kinds, cell.source


def test_short_enough_to_read(notebook: nbformat.NotebookNode) -> None:
    cells = code(notebook)
    assert len(cells) <= 15
    lines = [len([line for line in c.source.splitlines() if line.strip()]) for c in cells]
    assert median(lines) <= 8, lines


def test_parameters_sit_in_one_tagged_cell(notebook: nbformat.NotebookNode) -> None:
    tagged = [c for c in code(notebook) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert "runs" in tagged[0].source


def test_no_output_names_a_place_on_a_machine(notebook: nbformat.NotebookNode) -> None:
    outputs = [o for c in code(notebook) for o in c.outputs]
    shown = [{k: v for k, v in o.get("data", {}).items() if k != "image/png"} for o in outputs]
    text = json.dumps(shown) + "".join(o.get("text", "") for o in outputs)
    assert not re.search(r"/(home|root|tmp|work|Users|usr)/", text)


def test_ends_with_what_was_seen_and_three_exercises(notebook: nbformat.NotebookNode) -> None:
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    if "# Start here" in prose:
        assert "Where to go from here" in prose
        return
    assert "What was seen" in prose
    exercises = prose.split("Exercises")[1]
    assert re.findall(r"^(\d)\. ", exercises, flags=re.M) == ["1", "2", "3"]


def test_training_notebook_shows_its_stored_result_which_agrees_with_the_shipped_one() -> None:
    """Its training is not repeated by the tests, so what it shows must be what its run left, to the digit.

    The shipped network came of the same training with another version of torch, which ends a little elsewhere.
    """
    stored = json.loads((ROOT / "labkit" / "results" / "notebook3.json").read_text())
    shipped = read_header("quick")["about"]["result"]
    cells = code(nbformat.read(ROOT / "notebooks" / "03_train.ipynb", as_version=4))
    text = "".join(o.get("text", "") for c in cells for o in c.outputs)
    assert stored["accuracies"].keys() == shipped["accuracies"].keys()
    for which, result in stored["accuracies"].items():
        assert re.search(rf"{re.escape(which)}\s+{result['accuracy']:.2f} ± {result['ci95']:.2f} %", text), which
        other = shipped["accuracies"][which]
        assert result["accuracy"] == pytest.approx(other["accuracy"], abs=result["ci95"] + other["ci95"]), which
    assert f"best validation accuracy {stored['validation']:.2f} %" in text
