"""Table 1 beside ours: published and measured apart, settings chosen on validation, pairs on shared episodes."""

from dataclasses import replace

import numpy as np
import pytest

from labkit.studies.tables import table1
from labkit.studies.tables.cells import CELLS, SYSTEMS
from labkit.studies.tables.runs import Run
from labkit.studies.tables.table1 import MEASURED, PUBLISHED


def run(cell: str, seed: int, validation: float, correct: list[int]) -> Run:
    accuracy = float(np.mean(correct) / 75 * 100)
    half = float(1.96 * np.std(correct, ddof=1) / 75 * 100 / len(correct) ** 0.5)
    where = {"way": 5, "shot": 1, "query": 15, "episodes": len(correct), "seed": 0, "digest": "abc"}
    novel = {"accuracy": accuracy, "ci95": half, **where}
    cost = {"weights": 900_000, "steps": 800, "cpu_seconds": 200, "peak_bytes": 2**30, "test_seconds": 0.05}
    row = {"cell": cell, "shot": 1, "seed": seed, "validation": validation, "novel": novel}
    row |= cost | {"correct": " ".join(map(str, correct))}
    return Run.of_cell(row, CELLS[cell].factor, "glyphs-mini")


RNG = np.random.default_rng(0)
EASE = RNG.integers(25, 65, 400)  # how easy an episode is, for all systems alike
ROWS = [
    run("dmf", 0, 50.0, (EASE + RNG.integers(-3, 4, 400)).tolist()),
    run("dmf", 1, 50.0, (EASE + 2).tolist()),
    run("dmf, rate 0.2", 0, 49.0, (EASE + 9).tolist()),  # better on novel classes, which choose nothing
    run("can, authors'", 0, 48.0, (EASE + 1 + RNG.integers(-3, 4, 400)).tolist()),
    run("feat, authors'", 0, 40.0, (EASE - 10).tolist()),
    run("maml, authors'", 0, 21.0, [15] * 399 + [16]),
    Run("glyphs-mini", "CAN", "can, common", 1, 0, diverged="the loss is nan"),
]


def test_a_line_holds_published_and_measured_numbers_apart() -> None:
    table = table1.table(ROWS, 1)
    assert len(table) == 24  # the paper's rows
    dmf = table.loc["DMF (ours)", "Res-12"]
    assert dmf[PUBLISHED, "miniImageNet, %"] == 67.76
    assert dmf[MEASURED, "setting"] == "dmf"
    assert dmf[MEASURED, "settings tried"] == 2
    assert dmf[MEASURED, "seeds"] == 2
    assert dmf[MEASURED, "accuracy, %"] == pytest.approx(ROWS[0].accuracy)
    assert dmf[MEASURED, "peak, MiB"] == 1024
    assert table.loc["MAML", "Conv4"][MEASURED, "setting"] == "maml, authors' (did not start)"
    assert table.loc["CAN", "Res-12"][MEASURED, "settings tried"] == 2  # one of them diverged
    assert table.loc["ProtoNet", "Conv4"][MEASURED, "setting"] == "not trained yet"
    assert table.loc["FEAT", "Res-12"][MEASURED, "setting"] == "feat, authors'"
    wide = table.loc["FEAT", "WRN-28"]
    assert wide[MEASURED, "setting"] == "the same head on another backbone"
    assert np.isnan(wide[MEASURED, "weights"])


def test_pairs_are_compared_on_shared_episodes_with_far_tighter_intervals() -> None:
    episodes = table1.per_episode(ROWS, 1)
    assert list(episodes) == ["DMF", "MAML", "FEAT", "CAN"]
    compared = table1.pairs(episodes).set_index(["system", "against"])
    assert len(compared) == 6
    line = compared.loc["CAN", "DMF"]
    apart = episodes["CAN"] - episodes["DMF"]
    assert line["points"] == pytest.approx(apart.mean())
    assert line["±"] == pytest.approx(1.96 * apart.std(ddof=1) / 20)
    assert line["±"] < line["± if not paired"] / 3
    other = [replace(r, novel=r.novel | {"digest": "other"}) if r.name == "can, authors'" else r for r in ROWS]
    with pytest.raises(ValueError, match="not tested on the same episodes"):
        table1.per_episode(other, 1)


def test_pictures_name_every_system_and_do_without_any() -> None:
    square = table1.pair_figure(table1.pairs(table1.per_episode(ROWS, 1))).axes[0]
    assert [t.get_text() for t in square.get_yticklabels()] == ["CAN  1", "DMF  2", "FEAT  3", "MAML  4"]
    paper, time, _ = table1.cost_figure(ROWS, 1).axes
    assert "PUBLISHED" in paper.get_title()
    handles, names = time.get_legend_handles_labels()
    assert set(names) == {"DMF", "CAN", "FEAT", "MAML", "chance"}
    points = {
        name: tuple(h.lines[0].get_xydata()[0]) for h, name in zip(handles, names, strict=True) if name != "chance"
    }
    assert points["DMF"] == (50, ROWS[0].accuracy)
    assert "MEASURED" in time.get_title()
    assert table1.cost_figure([], 5).axes[1].texts[0].get_text() == "nothing trained yet"
    nothing = table1.pairs(table1.per_episode([], 5))
    assert nothing.empty
    assert "nothing trained yet" in table1.pair_figure(nothing).axes[0].texts[0].get_text()


def test_the_table_leaves_as_markdown_and_latex() -> None:
    table = table1.table(ROWS, 1)
    lines = table1.markdown(table).splitlines()
    assert len(lines) == 2 + len(table)
    assert len({line.count("|") for line in lines}) == 1
    assert "PUBLISHED: miniImageNet, %" in lines[0]
    assert "MEASURED: accuracy, %" in lines[0]
    text = table1.latex(table)
    assert text.count(r"\\") == 1 + len(table)
    assert r"$\pm$" in text
    assert "nan" not in text.lower().replace("protonet", "")


def test_what_is_printed_is_sorted_and_says_what_was_tried() -> None:
    printed = table1.shown(table1.table(ROWS, 1))
    assert [name for name, _ in printed.index[:3]] == ["CAN", "DMF (ours)", "FEAT"]
    assert printed.loc["LEO", "WRN-28"][MEASURED, "weights"] == ""
    tried = table1.candidates(ROWS)
    assert tried.loc["DMF", "dmf"].tolist() == ["50.0 (chosen)", "not trained yet"]
    assert tried.loc["DMF", "dmf, rate 0.2"].tolist()[0] == "49.0"
    assert tried.loc["MAML", "maml, authors'"].tolist()[0] == "21.0 (chosen) (did not start)"
    assert tried.loc["CAN", "can, common"].tolist()[0] == "diverged"


def test_every_system_of_ours_stands_beside_a_published_one() -> None:
    table = table1.table([], 5)
    assert set(table1.BESIDE) == set(SYSTEMS)
    assert all(beside in table.index for beside in table1.BESIDE.values())
