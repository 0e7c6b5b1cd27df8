"""The tables and curves of notebook 11."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from labkit import plotting
from labkit.studies.displacement.measure import BASELINE, METHODS, REMEDY

COLOURS = {
    BASELINE: plotting.BLACK,
    "DMF": plotting.BLUE,
    "DMF, alignment switched off": plotting.BLUE,
    "DMF without dynamic sampling": plotting.ORANGE,
    REMEDY: plotting.GREEN,
    "CAN": plotting.PINK,
}
TITLES = {
    "apart": "support and query\nto opposite sides",
    "together": "both to\nthe same side",
    "clutter": "among clutter",
    "contrast": "by contrast",
}
AXES = {
    "apart": "distance of the objects\n(1: from edge to edge)",
    "together": "each as far from the middle\nas on the left",
    "clutter": "glyphs of clutter",
    "contrast": "least contrast of object\nand ground",
}
SHIFTED = {  # of pictures, not of objects
    "apart": "distance of the pictures\n(1: their side)",
    "together": "each shifted as far\nas on the left",
}


def table(rows: Sequence[Mapping[str, Any]], study: str, entry: str = "accuracy") -> pd.DataFrame:
    """An entry of `compare` as a table: methods downwards, levels across, cells of "27.4 ± 0.9".

    Levels that the entry was not computed for are left out.
    """
    lines: dict[str, dict[float, str]] = {}
    for row in rows:
        if row["study"] == study and entry in row:
            cell = f"{row[entry]:.1f} ± {row[f'{entry} ci95']:.1f}"
            lines.setdefault(row["method"], {})[row["level"]] = cell
    return pd.DataFrame(lines).T


def figure(
    rows: Sequence[Mapping[str, Any]],
    studies: Sequence[str] = ("apart", "together", "clutter", "contrast"),
    baseline: str = BASELINE,
    way: int = 5,
    axes_of: Mapping[str, str] = AXES,
) -> Figure:
    """Accuracy above, with chance dotted, and the gain over the baseline below; a column a study, a colour a method.

    Dashed and hollow is what was switched in a network trained without the change.

    Bars are 95 % intervals over episodes: those above hold how much episodes differ from one another, those below only
    how much the two methods do.
    """
    size = (min(9.5, 3.6 * len(studies)), 6)
    drawn, axes = plt.subplots(2, len(studies), figsize=size, sharey="row", sharex="col", squeeze=False)
    names = {row["method"]: None for row in rows}
    for column, own in zip(axes.T, studies, strict=True):
        part = [row for row in rows if row["study"] == own]
        for k, name in enumerate(names):
            line = [row for row in part if row["method"] == name]
            switched = name in METHODS and METHODS[name].changes
            shift = (k - (len(names) - 1) / 2) * 0.012  # of the axis, lest bars hide one another
            for ax, entry in zip(column, ("accuracy", "gain"), strict=True):
                ax.errorbar(
                    [place + shift * (len(line) - 1) for place in range(len(line))],
                    [row[entry] for row in line],
                    [row[f"{entry} ci95"] for row in line],
                    color=COLOURS.get(name),
                    linestyle="--" if switched else "-",
                    marker="o",
                    markersize=4,
                    markerfacecolor="white" if switched else COLOURS.get(name),
                    linewidth=1.2,
                    label=name,
                )
        column[0].axhline(100 / way, color=plotting.BLACK, linewidth=0.8, linestyle=":")
        column[0].set_title(TITLES.get(own, own), fontsize=plotting.SMALL)
        levels = [row["level"] for row in part if row["method"] == part[0]["method"]]
        column[1].set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
        column[1].set_xlabel(axes_of.get(own, own))
    shown = [row["accuracy"] + sign * row["accuracy ci95"] for row in rows for sign in (-1, 1)]
    low, high = min(100 / way, *shown) - 3, max(shown) + 3
    axes[0, 0].set(
        ylabel="accuracy, % (dotted: chance;\nbars: 95 % interval over episodes)", ylim=(max(0, low), min(100, high))
    )
    axes[1, 0].set_ylabel(f"minus {baseline}, points\n(bars: 95 % interval, paired)")
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawn
