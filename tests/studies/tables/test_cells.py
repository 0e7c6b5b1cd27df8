"""The cells of Tables 1 and 2 are what the paper's rows say."""

import pandas as pd
import pytest

from labkit.common import places
from labkit.studies.tables import cells
from labkit.studies.tables.cells import BASE, SYSTEMS, TABLE1, TABLE2, TABLES, Cell
from labkit.training.loop import build_model


def test_table2_has_the_papers_rows_and_eleven_cells_a_shot() -> None:
    paper = pd.read_csv(places.RESULTS / "paper_table2.csv", dtype=str)
    assert [(cell.factor, cell.value) for cell in TABLE2] == list(zip(paper["factor"], paper["value"], strict=True))
    for shot, column in ((1, "k1"), (5, "k5")):
        assert len(cells.cells_of_table2(shot)) == 11
        best = paper.loc[paper["value"] == "ode", column].item()
        for cell, reached in zip(TABLE2, paper[column], strict=True):
            if cells.trained_as(cell, shot) == BASE:  # shared with the base, so its number is the base's
                assert reached == best


@pytest.mark.parametrize("shot", [1, 5])
def test_a_cell_of_table2_differs_from_the_base_in_what_it_says(shot: int) -> None:
    base = cells.setting("dmf", shot)
    assert (base.steps, base.shot, base.groups) == (TABLES.steps, shot, {1: 16, 5: 40}[shot])
    for row in TABLE2:
        cell = cells.trained_as(row, shot)
        e = cells.setting(cell.name, shot)
        differs = {k for k, v in vars(e).items() if v != getattr(base, k)} - {"name"}
        expected = {"dynamic_sampling": "choices", "last_pooling": "backbone_options", "align": "choices"}
        assert differs == (set() if cell == BASE else {expected.get(row.factor, row.factor)})
        if cell != BASE and row.factor == "groups":
            assert e.groups == max(1, int(row.value) // 4)  # a quarter of the paper's channels
        if differs == {"choices"}:
            assert len(set(e.choices.items()) ^ set(base.choices.items())) <= 2


@pytest.mark.parametrize("cell", TABLE1, ids=lambda cell: cell.name)
def test_every_system_has_two_settings_that_can_be_built(cell: Cell) -> None:
    assert sum(other.factor == cell.factor for other in TABLE1) == 2
    for shot in (1, 5):
        e, base = cells.setting(cell.name, shot), cells.setting("dmf", shot)
        assert cells.image_passes(e) * e.steps == pytest.approx(cells.image_passes(base) * base.steps, rel=0.002)
        assert (e.steps == TABLES.steps) == (e.method != "maml")
        assert e.steps / e.validate_every == pytest.approx(2, abs=0.02)  # half-time and the end, however many
    build_model(e, 64, seed=0)


def test_every_name_is_of_one_cell() -> None:
    assert len(cells.CELLS) == len(TABLE1) + len(TABLE2) == 2 * len(SYSTEMS) + 14
    assert all(cells.row_of_table2(cell.factor, cell.value) is cell for cell in TABLE2)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ValueError, match="there is no cell 'groups 2'"):
        cells.setting("groups 2", 1)
    with pytest.raises(ValueError, match=r"\[1, 5\] shots, got 3"):
        cells.setting("dmf", 3)
    with pytest.raises(KeyError):
        cells.row_of_table2("groups", "2")
