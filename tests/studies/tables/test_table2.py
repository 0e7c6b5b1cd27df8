"""Table 2 beside ours: differences paired by seed, verdicts, and nothing made up for what is not trained."""

import numpy as np
import pytest

from labkit.studies.tables import agreement, table2
from labkit.studies.tables.cells import BASE, TABLE2
from labkit.studies.tables.runs import Run

WHERE = {"way": 5, "shot": 1, "query": 15, "episodes": 4, "seed": 0, "dataset": "toy", "digest": "d", "classes": 20}


def run(cell: str, shot: int, seed: int, accuracy: float, correct: str = "") -> Run:
    novel = WHERE | {"accuracy": accuracy}
    return Run("toy", "", cell, shot, seed, validation=accuracy, novel=novel, correct=correct)


ROWS = [
    *(run("dmf", 1, seed, v) for seed, v in enumerate((50.0, 52.0, 54.0))),
    *(run("dynamic_sampling off", 1, seed, v) for seed, v in enumerate((48.0, 50.5, 52.0))),
    *(run("align 1", 1, seed, v) for seed, v in enumerate((51.0, 53.5, 55.0))),
    *(run("groups 1", 1, seed, v) for seed, v in enumerate((40.0, 52.0, 60.0))),
    run("last_pooling on", 1, 2, 50.0),
    *(run("groups 640", 1, seed, v) for seed, v in enumerate((20.1, 40.0, 20.3))),
    Run("toy", "align", "align 3", 1, 0, diverged="the loss is nan"),
]


def test_every_claim_has_its_rows_and_the_papers_own_table_is_read_right() -> None:
    said = table2.claims([])
    assert set(said["verdict"]) == {"not measured yet"}
    for claim in table2.CLAIMS:
        assert {claim.better, claim.worse} <= set(TABLE2)
    both = said.dropna(subset="PUBLISHED, text")
    apart = both[(both["PUBLISHED, text"] - both["PUBLISHED, table"]).abs() > 0.011]
    # The text and Table 2 (d) contradict each other on one alignment, and on nothing else.
    assert list(apart["claim"].unique()) == ["one alignment improves on none"]
    assert apart["PUBLISHED, table"].tolist() == [3.06, 1.90]
    assert (said["PUBLISHED, table"] > 0).all()


def test_verdicts_come_from_pairs_of_seeds() -> None:
    said = table2.claims(ROWS).set_index(["claim", "shots"])
    helps = said.loc["dynamic sampling helps", 1]
    assert helps["MEASURED"] == pytest.approx((2 + 1.5 + 2) / 3)
    assert helps["±"] == pytest.approx(4.302653 * np.std([2, 1.5, 2], ddof=1) / 3**0.5, rel=1e-5)
    assert helps["verdict"] == "held"
    assert said.loc["the ODE improves on one alignment", 1]["verdict"] == "not held"
    assert said.loc["64 groups improve on one", 1]["verdict"] == "not decidable"
    late = said.loc["640 groups lose against 64", 1]
    assert late["verdict"] == "not decidable (2 of 6 trainings did not start)"
    assert said.loc["deleting the last pooling helps", 1]["verdict"] == "not decidable (one seed)"
    assert said.loc["three alignments slightly improve on one", 1]["verdict"] == "not measured yet"  # it diverged
    assert said.loc["dynamic sampling helps", 5]["verdict"] == "not measured yet"


def test_a_verdict_needs_the_interval_over_episodes_too() -> None:
    """Seeds that differ little on the same episodes say nothing of others."""
    ahead = [run("dmf", 1, seed, 60.0, "40 60 40 40") for seed in range(3)]
    behind = [run("align 1", 1, seed, 59.0 + seed / 100, "44 34 54 44") for seed in range(3)]
    claim = table2.claims([*ahead, *behind]).set_index(["claim", "shots"]).loc["the ODE improves on one alignment", 1]
    assert claim["MEASURED"] > 0.9
    assert claim["±"] == pytest.approx(agreement.over_shared_episodes(ahead, behind)[0])
    assert claim["verdict"] == "not decidable"


def test_the_table_has_published_and_measured_apart() -> None:
    table = table2.table(ROWS)
    assert len(table) == len(TABLE2)
    assert set(table.columns.get_level_values(0)) == {"PUBLISHED, miniImageNet", "MEASURED, glyphs-mini"}
    ode = table.loc["(d) alignments", "ode"]
    assert ode["PUBLISHED, miniImageNet", "1-shot"] == 67.76
    assert ode["MEASURED, glyphs-mini", "1-shot"] == pytest.approx(52)
    assert np.isnan(table.loc["(d) alignments", "3"]["MEASURED, glyphs-mini", "1-shot"])
    printed = table2.shown(table).loc["(d) alignments", "ode"]["MEASURED, glyphs-mini"]
    assert printed.tolist() == ["52.00", "3", "3", "", "0", "0"]


@pytest.mark.parametrize("factor", table2.TITLES)
def test_a_part_is_drawn_with_what_is_missing_said(factor: str) -> None:
    left, right = table2.figure(ROWS, factor).axes
    cells = [cell for cell in TABLE2 if cell.factor == factor]
    assert [t.get_text() for t in left.get_xticklabels()] == [cell.value for cell in cells]
    bases = [cell for cell in cells if table2.difference(ROWS, cell, BASE, 1)[2] == [0.0] * 3]
    assert len([line for line in left.lines if "base" in str(line.get_label())]) == len(bases) == 1
    assert sum("at chance" in t.get_text() for t in left.texts) == (factor == "groups")
    assert sum("not yet\ntrained" in t.get_text() for t in right.texts) == len(cells)  # the base too


def test_the_figure_says_what_has_an_interval_over_how_many_seeds_and_what_has_none() -> None:
    said = {t.get_text() for t in table2.figure(ROWS, "last_pooling").legends[0].texts}
    assert "measured, one seed: no interval" in said
    assert not any("95 % interval" in line for line in said)
    rows = [*ROWS, run("align 2", 1, 0, 50.0), *(run("align 0", 1, seed, 49.0 + seed) for seed in (0, 1))]
    drawn = table2.figure(rows, "align")
    said = {t.get_text() for t in drawn.legends[0].texts}
    assert {
        "measured, one seed: no interval",
        "measured, mean of 2 to 3 seeds, 95 % interval",
    } <= said
    lone = next(line for line in drawn.axes[0].lines if "one seed" in str(line.get_label()))
    assert lone.get_markerfacecolor() == "white"
    assert lone.get_ydata() == [0.0]
