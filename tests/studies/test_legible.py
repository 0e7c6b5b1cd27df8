"""The lab's figures can be read where they are shown: no text under 9 points, none that lies on another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from labkit import plotting
from labkit.evaluation.protocol import Result
from labkit.methods.cells import Cells
from labkit.models.checkpoints import load_model
from labkit.own_images import figures as own_figures
from labkit.own_images.classify import Classified, SupportSet
from labkit.studies import figure3_sampling, figure4_heat, figures_3_and_4, paper_vs_code
from labkit.studies.displacement import figures as displacement
from labkit.studies.displacement.measure import METHODS
from labkit.studies.speed import figures as speed
from labkit.studies.tables import table1, table2
from labkit.studies.tables.cells import SYSTEMS, TABLE1, TABLE2
from labkit.studies.tables.runs import Run
from tests.helpers.legible import unreadable

pytestmark = pytest.mark.integration

LONG = [
    "Double left arc greater-than bracket",
    "Georgian small letter zhar",
    "school bus",
    "dalmatian",
    "golden retriever",
]
NETWORKS = ["no alignment", "1 step", "2 steps", "DMF (ODE)", "CAN"]
DRAWN = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with mpl.rc_context():
        plotting.use_style()
        yield
    plt.close("all")


def picture(size: int = 40) -> Any:
    return DRAWN.integers(0, 256, (size, size, 3), np.uint8)


def maps() -> Any:
    return DRAWN.random((5, 5, 5))


def spread() -> Any:
    """Nine points that keep apart from one another, some of them outside a picture of 40 pixels."""
    return np.stack(np.meshgrid([-4.0, 20.0, 33.0], [6.0, 19.0, 45.0]), -1).reshape(9, 2)


def regular() -> Any:
    return np.stack(np.meshgrid([12.0, 20.0, 28.0], [12.0, 20.0, 28.0]), -1).reshape(9, 2)


def measured_intervals(names: list[str], entries: list[str]) -> dict[str, float]:
    return {f"{entry}{end}": 30.0 for entry in entries for end in ("", " ci95")} | dict.fromkeys(names, 1.0)


def sampled_pairs() -> Figure:
    pair = {"query": picture(), "support": picture(), "points": spread(), "grid": regular(), "side": 40}
    pair |= {"name": f"{LONG[0]}, episode 151, query 56, cell (2, 4)", "caption": "2 of 9 points\non the object"}
    return figures_3_and_4.sampled_pairs([[pair] * 3] * 2, ["chosen", "random"])


def shares() -> Figure:
    kinds = (*figures_3_and_4.COLOURS, figure3_sampling.CHANCE)
    rows = [
        {"points": kind, "query position": where, "ink": 13.0, "ink ci95": 0.5}
        for kind in kinds
        for where in ("on the object", "off it")
    ]
    return figures_3_and_4.shares({"DMF": rows, "DMF, untrained": rows})


def heat_rows(masked: bool) -> Figure:
    line = {"support": picture(), "query": picture(), "heats": DRAWN.random((5, 5, 5)), "cells": [Cells(8.0, 3.5)] * 5}
    line |= {"name": "only 2 steps hit:\nepisode 151,\nquery 56", "right": [True, False, True, True, False]}
    mask = np.pad(np.ones((20, 20), bool), 10)
    line |= (
        {"mask": mask, "outline": "the query's object", "hits": [True, False] * 2 + [False]}
        if masked
        else {"mask": None, "hits": None}
    )
    return figures_3_and_4.heat_rows([line] * 3, NETWORKS)


def heat_by_class() -> Figure:
    line = {"query": picture(), "supports": [picture()] * 5, "names": LONG, "own": 1, "before": DRAWN.random((5, 5))}
    line |= {
        "heats": DRAWN.random((5, 5, 5)),
        "scores": [-10.25, 7.5, 12.5, 1.0, 2.0],
        "moved": [12.5] * 5,
        "cells": Cells(8.0, 3.5),
    }
    return figures_3_and_4.heat_by_class([line] * 3)


def inside_and_hottest() -> Figure:
    row = {
        f"{what}, {when}{end}": 13.0
        for what in ("inside", "hottest")
        for when in (*figures_3_and_4.MARKS, "gain")
        for end in ("", " ci95")
    }
    row |= {f"{what}, {figure4_heat.CHANCE}": 12.0 for what in ("inside", "hottest")}
    rows = [row | {"heat": "feature", "network": name} for name in figure4_heat.NETWORKS]
    return figures_3_and_4.inside_and_hottest(rows)


def pairs_of_systems(count: int) -> Figure:
    episodes = {name: 40 + 1.5 * k + DRAWN.normal(size=50) for k, name in enumerate(SYSTEMS[:count])}
    return table1.pair_figure(table1.pairs(episodes))


def costs_of_all_systems(shot: int) -> Figure:
    novel = {
        "way": 5,
        "shot": shot,
        "query": 15,
        "episodes": 2,
        "seed": 0,
        "digest": "a",
        "accuracy": 40.0,
        "ci95": 0.4,
    }
    rest = {"weights": 10, "steps": 20, "cpu_seconds": 300.0, "test_seconds": 0.05, "peak_bytes": 2**28}
    runs = [Run("toy", c.factor, c.name, shot, 0, validation=40.0, novel=novel, **rest) for c in TABLE1]  # type: ignore[arg-type]
    return table1.cost_figure(runs, shot)


def part_of_table_2(factor: str) -> Figure:
    """One cell of many seeds, one of one seed, one that stays at chance, and the rest not trained."""
    of = [cell.name for cell in TABLE2 if cell.factor == factor]
    seeds = {"dmf": 3, of[0]: 3, of[1]: 1}
    values = {"dmf": 50.0, of[0]: 20.1}
    where = dict.fromkeys(("dataset", "shot", "query", "episodes", "seed", "digest"), 0) | {"way": 5}
    runs = [
        Run("toy", factor, name, 1, seed, validation=v, novel=where | {"accuracy": v + seed})
        for name, count in seeds.items()
        for seed, v in enumerate([values.get(name, 48.0)] * count)
    ]
    return table2.figure(runs, factor, "miniimagenet, on one backbone")


def growth() -> Figure:
    values = {
        "queries": (15, 30, 75, 150, 300, 600),
        "ways": (5, 10, 25, 50, 100),
        "groups": (1, 4, 16, 64, 160, 320, 640),
    }
    values["cells"] = (6, 11, 16, 21)
    return speed.growth_curves(
        [
            {"axis": axis, "form": form, "value": v, "seconds": 0.01 * v, "bytes": v * 2**22}
            for axis, some in values.items()
            for form in ("literal", "fast")
            for v in some
        ]
    )


def steps() -> Figure:
    part = dict.fromkeys(("episodes", "backbone", "head", "backward", "optimiser"), 4.0)
    return speed.step_bars({"literal": part, "fast": part, "fast, bfloat16": part})


def displaced() -> Figure:
    rows = [
        {"study": s, "level": v, "method": m, "accuracy": 60.0, "accuracy ci95": 1.0, "gain": 1.0, "gain ci95": 0.5}
        for s in displacement.AXES
        for m in METHODS
        for v in (0, 0.25, 0.5, 0.75, 1)
    ]
    return displacement.figure(rows)


def reliability() -> Figure:
    some = [[0.1, 0.3, 0.25], [0.5, 0.6, 0.5], [0.4, 0.9, 0.7]]
    return own_figures.reliability_diagram({f"{k}-shot, {when}": some for k in (1, 5) for when in ("before", "after")})


def paper_and_code() -> Figure:
    cells = ["paper", "released", "global classifier", "loss weights"]
    rows = [
        {"cell": cell, "seed": seed, "validation": 50.0 + k * seed, "novel": {"accuracy": 50.0 + k * seed}}
        for k, cell in enumerate(cells)
        for seed in range(1, 4)
    ]
    return paper_vs_code.figure(paper_vs_code.table(rows))


def histograms() -> Figure:
    setting = {"way": 5, "shot": 1, "query": 15, "episodes": 50, "seed": 0}
    results = {
        name: Result(0.0, 0.0, (0.0, 0.0), 50 + 8 * DRAWN.normal(size=50), setting) for name in ("DMF", "no alignment")
    }
    return plotting.episode_histograms(results, "DMF", "no alignment")


def learning() -> Figure:
    metrics: list[dict[str, float]] = [
        {"step": k, "loss": 1.0, "few_shot": 1.0, "auxiliary": 2.0, "accuracy": 40.0, "rate": 0.1}
        for k in range(0, 5000, 500)
    ]
    return plotting.learning_curves([*metrics, {"step": 2000, "validation": 50.0, "ci95": 1.0}], 20)


def sheet() -> Figure:
    seen = ("clutter 0", "clutter 4", "clutter 8", "object alone")
    methods = ("pixel nearest neighbour", "logistic regression on an untrained ResNet-12")
    rows = [
        {"method": m, "sees": s, "displacement": d, "accuracy": 30.0 + 10 * d, "ci95": 1.0}
        for m in methods
        for s in seen
        for d in (0.0, 0.5, 1.0)
    ]
    return plotting.data_sheet_lines(pd.DataFrame(rows), 20)


def sampling_cells() -> Figure:
    points, grid = (np.tile(p[..., None, None], (1, 1, 5, 5)) for p in (spread(), regular()))
    return plotting.sampling_row(picture(), picture(), points, grid, [(1, 1), (2, 2), (3, 3)])


def own_pictures(shots: tuple[int, ...], names: list[str]) -> Figure:
    support = own_support(shots, names)
    return own_figures.show_support(support, width=6)


def own_support(shots: tuple[int, ...], names: list[str]) -> SupportSet:
    pictures = np.stack([np.stack([picture() for _ in range(max(shots))]) for _ in shots])
    mask = torch.arange(max(shots)) < torch.tensor(shots)[:, None]
    files = tuple(tuple(f"{i}.jpg" for i in range(n)) for n in shots)
    model = load_model("quick")
    return SupportSet(model, tuple(names), files, pictures, mask, torch.zeros(*mask.shape, 1, 1, 1), "crop", None, {})


def own_answers() -> Figure:
    files = tuple(f"WhatsApp Image 2023-05-01 at 12.34.5{i} ({i}).jpeg" for i in range(4))
    probabilities = DRAWN.dirichlet(np.ones(5), 4)
    found = Classified(
        files,
        np.stack([picture() for _ in files]),
        np.log(probabilities),
        probabilities,
        np.array([0.9, 0.3, 0.8, 0.2]),
        0.5,
        {},
        own_support((1,) * 5, LONG),
    )
    return own_figures.show_classified(found)


FIGURES: dict[str, Callable[[], Figure]] = {
    "own pictures": lambda: own_pictures((1, 3, 2), LONG[:3]),
    "own pictures, many of one class": lambda: own_pictures((1, 30, 1), LONG[:3]),
    "own pictures, answered": own_answers,
    "figure 3": sampled_pairs,
    "figure 3, measured": shares,
    "figure 4, with masks": lambda: heat_rows(True),
    "figure 4, without masks": lambda: heat_rows(False),
    "figure 4, class by class": heat_by_class,
    "figure 4, measured": inside_and_hottest,
    "table 1, pairs of many systems": lambda: pairs_of_systems(table1.MOST_WRITTEN),
    "table 1, pairs of all": lambda: pairs_of_systems(len(SYSTEMS)),
    "table 1, costs at one shot": lambda: costs_of_all_systems(1),
    "table 1, costs at five": lambda: costs_of_all_systems(5),
    **{f"table 2, {factor}": lambda factor=factor: part_of_table_2(factor) for factor in table2.TITLES},  # type: ignore[misc]
    "speed, growth": growth,
    "speed, a step": steps,
    "displacement": displaced,
    "reliability": reliability,
    "paper and code": paper_and_code,
    "histograms": histograms,
    "learning curves": learning,
    "data sheet": sheet,
    "sampling": sampling_cells,
    "accuracies": lambda: plotting.accuracy_bars({"DMF": (60.0, 1.0), "pixel nearest neighbour": (25.0, 0.5)}, 20),
    "rows of pictures": lambda: plotting.image_grid(
        [[picture()] * 8] * 5, LONG, titles=[[f"draw {k}" for k in range(8)]]
    ),
    "maps": lambda: plotting.heat_row(maps(), [f"written by class {k}" for k in range(5)], "$f_d$", picture()),
    "pictures and maps": lambda: plotting.picture_and_heat([picture()] * 5, maps(), "length"),
    "scores": lambda: plotting.score_rows(picture(), maps(), maps(), 2),
    "alike": lambda: plotting.show_pairs([(picture(), picture())] * 6, [(LONG[0], LONG[1])] * 6, ["likeness 0.71"] * 6),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_read(name: str) -> None:
    assert unreadable(FIGURES[name]()) == []


def test_what_cannot_be_read_is_found() -> None:
    figure, ax = plt.subplots(figsize=(20, 2))
    ax.axis("off")
    ax.text(0.1, 0.5, "halved", fontsize=12)
    ax.text(0.5, 0.5, "below", fontsize=20)
    ax.text(0.5, 0.5, "above", fontsize=20)
    small, overlap = unreadable(figure)
    assert small.startswith("'halved': 6.")
    assert overlap == "'below' lies on 'above'"
