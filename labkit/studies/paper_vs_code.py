"""Paper against released code: the setting of either, each difference alone, and either without alignment.

``dmf-lab figure paper-vs-code RUNS`` trains them, in a sweep on all cores of this machine: stopped, it goes on where it
was, and what the lab's results have is not trained again. With ``--gather`` it writes what is finished into them. With
``--dataset miniimagenet --data-root ROOT`` it does so on photographs.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from labkit import plotting
from labkit.common import places
from labkit.evaluation import intervals
from labkit.evaluation.provenance import said_pictures
from labkit.studies.tables.train_cells import SEEDS, train_on_one_thread
from labkit.sweeps import kept
from labkit.sweeps.kept import Row, read_rows
from labkit.sweeps.sweep import refuse_failed, sweep
from labkit.training.settings import Experiment, experiment

RESULTS = places.RESULTS / "paper_and_code.json"  # on glyphs; on other pictures see `file_of`
GLYPHS = "glyphs-mini"
VERSION = 1  # of what a cell means
WHAT = (
    "Paper and released code, one difference at a time: {}, 5-way 1-shot, {} "
    "(labkit/studies/paper_vs_code.py, PAPER_AND_CODE). Novel classes: 2000 episodes, seed 0."
)

# What is trained on which pictures: 800 of the quick setting's 1200 steps; of photographs what Table 1 has end to end.
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    GLYPHS: ("quick", {"steps": 800, "bfloat16": True}),
    "miniimagenet": ("mini-small", {"validate_every": 1500}),
}

# Where the class weight is normalised, `score_scale` is the released code's 1: 0.08 makes up for class weights of about
# sqrt(c), and those have a length of at most 1. The order of the offset convolution's input is not here: from first
# weights with exchanged halves it trains to the same bits.
PAPER_AND_CODE: dict[str, Mapping[str, Any]] = {
    "paper": {},
    "released": {"preset": "released", "choices": {"alignment": "rk4", "score_scale": 1.0}},
    "loss weights": {"choices": {"loss_weights": [0.5, 1.0]}},
    "global classifier": {"choices": {"global_reads": "backbone"}},
    "class weight": {"choices": {"class_weight": "normalised", "score_scale": 1.0}},
    "relu": {"choices": {"relu": True}},
    "border": {"choices": {"border": True}},
    "solver": {"choices": {"alignment": "rk4"}},
    "printed loss": {"choices": {"few_shot_loss": "printed"}},
    "no alignment": {"choices": {"alignment": "none"}},
    "no alignment, released": {"preset": "released", "choices": {"alignment": "none", "score_scale": 1.0}},
}


def setting(cell: str, dataset: str = GLYPHS) -> Experiment:
    """The training of one cell of `PAPER_AND_CODE`.

    Raises:
        ValueError: a cell or a data set that is not there.
    """
    for name, known in ((cell, PAPER_AND_CODE), (dataset, BASES)):
        if name not in known:
            raise ValueError(f"there is no {name!r} in paper against code; there are {', '.join(map(repr, known))}")
    base, changes = BASES[dataset]
    return replace(experiment(base, **changes, **PAPER_AND_CODE[cell]), name=f"paper and code: {cell}")


def file_of(dataset: str) -> Path:
    """The lab's own trainings on a set of pictures."""
    return RESULTS if dataset == GLYPHS else RESULTS.with_name(f"{RESULTS.stem}_{dataset}.json")


def _version(dataset: str) -> int | str:
    return VERSION if dataset == GLYPHS else f"{VERSION}, {dataset}"


def run_cell(parameters: dict[str, Any], folder: Path, *, dataset: str = GLYPHS, data_root: str | None = None) -> Row:
    """Train one cell with one seed, and look once at the novel classes."""
    e = setting(parameters["cell"], dataset)
    return parameters | train_on_one_thread(e, parameters["seed"], folder, data_root)


def missing(
    cells: Iterable[str] = tuple(PAPER_AND_CODE), seeds: Iterable[int] = SEEDS, dataset: str = GLYPHS
) -> list[dict[str, Any]]:
    """The trainings that are asked for and that the lab's results do not have, seed by seed.

    Raises:
        ValueError: a cell or a data set that is not there.
    """
    cells = tuple(cells)
    for cell in cells:
        setting(cell, dataset)
    known = {(r["cell"], r["seed"]) for r in read_rows(file_of(dataset))}
    return [{"cell": c, "seed": s} for s, c in itertools.product(seeds, cells) if (c, s) not in known]


def run(
    runs: Path,
    cells: Iterable[str] = tuple(PAPER_AND_CODE),
    seeds: Iterable[int] = SEEDS,
    gather: bool = False,
    *,
    dataset: str = GLYPHS,
    data_root: Path | None = None,
    workers: int | None = None,
) -> None:
    """Train what the lab's results lack, in the folder `runs`; or add what is finished there to them.

    Raises:
        ValueError: a cell or a data set that is not there; or nothing is finished that could be gathered.
    """
    asked = missing(cells, seeds, dataset)
    if gather:
        add_finished(runs, dataset)
        return
    print(f"{len(asked)} trainings are not in the lab's results")
    one = partial(run_cell, dataset=dataset, data_root=None if data_root is None else str(data_root))
    refuse_failed(sweep(one, asked, folder=runs, version=_version(dataset), workers=workers).failed)


def add_finished(runs: Path, dataset: str = GLYPHS) -> None:
    """Add the finished trainings of `runs` to the lab's results.

    Raises:
        ValueError: nothing is finished there.
    """
    order = {cell: place for place, cell in enumerate(PAPER_AND_CODE)}
    base, changes = BASES[dataset]
    how = f"the setting {base}" + (f" with {json.dumps(changes)}" if changes else "")
    command = f"dmf-lab figure paper-vs-code RUNS {said_pictures(dataset)}"

    def write(file: Path, rows: list[Row]) -> None:
        rows = sorted(rows, key=lambda r: order[r["cell"]])
        kept.write_result(file, WHAT.format(dataset, how), command, {"runs": rows})

    found = [row for row in kept.finished_rows(runs, _version(dataset)) if row.get("cell") in PAPER_AND_CODE]
    kept.gather(file_of(dataset), runs, found, ("cell", "seed"), write)


def table(rows: list[dict[str, Any]], baseline: str = "paper") -> pd.DataFrame:
    """Mean accuracies over seeds, and differences to `baseline` paired by seed with their 95 % t-intervals.

    The interval over episodes says how well one network is known; training the same setting with another seed moves
    it by more. Differences of runs that share a seed (initial weights, episodes, augmentation) hold that variance.

    Returns:
        one row a cell: seeds, novel (mean accuracy in percent), difference and its half width in points, and the same
        on validation classes; half widths are NaN with fewer than two shared seeds.
    """
    reached = {(r["cell"], r["seed"]): r for r in rows if "novel" in r}
    cells = dict.fromkeys(cell for cell, _ in reached)
    lines = {}
    for cell in cells:
        seeds = sorted(s for c, s in reached if c == cell)
        shared = [s for s in seeds if (baseline, s) in reached]
        line: dict[str, Any] = {"seeds": len(seeds)}
        for name in ("novel", "validation"):
            value = {k: r[name]["accuracy"] if name == "novel" else r[name] for k, r in reached.items()}
            line[name] = float(np.mean([value[cell, s] for s in seeds]))
            mean, half = intervals.over_seeds([value[cell, s] - value[baseline, s] for s in shared])
            line |= {f"{name} difference": mean, f"{name} half width": half}
        lines[cell] = line
    return pd.DataFrame(lines).T


def verdicts(table: pd.DataFrame, name: str = "novel") -> list[str]:
    """What the paired intervals of `table` allow to say of each cell: better, worse, or not decidable."""
    differences = zip(table[f"{name} difference"], table[f"{name} half width"], strict=True)
    return ["" if mean == 0 else intervals.verdict(mean, half) for mean, half in differences]


def figure(table: pd.DataFrame, baseline: str = "the paper's setting") -> Figure:
    """Differences to the baseline with their 95 % t-intervals over seeds, on validation and on novel classes.

    A difference of a single seed has no bar.
    """
    cells = [cell for cell in table.index if table.loc[cell, "novel difference"] != 0]
    drawn, ax = plt.subplots(figsize=(7, 0.45 * len(cells) + 1.2))
    for shift, name, colour in ((-0.14, "novel", plotting.BLUE), (0.14, "validation", plotting.ORANGE)):
        part = table.loc[cells]
        places = [row + shift for row in range(len(cells))]
        halves = part[f"{name} half width"].astype(float)
        ax.errorbar(
            part[f"{name} difference"], places, xerr=halves, fmt="o", color=colour, capsize=3, label=f"{name} classes"
        )
    ax.axvline(0, color=plotting.BLACK, linewidth=0.8)
    ax.set_yticks(range(len(cells)), cells)
    ax.set(xlabel=f"accuracy minus {baseline}, points (bars: 95 % t-interval over seeds)")
    ax.invert_yaxis()
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn
