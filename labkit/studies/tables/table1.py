"""Table 1: the systems as their papers published them, beside the same systems trained here in one harness.

Published numbers come from other images, backbones and schedules than measured ones, and from one another; no number of
the one kind is ever compared with one of the other. Measured systems are compared on the episodes they share.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from labkit import plotting
from labkit.common import places
from labkit.evaluation.intervals import over_episodes
from labkit.studies.tables.cells import SYSTEMS, TABLE1, TABLES, setting
from labkit.studies.tables.runs import Run
from labkit.studies.tables.train_cells import chosen, runs_of, tried

PAPER = places.RESULTS / "paper_table1.csv"
MOST_WRITTEN = 16  # systems whose differences are written into their square
COLOURS = (plotting.RED, plotting.BLUE, plotting.ORANGE, plotting.GREEN, plotting.PINK, plotting.SKY)
PUBLISHED, MEASURED = "PUBLISHED, each by its own paper", "MEASURED, here and in one harness"
# The paper's rows (model, backbone) that a system of ours stands beside, where their models have other names. FEAT has
# two rows, with one head; ours stands beside that on a ResNet-12.
NAMES = {"DMF (ours)": "DMF", "DSN-MR": "DSN"}
BESIDE: dict[str, tuple[str, str]] = {
    NAMES.get(model, model): (model, backbone)
    for model, backbone in pd.read_csv(PAPER)[["model", "backbone"]].itertuples(index=False)
}


def measured(runs: Sequence[Run], system: str, shot: int) -> list[Run]:
    """The runs of the setting that validation chose for a system, seed 0 first; empty where nothing is trained."""
    return runs_of(runs, chosen(runs, system, shot), shot)


def table(runs: Sequence[Run], shot: int) -> pd.DataFrame:
    """A line for every published row and for every system of ours, the two kinds of numbers in columns of their own.

    Measured: accuracy of seed 0 with its 95 % interval over episodes in percent, the mean over seeds, the setting that
    validation chose and of how many, weights, steps and CPU seconds of the training, milliseconds of a test episode
    from images to scores, and the MiB that training took at its peak. NaN where a number does not exist, or not yet.
    """
    paper = pd.read_csv(PAPER).set_index(["model", "backbone"])
    ours = {beside: system for system, beside in BESIDE.items()}
    lines: dict[tuple[str, str], dict[tuple[str, str], Any]] = {}
    for name in paper.index:
        line: dict[tuple[str, str], Any] = {}
        for data in ("mini", "tiered"):
            for title, end in ((f"{data}ImageNet, %", ""), (f"± {data}", "_ci95")):
                column = paper[f"{data}_{shot}shot{end}"]
                line[PUBLISHED, title] = float(column.get(name, np.nan))
        lines[name] = line | {(MEASURED, k): v for k, v in _measured_line(runs, ours.get(name), shot).items()}
    return pd.DataFrame(lines).T.rename_axis(["system", "published with"])


def shown(lines: pd.DataFrame, by: str = "accuracy, %") -> pd.DataFrame:
    """The table as text: measured systems first, ordered by the number `by`, then the others as in the paper; missing
    numbers are blank, and a column without any is left out.

    Raises:
        ValueError: there is no such number.
    """
    if by not in lines[MEASURED]:
        raise ValueError(f"the table is sorted by one of {list(lines[MEASURED])}, got {by!r}")
    ordered = lines.sort_values((MEASURED, by), ascending=False, kind="stable")
    text = pd.DataFrame({name: [_text(v) for v in ordered[name]] for name in ordered}, index=ordered.index)
    return text.loc[:, (text != "").any()]


def candidates(runs: Sequence[Run], shots: Sequence[int] = (1, 5)) -> pd.DataFrame:
    """Every setting tried, with its accuracy on validation classes at seed 0 in percent, and a mark on the chosen."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for cell in TABLE1:
        line = {}
        for shot in shots:
            run = tried(runs, cell.factor, shot).get(cell)
            mark = " (chosen)" if cell == chosen(runs, cell.factor, shot) else ""
            late = " (did not start)" if run and run.novel and not run.started else ""
            reached = f"{run.validation:.1f}{mark}{late}" if run else "not trained yet"
            line[f"{shot}-shot"] = "diverged" if run and run.diverged else reached
        lines[cell.factor, cell.name] = line
    return pd.DataFrame(lines).T.rename_axis(["system", "setting"])


def _measured_line(runs: Sequence[Run], system: str | None, shot: int) -> dict[str, Any]:
    found = measured(runs, system, shot) if system else []
    if not found:
        missing = "the same head on another backbone" if system is None else "not trained yet"
        numbers = ("accuracy, %", "± episodes", "seeds", "mean of seeds, %", "weights", "steps", "training, CPU s")
        blank = dict.fromkeys((*numbers, "test episode, CPU ms", "peak, MiB", "settings tried"), np.nan)
        return {"backbone": "", **blank, "setting": missing}
    first, e = found[0], setting(found[0].name, shot)
    return {
        "backbone": f"ResNet-12, width {e.backbone_options['width']}",
        "accuracy, %": first.accuracy,
        "± episodes": first.novel["ci95"],
        "seeds": len(found),
        "mean of seeds, %": float(np.mean([run.accuracy for run in found])),
        "weights": first.weights,
        "steps": first.steps,
        "training, CPU s": np.nan if first.cpu_seconds is None else first.cpu_seconds,
        "test episode, CPU ms": np.nan if first.test_seconds is None else 1000 * first.test_seconds,
        "peak, MiB": np.nan if first.peak_bytes is None else first.peak_bytes / 2**20,
        "settings tried": len(tried(runs, system or "", shot)),
        "setting": first.name + ("" if first.started else " (did not start)"),
    }


def per_episode(runs: Sequence[Run], shot: int) -> dict[str, NDArray[np.float64]]:
    """Accuracy in percent on each of the shared test episodes, for every system whose seed 0 is trained.

    Raises:
        ValueError: two systems were tested on different episodes.
    """
    first = {s: found[0] for s in SYSTEMS if (found := measured(runs, s, shot))}
    where = ("way", "shot", "query", "episodes", "seed", "digest")
    if len({tuple(run.novel[k] for k in where) for run in first.values()}) > 1:
        raise ValueError(f"the {shot}-shot systems were not tested on the same episodes: train the older ones anew")
    return {system: run.per_episode for system, run in first.items()}


def pairs(episodes: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Every pair of systems on the same episodes: difference in points, half width of its 95 % interval, and the half
    width if the two were not paired; ordered by the size of the difference."""
    names, lines = sorted(episodes, key=lambda s: -episodes[s].mean()), []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            points, half = over_episodes(episodes[a] - episodes[b])
            separate = float(np.hypot(over_episodes(episodes[a])[1], over_episodes(episodes[b])[1]))
            lines.append({"system": a, "against": b, "points": points, "±": half, "± if not paired": separate})
    columns = ["system", "against", "points", "±", "± if not paired"]
    return pd.DataFrame(lines, columns=columns).sort_values("points", ascending=False, ignore_index=True)


def pair_figure(compared: pd.DataFrame, of: str = "one training each") -> Figure:
    """Every pair as a square: row minus column in points with its interval; white where the interval holds 0.

    Columns go by the numbers of the rows. Of more than `MOST_WRITTEN` systems the numbers are left out, there would be
    no room to read them, and a dot says that a difference is not decidable. DMF's row is bold.

    Args:
        compared: `pairs`, or `agreement.every_pair`.
        of: which trainings on what the accuracies are of.
    """
    names = list(dict.fromkeys([*compared["system"], *compared["against"]]))
    wins = {n: (compared["system"] == n).sum() for n in names}
    names.sort(key=lambda n: -wins[n])
    if not names:
        return _empty("nothing trained yet, so nothing to compare")
    square = np.full((len(names), len(names)), np.nan)
    written = len(names) <= MOST_WRITTEN
    size = (max(6.5, 1.5 + 0.52 * len(names)), 1.0 + 0.45 * len(names)) if written else (9.5, 7.5)
    drawn, ax = plt.subplots(figsize=size)
    limit = compared["points"].abs().max()
    for _, r in compared.iterrows():
        i, j = names.index(r["system"]), names.index(r["against"])
        decided = abs(r["points"]) > r["±"]
        for row, column, sign in ((i, j, 1), (j, i, -1)):
            square[row, column] = sign * r["points"] if decided else 0
            if not written:
                if not decided:
                    ax.plot(column, row, ".", color="0.6", markersize=4)
                continue
            text = f"{sign * r['points']:+.1f}\n±{r['±']:.1f}"
            strong = abs(square[row, column]) > 0.6 * limit
            colour = "white" if strong else "black" if decided else "0.5"
            ax.text(column, row, text, ha="center", va="center", fontsize=plotting.SMALL, color=colour)
    shown = ax.imshow(square, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    if not written:
        drawn.colorbar(shown, ax=ax, label="points")
    ax.set_xticks(range(len(names)), [str(k + 1) for k in range(len(names))])
    ax.set_yticks(range(len(names)), [f"{name}  {k + 1}" for k, name in enumerate(names)])
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == "DMF" else "normal")
    drawn.suptitle(f"MEASURED, {of}:\naccuracy of the row minus that of the column, points", fontsize="medium")
    said = "orange: the row is ahead, violet: behind; white: the 95 % interval holds 0"
    said = said.replace("white:", "white:" if written else "white with a dot:")
    ax.set_xlabel(f"number of the system\n({said}{'; ±: that interval' if written else ''})")
    return drawn


def _empty(text: str) -> Figure:
    drawn, ax = plt.subplots(figsize=(5, 0.8))
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color="0.45")
    return drawn


def cost_figure(runs: Sequence[Run], shot: int, where: str = "glyphs-mini") -> Figure:
    """Published accuracies, hollow diamonds without a cost, and those measured on `where` against two costs."""
    drawn, axes = plt.subplots(1, 3, figsize=(9.8, 6), width_ratios=[1, 1.1, 1.1])
    column = f"mini_{shot}shot"
    paper = pd.read_csv(PAPER).dropna(subset=column).sort_values(column)
    places = range(len(paper))
    half = paper[f"{column}_ci95"]
    axes[0].errorbar(paper[column], places, xerr=half, fmt="D", color="0.45", mfc="none", ms=3, elinewidth=0.8)
    axes[0].set_yticks(places, [f"{m} ({b})" for m, b in zip(paper["model"], paper["backbone"], strict=True)])
    axes[0].set(xlabel="miniImageNet, %\n(bars: 95 % interval, where given)", title=f"PUBLISHED, {shot}-shot")
    ours = {system: _measured_line(runs, system, shot) for system in SYSTEMS if measured(runs, system, shot)}
    looks = {system: (colour, mark) for system, (mark, colour) in zip(ours, product("os^v", COLOURS), strict=False)}
    for ax, cost in zip(axes[1:], ("test episode, CPU ms", "training, CPU s"), strict=True):
        for system, line in ours.items():
            colour, mark = looks[system]
            point = (line[cost], line["accuracy, %"], line["± episodes"])
            ax.errorbar(*point, fmt=mark, color=colour, capsize=2, label=system)
        ax.set(xlabel=f"{cost}\n(bars: 95 % interval over episodes)", title=f"MEASURED, {where}, {shot}-shot")
        costs = [line[cost] for line in ours.values() if line[cost] > 0]
        if costs and max(costs) > 5 * min(costs):
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.locator_params(axis="x", nbins=5)
        ax.margins(x=0.1, y=0.1)
        if ours:
            ax.axhline(100 / TABLES.way, color="0.6", linestyle=":", linewidth=0.8, label="chance")
        else:
            ax.text(0.5, 0.5, "nothing trained yet", transform=ax.transAxes, ha="center")
            ax.set_axis_off()
    axes[1].set_ylabel("accuracy, %")
    if ours:
        drawn.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return drawn


def markdown(lines: pd.DataFrame) -> str:
    """A table as Markdown, column groups named in every column's head."""
    head, body = _cells(lines)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)) + "\n"


def latex(lines: pd.DataFrame) -> str:
    """A table as LaTeX's ``tabular``."""
    head, body = _cells(lines)
    special = str.maketrans({"%": r"\%", "&": r"\&", "_": r"\_", "±": r"$\pm$"})
    rows = [" & ".join(cell.translate(special) for cell in row) + r" \\" for row in (head, *body)]
    rows.insert(1, r"\hline")
    return "\\begin{tabular}{" + "l" * len(head) + "}\n" + "\n".join(rows) + "\n\\end{tabular}\n"


def _cells(lines: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Heads and cells as text; missing values are empty."""
    flat = lines.reset_index()
    names = [c if isinstance(c, tuple) else (c,) for c in flat]
    heads = [": ".join(str(p).split(",")[0] if p in (PUBLISHED, MEASURED) else str(p) for p in c if p) for c in names]
    return heads, [[_text(v) for v in row] for row in flat.itertuples(index=False)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or np.isnan(value) else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
