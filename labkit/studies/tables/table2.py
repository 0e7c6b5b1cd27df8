"""Table 2: the published ablations beside ours, and what becomes of the claims of section 5.3.

An ablation is judged by differences between trainings that share a seed (initial weights, episodes, augmentation): by
their 95 % t-interval over seeds, since an interval over test episodes knows nothing of the next training, and by that
over the episodes, since seeds that share them know nothing of other episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from labkit import plotting
from labkit.common import places
from labkit.evaluation import intervals
from labkit.plotting import SMALL
from labkit.studies.tables.agreement import over_shared_episodes, paired, wider
from labkit.studies.tables.cells import BASE, TABLE2, Cell, trained_as
from labkit.studies.tables.cells import row_of_table2 as row
from labkit.studies.tables.runs import Run
from labkit.studies.tables.train_cells import runs_of

PAPER = places.RESULTS / "paper_table2.csv"
SHOTS = (1, 5)
TITLES = {
    "dynamic_sampling": "(a) dynamic sampling",
    "last_pooling": "(b) last pooling",
    "groups": "(c) groups, of 640 channels",
    "align": "(d) alignments",
}
ODE, SAMPLING_OFF, POOLING_ON = row("align", "ode"), row("dynamic_sampling", "off"), row("last_pooling", "on")


@dataclass(frozen=True)
class Claim:
    """A sentence of section 5.3 as an inequality between two rows of Table 2; the base is the ODE's.

    `said` is the gain in points as the text has it, or None where it names no number.
    """

    text: str
    shot: int
    better: Cell
    worse: Cell
    said: float | None = None


CLAIMS = (
    Claim("dynamic sampling helps", 1, ODE, SAMPLING_OFF, 1.03),
    Claim("dynamic sampling helps", 5, ODE, SAMPLING_OFF, 1.50),
    Claim("deleting the last pooling helps", 1, ODE, POOLING_ON, 0.64),
    Claim("deleting the last pooling helps", 5, ODE, POOLING_ON, 1.16),
    Claim("64 groups improve on one", 1, row("groups", "64"), row("groups", "1")),
    Claim("160 groups improve on one", 5, row("groups", "160"), row("groups", "1")),
    Claim("640 groups lose against 64", 1, row("groups", "64"), row("groups", "640")),
    Claim("five shots need 160 groups, not 64", 5, row("groups", "160"), row("groups", "64")),
    Claim("640 groups lose against 160", 5, row("groups", "160"), row("groups", "640")),
    Claim("one alignment improves on none", 1, row("align", "1"), row("align", "0"), 1.28),
    Claim("one alignment improves on none", 5, row("align", "1"), row("align", "0"), 0.77),
    Claim("three alignments slightly improve on one", 1, row("align", "3"), row("align", "1")),
    Claim("three alignments lose against one", 5, row("align", "1"), row("align", "3"), 0.95),
    Claim("the ODE improves on one alignment", 1, ODE, row("align", "1")),
    Claim("the ODE improves on one alignment", 5, ODE, row("align", "1")),
)


def published() -> dict[tuple[Cell, int], float]:
    """Table 2 of the paper: accuracy in percent by row and shots."""
    table = pd.read_csv(PAPER, dtype={"value": str})
    rows = [row(*name) for name in zip(table["factor"], table["value"], strict=True)]
    return {(r, k): float(v) for k, column in ((1, "k1"), (5, "k5")) for r, v in zip(rows, table[column], strict=True)}


def by_seed(runs: Sequence[Run], cell: Cell, shot: int) -> dict[int, float]:
    """Accuracy on novel classes in percent of a row of Table 2, for every seed it was trained with."""
    return {r.seed: r.accuracy for r in runs_of(runs, cell, shot)}


def waiting(runs: Sequence[Run], cell: Cell, shot: int) -> list[int]:
    """Seeds with which a row of Table 2 did not start within its steps (`started`)."""
    return [r.seed for r in runs_of(runs, cell, shot) if not r.started]


def difference(runs: Sequence[Run], better: Cell, worse: Cell, shot: int) -> tuple[float, float, list[float]]:
    """`agreement.paired` of two rows of Table 2: mean and half width are NaN where not enough is trained."""
    return paired(runs_of(runs, better, shot), runs_of(runs, worse, shot))


def verdict(mean: float, half: float, seeds: int, waiting: int = 0) -> str:
    """What a paired interval says of the claim that the difference is positive.

    Nothing where trainings are still `waiting` at chance: their distance to others says how long a start takes.
    """
    if seeds < 2:
        return "not measured yet" if seeds == 0 else "not decidable (one seed)"
    if waiting:
        return f"not decidable ({waiting} of {2 * seeds} trainings did not start)"
    return intervals.verdict(mean, half, "held", "not held")


def table(runs: Sequence[Run], where: str = "glyphs-mini") -> pd.DataFrame:
    """Published and measured accuracies in percent, by part; measured ones are means over seeds.

    Their number stands beside them, and how many of them started.
    """
    paper = published()
    lines: dict[tuple[str, str], dict[tuple[str, str], Any]] = {}
    for cell in TABLE2:
        line: dict[tuple[str, str], Any] = {}
        for shot in SHOTS:
            line["PUBLISHED, miniImageNet", f"{shot}-shot"] = paper[cell, shot]
        for shot in SHOTS:
            reached = list(by_seed(runs, cell, shot).values())
            line[f"MEASURED, {where}", f"{shot}-shot"] = float(np.mean(reached)) if reached else np.nan
            line[f"MEASURED, {where}", f"seeds, {shot}-shot"] = len(reached)
            line[f"MEASURED, {where}", f"started, {shot}-shot"] = len(reached) - len(waiting(runs, cell, shot))
        lines[TITLES[cell.factor], cell.value] = line
    return pd.DataFrame.from_dict(lines, orient="index")


def shown(lines: pd.DataFrame) -> pd.DataFrame:
    """Numbers with two decimals, counts with none, and blanks where there is nothing."""

    def text(value: Any) -> str:
        if isinstance(value, str):
            return value
        return "" if value is None or np.isnan(value) else f"{value:.2f}" if isinstance(value, float) else str(value)

    return lines.map(text)


def claims(runs: Sequence[Run]) -> pd.DataFrame:
    """Every claim of section 5.3: the gain in its text, in its Table 2, and here, with a verdict from our intervals.

    ``±`` is the wider of two half widths, over seeds and over the test episodes, as everywhere (`agreement.compared`);
    beside it stand the half width had other classes been drawn, and what is then left of the verdict.
    """
    paper = published()
    lines = []
    for c in CLAIMS:
        mean, half, single = difference(runs, c.better, c.worse, c.shot)
        both = [runs_of(runs, cell, c.shot) for cell in (c.better, c.worse)]
        shared = by_seed(runs, c.better, c.shot).keys() & by_seed(runs, c.worse, c.shot).keys()
        late = sum(len(shared & set(waiting(runs, cell, c.shot))) for cell in (c.better, c.worse))
        episodes, classes = over_shared_episodes(*both)
        widest = wider(half, episodes)
        lines.append(
            {
                "claim": c.text,
                "shots": c.shot,
                "PUBLISHED, text": c.said,
                "PUBLISHED, table": round(paper[c.better, c.shot] - paper[c.worse, c.shot], 2),
                "MEASURED": mean,
                "±": widest,
                "seeds": len(single),
                "verdict": verdict(mean, widest, len(single), late),
                "± over classes": classes,
                "of other classes": verdict(mean, wider(half, classes), len(single), late),
            }
        )
    return pd.DataFrame(lines)


def figure(runs: Sequence[Run], factor: str, where: str = "glyphs-mini") -> Figure:
    """A part of Table 2 as differences to its base: published, hollow diamonds; measured, discs with intervals.

    Accuracies of two data sets share no axis; differences to the base do. A small dot is one seed of several, a hollow
    disc the only one, which has no interval; `where` says on what was measured.
    """
    paper, cells = published(), [cell for cell in TABLE2 if cell.factor == factor]
    drawn, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
    found = {(cell, shot): _drawn(runs, cell, shot) for cell in cells for shot in SHOTS}
    several = f"measured, mean of {_counts([len(single) for *_, single in found.values()])} seeds"
    for ax, shot in zip(axes, SHOTS, strict=True):
        places = np.arange(len(cells))
        gains = [paper[cell, shot] - paper[ODE, shot] for cell in cells]
        ax.plot(places - 0.1, gains, "D:", color="0.45", mfc="none", ms=8, label="published, no interval given")
        for place, cell in zip(places, cells, strict=True):
            mean, half, single = found[cell, shot]
            if trained_as(cell, shot) == BASE and by_seed(runs, BASE, shot):
                ax.plot(place + 0.1, 0, "s", color=plotting.BLACK, markersize=5, label="measured base, 0 by definition")
            elif not single:
                at = ax.get_xaxis_transform()
                ax.text(place, 0.01, "not yet\ntrained", transform=at, ha="center", fontsize=SMALL, color=plotting.BLUE)
            elif len(single) == 1:
                only = "measured, one seed: no interval"
                ax.plot(place + 0.1, mean, "o", color=plotting.BLUE, mfc="white", label=only)
            else:
                ax.plot(
                    [place + 0.22] * len(single),
                    single,
                    ".",
                    color=plotting.BLUE,
                    markersize=4,
                    label="a single one of these seeds",
                )
                own = f"{several}, 95 % interval"
                ax.errorbar(place + 0.1, mean, yerr=half, fmt="o", color=plotting.BLUE, capsize=3, label=own)
            if single and (late := len(waiting(runs, cell, shot))):
                said, low = f"{late} of {len(single)}\nat chance", min(single) if np.isnan(half) else mean - half
                below = {"xytext": (0, -5), "textcoords": "offset points", "ha": "center", "va": "top"}
                ax.annotate(said, (place + 0.1, low), color=plotting.BLUE, fontsize=SMALL, **below)
        ax.axhline(0, color=plotting.BLACK, linewidth=0.6)
        ax.set_xticks(places, [cell.value for cell in cells])
        ax.set_xlim(-0.6, len(cells) - 0.4)
        ax.set(title=f"{shot}-shot", xlabel=TITLES[factor])
    axes[0].margins(y=0.3)  # for what is written at the bottom
    axes[0].set_ylabel("accuracy minus the base's, points")
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    of = f"PUBLISHED: miniImageNet. MEASURED: {where}"
    drawn.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, title=of)
    return drawn


def _drawn(runs: Sequence[Run], cell: Cell, shot: int) -> tuple[float, float, list[float]]:
    """`difference` to the base, with the half width that a verdict takes."""
    mean, half, single = difference(runs, cell, BASE, shot)
    episodes, _ = over_shared_episodes(runs_of(runs, cell, shot), runs_of(runs, BASE, shot))
    return mean, wider(half, episodes), single


def _counts(seeds: Sequence[int]) -> str:
    """How many seeds there are where there are several: "3", or "2 to 5"."""
    several = sorted({count for count in seeds if count > 1}) or [0]
    return f"{several[0]}" if len(several) == 1 else f"{several[0]} to {several[-1]}"
