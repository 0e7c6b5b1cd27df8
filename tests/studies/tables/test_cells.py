"""The cells of Tables 1 and 2 are what the paper's rows say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from labkit.common import places
from labkit.models.registry import METHODS
from labkit.studies.tables import cells, table1
from labkit.studies.tables.cells import BASE, SYSTEMS, TABLE1, TABLE2, TABLES, Cell
from labkit.training.loop import build_model
from labkit.training.optimisers import parameter_groups


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


def test_every_published_system_has_the_same_number_of_settings() -> None:
    paper = set(pd.read_csv(places.RESULTS / "paper_table1.csv")["model"])
    assert {table1.NAMES.get(name, name) for name in paper} == set(SYSTEMS)
    assert len(SYSTEMS) == 23
    assert all(sum(cell.factor == system for cell in TABLE1) == 2 for system in SYSTEMS)


@pytest.mark.parametrize("dataset", cells.BASES)
@pytest.mark.parametrize("cell", TABLE1, ids=lambda cell: cell.name)
def test_every_setting_has_the_same_image_passes_and_ends_with_a_validation_of_its_method(
    cell: Cell, dataset: str
) -> None:
    for shot in (1, 5):
        e, base = cells.setting(cell.name, shot, dataset), cells.setting("dmf", shot, dataset)
        assert e.dataset == dataset
        # No nearer than half a step of every phase, of which MetaOptNet's on glyphs have 22.
        assert cells.image_passes(e) == pytest.approx(cells.image_passes(base), rel=0.04)
        for phase in e.plan:
            assert phase.steps / phase.validate_every == pytest.approx(2, abs=0.2)  # at half of it and at its end
        assert e.plan[-1].selection == "method"
    own = METHODS[e.method].authors_training
    assert bool(cell.training) == bool(e.phases)
    assert e.method == "vfsl" or e.method == "dmf" or any(c.training == own for c in TABLE1 if c.factor == cell.factor)


def test_authors_phases_keep_their_shape_and_pictures_and_episodes_have_half_each() -> None:
    e = cells.setting("dynamic_fewshot, authors', averaging", 5, "miniimagenet")
    assert e.choices == {"novel": 5, "kind": "averaging"}
    assert [phase.learning_rate for phase in e.phases] == [0.1, 0.006, 0.0012, 0.00024] * 2
    half = cells.image_passes(cells.setting("dmf", 5, "miniimagenet")) / 2
    for kind in ("pictures", "episodes"):
        passes = [p.steps * cells.passes_of_a_step(e, p) for p in e.phases if p.batch == kind]
        assert sum(passes) == pytest.approx(half, rel=0.02)
        assert np.array(passes) / sum(passes) == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6], abs=0.02)
    fast, slow = (cells.setting(f"leo, authors'{more}", 1).phases for more in (", 10 x the rate", ""))
    assert [a.learning_rate / b.learning_rate for a, b in zip(fast, slow, strict=True)] == pytest.approx([10, 10])


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("maml, authors'", 4 * 5 * (6 * 1 + 16)),  # a support once more for each of 5 steps
        ("tadam, common, global loss", 2 * 5 * (2 + 6)),  # the support twice
        ("dsn, authors', conv4", 5 * (2 + 15)),  # the support and its mirror image
        ("cc_rot, authors'", 4 * 64),  # four rotations
        ("robust_dist, authors'", 5 * 16),  # four members and the student
        ("can, authors'", 4 * 5 * (1 + 6)),
    ],
)
def test_image_passes_are_counted_as_networks_see_them(name: str, passes: int) -> None:
    e = cells.setting(name, 1)
    assert cells.passes_of_a_step(e, e.plan[-1]) == passes


@pytest.mark.parametrize("cell", TABLE1, ids=lambda cell: cell.name)
def test_every_setting_can_be_built_and_has_a_loss_for_each_of_its_phases(cell: Cell) -> None:
    e = cells.setting(cell.name, 5)
    small = replace(e, backbone="conv4", backbone_options={"width": 8}, groups=4)
    model = build_model(small, 64, seed=0)
    if any(phase.batch == "pictures" for phase in e.plan):
        images, labels = torch.rand(2, 3, 40, 40), torch.tensor([3, 5])
        assert torch.isfinite(model.classification_loss(images, labels).total)
    for phase in e.plan:
        assert parameter_groups(model, phase.rates)


def test_every_name_is_of_one_cell() -> None:
    assert len(cells.CELLS) == len(TABLE1) + len(TABLE2) == 2 * len(SYSTEMS) + 14
    assert all(cells.row_of_table2(cell.factor, cell.value) is cell for cell in TABLE2)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ValueError, match="there is no cell 'groups 2'"):
        cells.setting("groups 2", 1)
    with pytest.raises(ValueError, match=r"\[1, 5\] shots, got 3"):
        cells.setting("dmf", 3)
    with pytest.raises(ValueError, match=r"measured on .*'glyphs-mini', 'miniimagenet'.*, got 'cifar-fs'"):
        cells.setting("dmf", 1, "cifar-fs")
    with pytest.raises(KeyError):
        cells.row_of_table2("groups", "2")
