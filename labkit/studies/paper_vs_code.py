"""Every cell of `PAPER_AND_CODE` in `labkit.training.settings`, trained with three seeds.

``python -m labkit.studies.paper_vs_code RUNS`` trains them.

A sweep on all cores of this machine: stopped, it goes on where it was, and what the lab's results have is not trained
again. ``--gather`` writes what is finished into them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import stats

from labkit import plotting
from labkit.common import places
from labkit.common.files import write_atomically
from labkit.common.versions import versions
from labkit.data import load_images
from labkit.evaluation.protocol import evaluate
from labkit.sweeps.sweep import finished, sweep
from labkit.training.loop import train
from labkit.training.settings import PAPER_AND_CODE, paper_and_code

RESULTS = places.RESULTS / "paper_and_code.json"
SEEDS = (0, 1, 2)
VERSION = 1  # of what a cell means


def run_cell(parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one cell with one seed, and look once at the novel classes."""
    e = paper_and_code(parameters["cell"])
    images = {
        s: load_images(e.dataset, s, size=e.size, per_class=e.per_class, progress=False)
        for s in ("train", "val", "test")
    }
    row: dict[str, Any] = parameters | {"steps": e.steps}
    started = time.perf_counter()
    try:
        trained = train(e, images["train"], images["val"], folder, seed=parameters["seed"], progress=False)
        row["validation"] = round(trained.validation, 2)
        row["few_shot_loss"] = [m["few_shot"] for m in trained.metrics if "few_shot" in m][-1]
        novel = evaluate(trained.model, images["test"], e.way, e.shot, e.test_query, 2000, bfloat16=e.bfloat16)
        row["novel"] = novel.summary()
    except FloatingPointError as error:
        row["diverged"] = str(error)
    took = round(time.perf_counter() - started)
    return row | {"seconds": took, "threads": torch.get_num_threads(), "versions": versions()}


def missing(cells: Iterable[str] = tuple(PAPER_AND_CODE), seeds: Iterable[int] = SEEDS) -> list[dict[str, Any]]:
    """Of these trainings, those that the lab's results do not have."""
    known = {(r["cell"], r["seed"]) for r in _results()}
    return [{"cell": c, "seed": s} for c, s in itertools.product(cells, seeds) if (c, s) not in known]


def _results() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    return rows


def gather(runs: Path) -> None:
    """Add the finished trainings of `runs` to the lab's results."""
    found = [*_results(), *(r["result"] for r in finished(runs, VERSION))]
    by_place = {(r["cell"], r["seed"]): r for r in found}
    rows = [by_place[place] for cell in PAPER_AND_CODE for place in sorted(by_place) if place[0] == cell]
    what = (
        "Paper and released code, one difference at a time: glyphs-mini, 5-way 1-shot, the quick setting with 800 "
        "steps in bfloat16 (labkit/training/settings.py, PAPER_AND_CODE). Novel classes: 2000 episodes, seed 0."
    )
    content = {"what": what, "command": "python -m labkit.studies.paper_vs_code RUNS", "runs": rows}
    write_atomically(RESULTS, (json.dumps(content, indent=1) + "\n").encode())


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
            mean, half = paired([value[cell, s] - value[baseline, s] for s in shared])
            line |= {f"{name} difference": mean, f"{name} half width": half}
        lines[cell] = line
    return pd.DataFrame(lines).T


def paired(differences: list[float]) -> tuple[float, float]:
    """Mean of differences paired by seed, and the half width of its 95 % t-interval (NaN for fewer than two)."""
    n = len(differences)
    if n < 2:
        return (float(np.mean(differences)) if n else float("nan")), float("nan")
    half = stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5
    return float(np.mean(differences)), float(half)


def verdicts(table: pd.DataFrame, name: str = "novel") -> list[str]:
    """What the paired intervals of `table` allow to say of each cell: better, worse, or not decidable."""
    said = []
    for difference, half in zip(table[f"{name} difference"], table[f"{name} half width"], strict=True):
        decided = "better" if difference > 0 else "worse"
        said.append(decided if abs(difference) > half else "" if difference == 0 else "not decidable")
    return said


def figure(table: pd.DataFrame) -> Figure:
    """Differences to the baseline with their 95 % t-intervals over seeds, on validation and on novel classes."""
    cells = [cell for cell in table.index if table.loc[cell, "novel difference"] != 0]
    drawn, ax = plt.subplots(figsize=(7, 0.45 * len(cells) + 1.2))
    for shift, name, colour in ((-0.14, "novel", plotting.BLUE), (0.14, "validation", plotting.ORANGE)):
        part = table.loc[cells]
        places = [row + shift for row in range(len(cells))]
        halves = part[f"{name} half width"].astype(float).fillna(0)
        ax.errorbar(
            part[f"{name} difference"], places, xerr=halves, fmt="o", color=colour, capsize=3, label=f"{name} classes"
        )
    ax.axvline(0, color=plotting.BLACK, linewidth=0.8)
    ax.set_yticks(range(len(cells)), cells)
    ax.set(xlabel="accuracy minus the paper's setting, points (bars: 95 % t-interval over seeds)")
    ax.invert_yaxis()
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


if __name__ == "__main__":
    from labkit.studies import paper_vs_code  # whose function the sweep's processes import

    parser = argparse.ArgumentParser(description="Train paper, released code and every difference between them.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--cells", nargs="+", default=list(PAPER_AND_CODE), choices=list(PAPER_AND_CODE))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gather", action="store_true", help="write what is finished into the lab's results")
    arguments = parser.parse_args()
    if arguments.gather:
        gather(arguments.runs)
    else:
        asked = missing(arguments.cells, arguments.seeds)
        print(f"{len(asked)} trainings are not in the lab's results")
        sweep(paper_vs_code.run_cell, asked, folder=arguments.runs, version=VERSION, cpus=arguments.threads)
