"""``python -m labkit.comparison RUNS``: train every cell of `labkit.experiments.PAPER_AND_CODE` with three seeds.

Start it as often as there are cores to spare: every process takes the next training that none has taken. Stopped, it
goes on where it was. ``--gather`` writes what is finished into the lab's results.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from scipy import stats

from labkit import plotting
from labkit.checkpoints import write_atomically
from labkit.data import load_images
from labkit.evaluation import evaluate
from labkit.experiments import PAPER_AND_CODE, paper_and_code
from labkit.training import train
from labkit.versions import versions

RESULTS = Path(__file__).parent / "results" / "paper_and_code.json"
SEEDS = (0, 1, 2)


def run_cell(cell: str, seed: int, folder: Path) -> None:
    """Train one cell with one seed, look once at the novel classes, and write ``folder/result.json``."""
    e = paper_and_code(cell)
    images = {
        s: load_images(e.dataset, s, size=e.size, per_class=e.per_class, progress=False)
        for s in ("train", "val", "test")
    }
    row: dict[str, Any] = {"cell": cell, "seed": seed, "steps": e.steps}
    started = time.perf_counter()
    try:
        trained = train(e, images["train"], images["val"], folder, seed=seed, progress=False)
        row["validation"] = round(trained.validation, 2)
        row["few_shot_loss"] = [m["few_shot"] for m in trained.metrics if "few_shot" in m][-1]
        novel = evaluate(trained.model, images["test"], e.way, e.shot, e.test_query, 2000, bfloat16=e.bfloat16)
        row["novel"] = novel.summary()
    except FloatingPointError as error:
        row["diverged"] = str(error)
    row |= {"seconds": round(time.perf_counter() - started), "threads": torch.get_num_threads(), "versions": versions()}
    write_atomically(folder / "result.json", json.dumps(row, indent=1).encode())


def work(runs: Path) -> None:
    """Do every training that is neither finished, in `runs` or in the lab's results, nor in another process's hands."""
    known = {(r["cell"], r["seed"]) for r in _results()}
    for cell in PAPER_AND_CODE:
        for seed in SEEDS:
            if (cell, seed) in known:
                continue
            folder = runs / f"{cell.replace(' ', '-')}-seed{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(folder / "lock", timeout=0):
                    if not (folder / "result.json").exists():
                        print(f"{cell}, seed {seed} ...", flush=True)
                        run_cell(cell, seed, folder)
            except Timeout:
                continue


def _results() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    return rows


def gather(runs: Path) -> None:
    """Add the finished trainings of `runs` to the lab's results."""
    found = [*_results(), *(json.loads(file.read_text()) for file in sorted(runs.glob("*/result.json")))]
    by_place = {(r["cell"], r["seed"]): r for r in found}
    rows = [by_place[cell, seed] for cell in PAPER_AND_CODE for seed in SEEDS if (cell, seed) in by_place]
    what = (
        "Paper and released code, one difference at a time: glyphs-mini, 5-way 1-shot, the quick setting with 800 "
        "steps in bfloat16 (labkit/experiments.py, PAPER_AND_CODE). Novel classes: 2000 episodes, seed 0."
    )
    content = {"what": what, "command": "python -m labkit.comparison RUNS", "runs": rows}
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
    parser = argparse.ArgumentParser(description="Train paper, released code and every difference between them.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gather", action="store_true", help="write what is finished into the lab's results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.gather:
        gather(arguments.runs)
    else:
        work(arguments.runs)
