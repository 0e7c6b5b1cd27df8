"""The pictures of notebooks 6 and 7: Figures 3 and 4 of the paper, and what was measured beside them."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from labkit import plotting
from labkit.methods.cells import Cells
from labkit.studies import figure3_sampling, figure4_heat

COLOURS = {
    figure3_sampling.LEARNED: plotting.RED,
    figure3_sampling.GRID: plotting.SKY,
    figure3_sampling.RANDOM: plotting.ORANGE,
    figure3_sampling.OTHER: plotting.PINK,
}
MARKS = {
    figure4_heat.BEFORE: ("o", plotting.SKY),
    figure4_heat.AFTER: ("D", plotting.RED),
    figure4_heat.OTHER: ("s", plotting.PINK),
}


def sampled_pairs(columns: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> Figure:
    """Figure 3: columns of pairs of query and support, each with one query position and the points sampled for it.

    Args:
        columns: of pairs with ``query`` and ``support``, pictures [n, n, 3] of ``side`` pixels as the network reads
            them, ``points`` and ``grid``, (y, x) in these pixels, [9, 2], and below each picture a ``name`` and a
            ``caption``; where they are known the objects' ``boxes``, masks [side, side] of query and support.
        names: one a column.
    """
    lines = len(columns[0])
    size = (9.5, 9.5 / (2.1 * len(columns)) * lines + 0.7 * lines + 0.4)
    widths = [1, 1, 0.08] * len(columns)
    figure, axes = plt.subplots(lines, 3 * len(columns), figsize=size, squeeze=False, width_ratios=widths)
    for k, (pairs, name) in enumerate(zip(columns, names, strict=True)):
        for number, (pair, (left, right, gap)) in enumerate(zip(pairs, axes[:, 3 * k : 3 * k + 3], strict=True)):
            position, side = np.asarray(pair["grid"])[4], pair["side"]
            plotting.show_sampling(
                (left, right), pair["query"], pair["support"], position, pair["points"], pair["grid"], side
            )
            if "boxes" in pair:
                for ax, box in zip((left, right), pair["boxes"], strict=True):
                    _outline(ax, box)
            left.set_title("" if number else f"{name}: query position", pad=12)
            right.set_title("" if number else "support, sampled points", pad=12)
            whole = [part.replace(" ", "\N{NO-BREAK SPACE}") for part in pair["name"].split(", ")]  # "episode 1"
            name_of = plotting.text(textwrap.fill(", ".join(whole), 27))
            left.set_xlabel(name_of, labelpad=8)
            right.set_xlabel(pair["caption"], labelpad=8)
            gap.axis("off")
    boxed = "; blue: the object's box" if any("boxes" in pair for pairs in columns for pair in pairs) else ""
    figure.supxlabel(f"\n{plotting.MARKED}{boxed}", fontsize=plotting.SMALL)
    return figure


def _outline(ax: Axes, box: ArrayLike) -> None:
    """The outline of a box, given by its mask, over a picture of as many pixels."""
    rows, columns = (np.flatnonzero(np.asarray(box).any(axis)) for axis in (1, 0))
    corner, width, height = (columns[0] - 0.5, rows[0] - 0.5), float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=plotting.SKY, linewidth=1.4, clip_on=False))


def shares(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Bars of the shares that `figure3_sampling.measure` gives: a row of panels for each network."""
    names, positions = list(COLOURS), ("on the object", "off it")
    figure, axes = plt.subplots(
        len(measured), 2, figsize=(9.5, 1.5 * len(measured) + 0.8), sharex=True, sharey=True, squeeze=False
    )
    for line, (network, rows) in zip(axes, measured.items(), strict=True):
        for ax, position in zip(line, positions, strict=True):
            part = {row["points"]: row for row in rows if row["query position"] == position}
            found, half = ([part[name][entry] for name in names] for entry in ("ink", "ink ci95"))
            ax.barh(names, found, xerr=half, color=list(COLOURS.values()), height=0.7, capsize=2)
            ax.axvline(part[figure3_sampling.CHANCE]["ink"], color=plotting.BLACK, linestyle=":", linewidth=1)
            ax.set_title(f"{network}: query positions {position}", fontsize=plotting.SMALL)
    axes[0, 0].invert_yaxis()
    for ax in axes[-1]:
        ax.set_xlabel("points on the support's object, %\n(dotted: chance; bars: 95 % interval over episodes)")
    return figure


def heat_rows(lines: Sequence[Mapping[str, Any]], networks: Sequence[str]) -> Figure:
    """Figure 4: support, query, and the query's heat after each network's alignment, all on one scale.

    The scale leaves out the coldest and the hottest 2 % of the cells, which take its last colours: one outlier would
    dim all others. The hottest cell of every map is marked, and below it stands whether it hits the object, where the
    mask is known, and whether the network gave the query its own class.

    Args:
        lines: with ``support`` and ``query``, pictures [n, n, 3]; the query's ``mask`` [m, m], or None, and what
            its ``outline`` is of; ``heats``, one [h, w] a network; ``cells``, where in these pictures the cells of each
            lie; ``right`` and ``hits``, a bool a network, of which ``hits`` is None without a mask; and a ``name``.
        networks: the heats' names.
    """
    columns = 2 + len(networks)
    values = np.stack([np.asarray(line["heats"]) for line in lines])
    scale = Normalize(*np.percentile(values, [2, 98]))
    figure, axes = plt.subplots(
        len(lines), columns, figsize=(9.5, (8.3 / columns + 0.2) * len(lines) + 1.4), squeeze=False
    )
    outlines = {line["outline"] for line in lines if line["mask"] is not None}
    for row, line in zip(axes, lines, strict=True):
        plotting.show_image(row[0], line["support"])
        plotting.show_image(row[1], line["query"])
        hits = line["hits"] or [None] * len(networks)
        entries = zip(row[2:], line["heats"], line["cells"], line["right"], hits, strict=True)
        for ax, heats, cells, right, hit in entries:
            _glow(ax, line["query"], heats, scale, cells, line["mask"])
            said = [] if hit is None else ["hit" if hit else "miss"]
            ax.set_xlabel(", ".join([*said, _verdict(right)]), color=plotting.BLACK if right else plotting.RED)
        row[0].set_ylabel(
            plotting.text(line["name"]), rotation=0, ha="right", va="center", fontsize=plotting.SMALL, labelpad=6
        )
    for ax, title in zip(axes[0], ("support", "query", *networks), strict=True):
        ax.set_title(textwrap.fill(title, 14), fontsize=plotting.SMALL)
    answer = "right, wrong: what the network answers for the query, among the five classes of its episode"
    outline = ""
    if outlines:
        outline = f"white: {outlines.pop()}; hit, miss: whether the centre of the hottest cell lies on it;\n"
    _heat_bar(figure, scale, axes, f"{outline}{answer}")
    return figure


def _verdict(right: bool) -> str:
    return "right" if right else "wrong"


def heat_by_class(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """The same query aligned with every class of its episode: two rows a query, all heats on one scale.

    Above, the query and the support picture of each class, its own framed, and whether the query was classified right;
    below, the query's heat before and after the alignment with that class, with its score, the highest of them bold,
    and how much of the heat lies elsewhere than for its own class.

    Args:
        lines: with ``query`` [n, n, 3], ``supports``, ``names``, ``own``, ``before`` [h, w], ``heats`` [N, h, w],
            ``scores`` [N], ``moved`` [N] in percent, and ``cells``, where in these pictures the cells lie.
    """
    count = len(lines[0]["names"])
    values = np.concatenate([np.asarray(line["heats"]).ravel() for line in lines])
    scale = Normalize(*np.percentile(values, [2, 98]))
    size = (9.5, 2 * len(lines) * (9.5 / (count + 1.2) + 0.25) + 1.1)
    figure, axes = plt.subplots(2 * len(lines), count + 1, figsize=size, squeeze=False)
    for line, above, below in zip(lines, axes[::2], axes[1::2], strict=True):
        best = int(np.argmax(line["scores"]))
        plotting.show_image(above[0], line["query"], f"query, classified {_verdict(best == line['own'])}")
        _glow(below[0], line["query"], line["before"], scale, line["cells"])
        below[0].set_xlabel("before alignment")
        for n in range(count):
            own = n == line["own"]
            frame = plotting.GREEN if own else None
            plotting.show_image(above[n + 1], line["supports"][n], line["names"][n], frame)
            _glow(below[n + 1], line["query"], line["heats"][n], scale, line["cells"])
            elsewhere = "its own class" if own else f"{line['moved'][n]:.1f} % elsewhere"
            weight = "bold" if n == best else "normal"
            below[n + 1].set_xlabel(f"score {line['scores'][n]:.2f}\n{elsewhere}", weight=weight)
    said = "green frame: the query's own class; bold: the highest score, which is the answer;\n"
    said += "elsewhere: heat that lies in other cells than after the alignment with its own class"
    _heat_bar(figure, scale, axes, said)
    return figure


def _heat_bar(figure: Figure, scale: Normalize, axes: NDArray[Any], said: str) -> None:
    where: Any = {"location": "bottom", "shrink": 0.5, "aspect": 40, "extend": "both"}
    bar = figure.colorbar(ScalarMappable(scale, plotting.HEAT), ax=axes, **where)
    bar.set_label(f"heat (1: evenly spread; ×: the hottest cell)\n{said}")


def _glow(
    ax: Axes, picture: ArrayLike, heats: ArrayLike, scale: Normalize, cells: Cells, mask: ArrayLike | None = None
) -> None:
    """A picture in the colours of its heat, its light and dark left visible, and the object's outline, if known."""
    pixels = np.asarray(picture)
    grey = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    side = np.asarray(heats).shape[0]
    of = cells.at_pixels(len(pixels), side).numpy()
    colours = plt.get_cmap(plotting.HEAT)(scale(np.asarray(heats)))[..., :3][of[:, None], of]
    # Around 1, so that a cell keeps the hue that its heat has on the bar; in few steps, which a PNG stores briefly.
    shade = 1 + 0.6 * (grey - grey.mean()).round(1)
    plotting.show_image(ax, (colours * shade[..., None]).clip(0, 1))
    top = np.unravel_index(np.asarray(heats).argmax(), (side, side))
    y, x = (np.flatnonzero(of == k).mean() for k in top)
    edge = [patheffects.withStroke(linewidth=4, foreground="white")]
    ax.plot(x, y, "x", color=plotting.RED, markersize=7, markeredgewidth=2, path_effects=edge)
    if mask is not None:
        outline = np.asarray(mask)
        places = (np.arange(len(outline)) + 0.5) * len(pixels) / len(outline) - 0.5
        ax.contour(places, places, outline, levels=[0.5], colors="white", linewidths=0.9)


def inside_and_hottest(rows: Sequence[Mapping[str, Any]], kind: str = "feature") -> Figure:
    """Heat on the object before and after alignment, and with another query's mask, from `figure4_heat.summarise`.

    Below, what the alignment adds over the same queries: its interval is far smaller than those above, which hold what
    queries differ in.
    """
    part = [row for row in rows if row["heat"] == kind]
    places = np.arange(len(part))
    figure, axes = plt.subplots(
        2, 2, figsize=(9.5, 0.65 * len(part) + 2), sharey=True, height_ratios=(1.6, 1), squeeze=False
    )
    labels = {"inside": "heat inside the object", "hottest": "hottest cell on the object"}
    for (ax, below), (what, label) in zip(axes.T, labels.items(), strict=True):
        for shift, (when, (mark, colour)) in zip((-0.22, 0, 0.22), MARKS.items(), strict=True):
            found, half = ([row[f"{what}, {when}{end}"] for row in part] for end in ("", " ci95"))
            ax.errorbar(found, places + shift, xerr=half, fmt=mark, color=colour, markersize=4, capsize=2, label=when)
        ax.axvline(part[0][f"{what}, {figure4_heat.CHANCE}"], color=plotting.BLACK, linestyle=":", linewidth=1)
        ax.set_xlabel(f"{label}, % (dotted: chance)")
        gains, half = ([row[f"{what}, gain{end}"] for row in part] for end in ("", " ci95"))
        mark, colour = MARKS[figure4_heat.AFTER]
        below.errorbar(gains, places, xerr=half, fmt=mark, color=colour, markersize=4, capsize=2)
        below.axvline(0, color=plotting.BLACK, linewidth=0.8)
        below.set_xlabel(f"aligned minus before: {label}, points")
        for of_what in (ax, below):
            of_what.margins(x=0.15)
        below.locator_params(axis="x", nbins=5)
    for ax in axes[:, 0]:
        ax.set_yticks(places, [row["network"] for row in part])
    axes[0, 0].invert_yaxis()
    handles, names = axes[0, 0].get_legend_handles_labels()
    title = "bars: 95 % interval over episodes; below, paired by episode"
    figure.legend(handles, names, loc="outside upper center", ncols=3, title=title, frameon=False)
    return figure
