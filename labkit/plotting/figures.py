"""The pictures of the notebooks: one look, colours that the colour-blind can tell apart."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray

from labkit.common import checks
from labkit.common.versions import versions
from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import Episode
from labkit.evaluation.protocol import Result

# Okabe and Ito's palette, in the order that lines take it.
BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
HEAT = "cividis"


MOST_INCHES = 60  # of a figure's height: pictures become smaller instead
MOST_ROWS = 300  # of pictures, by name, in one figure


def text(name: str) -> str:
    """A name, drawn as it is: matplotlib reads what stands between two ``$`` as mathematics."""
    return str(name).replace("$", r"\$")


def use_style() -> None:
    """Set the lab's look for all figures that follow."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, RED]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "image.interpolation": "nearest",
            "legend.frameon": False,
            "font.size": 9,
        }
    )


def save(figure: Figure, runs: str | Path, name: str, **how: Any) -> None:
    """Write a figure to ``RUNS/figures`` as PNG and SVG, with a JSON of how it was made; then it may still be shown."""
    folder = checks.path("runs", runs, "the path of a folder") / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches="tight")
    figure.savefig(folder / f"{name}.svg", bbox_inches="tight")
    (folder / f"{name}.json").write_text(json.dumps({"how": checks.plain(how), "versions": versions()}, indent=1))


def show_image(ax: Axes, pixels: ArrayLike, title: str = "", frame: str | None = None) -> None:
    """A picture without ticks; `frame` is a colour around it. Titles are wrapped to the picture's width."""
    ax.imshow(np.asarray(pixels))
    ax.set(xticks=[], yticks=[])
    if title:
        ax.set_title(text(textwrap.fill(title, 16)), fontsize=7)
    for spine in ax.spines.values():
        spine.set(visible=frame is not None, color=frame or BLACK, linewidth=3)


def show_heat(ax: Axes, values: ArrayLike, title: str = "", low: float | None = None, high: float | None = None) -> Any:
    """A map of h x w cells as colours from `low` to `high`; returns what a colour bar needs."""
    shown = ax.imshow(np.asarray(values), cmap=HEAT, vmin=low, vmax=high)
    ax.set(xticks=[], yticks=[])
    ax.set_title(text(title), fontsize=8)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return shown


def readable(name: str) -> str:
    """A Unicode name in lower case, its letters as they are: ``SCRIPT CAPITAL F`` is ``Script capital F``."""
    words = " ".join(w if len(w) == 1 else w.lower() for w in name.split())
    return words[:1].upper() + words[1:]


def image_grid(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    names: Sequence[str],
    width: float = 9,
    titles: Sequence[Sequence[str]] | None = None,
    frame: str | None = None,
) -> Figure:
    """Rows of pictures, each row with its name to the left; of more than `MOST_ROWS` rows the first.

    Args:
        rows: pictures uint8 [size, size, 3]; rows may differ in length.
        names: one a row; long lines are wrapped.
        width: of the figure, in inches.
        titles: what stands above each picture; shorter than `rows`, it is only for the first of them.
        frame: a colour around the first picture of every row.
    """
    left_out = len(rows) - MOST_ROWS
    rows, names = rows[:MOST_ROWS], names[:MOST_ROWS]
    columns = max(len(row) for row in rows)
    labels = ["\n".join(textwrap.fill(line, 22) for line in name.split("\n")) for name in names]
    beside = 0.15 + 0.062 * max(len(line) for label in labels for line in label.split("\n"))  # inches for the names
    above = 0 if titles is None else 0.2 * len(titles)  # inches for the titles
    height = min((width - beside) / columns * len(rows), MOST_INCHES) + above
    figure, axes = plt.subplots(len(rows), columns, figsize=(width, height), squeeze=False, layout="constrained")
    _layout(figure).set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for ax in axes.ravel():
        ax.axis("off")
    for r, (row, label, line) in enumerate(zip(rows, labels, axes, strict=True)):
        over = titles[r] if titles is not None and r < len(titles) else [""] * len(row)
        for c, (pixels, title, ax) in enumerate(zip(row, over, line, strict=False)):
            ax.axis("on")
            show_image(ax, pixels, title, frame=frame if c == 0 else None)
        line[0].set_ylabel(text(label), rotation=0, ha="right", va="center", fontsize=7)
    if left_out > 0:
        figure.supxlabel(f"and {left_out} more", fontsize=7)
    return figure


def _layout(figure: Figure) -> ConstrainedLayoutEngine:
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    return engine


def spotlight(pixels: ArrayLike, mask: ArrayLike) -> NDArray[np.uint8]:
    """The picture [size, size, 3] in colour where `mask` [size, size] is, dim and grey elsewhere."""
    picture = np.asarray(pixels)
    dim = 0.3 * (picture @ np.array([0.299, 0.587, 0.114]))
    return np.where(np.asarray(mask)[..., None], picture, dim[..., None]).astype(np.uint8)


def show_episode(images: ImageSet, episode: Episode, queries: int = 5, width: float = 9) -> Figure:
    """Support to the left, each class by its name, and the first queries of that class to the right of it."""
    way, shot = episode.support_index.shape
    figure, axes = plt.subplots(
        way, shot + queries, figsize=(width, 1.15 * width * way / (shot + queries + 2)), squeeze=False
    )
    for n in range(way):
        own = episode.query_index[episode.query_labels == n][:queries]
        for ax, i in zip(axes[n], [*episode.support_index[n].tolist(), *own.tolist()], strict=False):
            show_image(ax, images.pixels[i], frame=BLUE if i in episode.support_index[n] else None)
        name = readable(images.class_names[int(episode.classes[n])])
        axes[n, 0].set_ylabel(text(textwrap.fill(name, 22)), rotation=0, ha="right", va="center", fontsize=7)
    axes[0, 0].set_title("support", color=BLUE)
    axes[0, shot].set_title("query", loc="left")
    return figure


def heat_row(
    maps: Sequence[ArrayLike],
    titles: Sequence[str],
    label: str,
    picture: ArrayLike | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Maps side by side on one scale with its colour bar, named `label`; to their left a picture, if given."""
    extra = picture is not None
    count = len(maps) + extra
    figure, axes = plt.subplots(1, count, figsize=(1.55 * count + 0.6, 1.9))
    if extra:
        show_image(axes[0], np.asarray(picture), "query")
    values = np.stack([np.asarray(m) for m in maps])
    low, high = (v if v is not None else f for v, f in zip(limits, (values.min(), values.max()), strict=True))
    for ax, value, title in zip(axes[extra:], values, titles, strict=True):
        shown = show_heat(ax, value, title, low, high)
    figure.colorbar(shown, ax=axes, label=text(label))
    return figure


def picture_and_heat(pictures: Sequence[ArrayLike], maps: Sequence[ArrayLike], label: str) -> Figure:
    """Pictures above, a map of each below, every map on a scale of its own."""
    figure, axes = plt.subplots(2, len(maps), figsize=(1.6 * len(maps), 3.4))
    for column, picture, values in zip(axes.T, pictures, maps, strict=True):
        show_image(column[0], picture)
        show_heat(column[1], values)
    axes[1, 0].set_ylabel(text(label))
    return figure


def score_rows(picture: ArrayLike, before: ArrayLike, after: ArrayLike, label: int) -> Figure:
    """Score maps [N, h, w] of a query before and after alignment, each row on one scale; `label` is the true class."""
    rows = (np.asarray(before), np.asarray(after))
    count = len(rows[0])
    figure, axes = plt.subplots(2, count + 1, figsize=(1.55 * (count + 1), 3.4))
    show_image(axes[0, 0], picture, "query")
    axes[1, 0].axis("off")
    for line, maps, name in zip(axes, rows, ("before alignment", "after alignment"), strict=True):
        for n, ax in enumerate(line[1:]):
            title = f"class {n + 1}{' (true)' if n == label else ''}" if maps is rows[0] else ""
            show_heat(ax, maps[n], title, maps.min(), maps.max())
            ax.set_xlabel(f"score {maps[n].mean():.2f}")
        line[1].set_ylabel(name)
    return figure


def sampling_row(
    query: ArrayLike, support: ArrayLike, points: ArrayLike, grid: ArrayLike, cells: Sequence[tuple[int, int]]
) -> Figure:
    """`show_sampling` for several query cells (row, column); points and grid [9, 2, h, w] in image pixels."""
    where, regular = np.asarray(points), np.asarray(grid)
    figure, axes = plt.subplots(1, 2 * len(cells), figsize=(3.5 * len(cells), 2.2))
    for (i, j), pair in zip(cells, axes.reshape(-1, 2), strict=True):
        y, x = regular[4, :, i, j]
        show_sampling(pair, query, support, (y, x), where[:, :, i, j], regular[:, :, i, j])
        pair[0].set_xlabel(f"cell ({i}, {j})")
    return figure


def show_sampling(
    axes: Sequence[Axes],
    query: ArrayLike,
    support: ArrayLike,
    position: tuple[float, float],
    points: ArrayLike,
    grid: ArrayLike,
) -> None:
    """Figure 3 of the paper: a query position (green) and the nine points sampled for it in the support (red).

    Args:
        axes: two, for query and support.
        query, support: pictures [size, size, 3].
        position: (y, x) of the query position in pixels.
        points: (y, x) in pixels, [9, 2]; those outside the picture are drawn, hollow, on its edge.
        grid: the regular 3 x 3 grid, [9, 2], drawn as ghosts.
    """
    show_image(axes[0], query, "query position")
    axes[0].plot(position[1], position[0], "o", color=GREEN, markersize=8, markeredgecolor="white")
    show_image(axes[1], support, "sampled points")
    show_points(axes[1], np.asarray(support).shape[0], points, grid)


def show_points(ax: Axes, side: int, points: ArrayLike, grid: ArrayLike) -> None:
    """The nine points of `show_sampling` over a support picture that is shown already, `side` pixels wide and high."""
    where, ghosts = np.asarray(points), np.asarray(grid)
    inside = ((where >= -0.5) & (where <= side - 0.5)).all(1)
    drawn = where.clip(0, side - 1)
    edge = [patheffects.withStroke(linewidth=2, foreground=BLACK, alpha=0.35)]  # white is seen on any picture then
    ax.plot(ghosts[:, 1], ghosts[:, 0], "o", color="white", alpha=0.7, markersize=4, clip_on=False, path_effects=edge)
    for (y0, x0), (y1, x1) in zip(ghosts, drawn, strict=True):
        ax.plot([x0, x1], [y0, y1], color="white", alpha=0.7, linewidth=0.9, path_effects=edge)
    ax.plot(drawn[inside, 1], drawn[inside, 0], "o", color=RED, markersize=6, markeredgecolor="white")
    ax.plot(drawn[~inside, 1], drawn[~inside, 0], "o", color=RED, markersize=6, fillstyle="none", clip_on=False)
    ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))


def learning_curves(
    metrics: Sequence[Mapping[str, Any]], chance: float, auxiliary: str = "global classification, Eq. 11"
) -> Figure:
    """Losses, training and validation accuracy, and learning rate against steps, from ``metrics.jsonl``.

    `auxiliary` names the second loss (`Method.auxiliary_name`); without a name it is not drawn.
    """
    training = [m for m in metrics if "loss" in m]
    validation = [m for m in metrics if "validation" in m]
    steps = [m["step"] for m in training]
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    axes[0].plot(steps, [m["few_shot"] for m in training], label="few-shot")
    if auxiliary:
        axes[0].plot(steps, [m["auxiliary"] for m in training], label=text(auxiliary))
    axes[0].set(title="Loss", xlabel="step")
    axes[0].legend()
    axes[1].plot(steps, [m["accuracy"] for m in training], color=SKY, label="base classes, augmented")
    axes[1].errorbar(
        [m["step"] for m in validation],
        [m["validation"] for m in validation],
        [m["ci95"] for m in validation],
        color=RED,
        marker="o",
        markersize=3,
        capsize=2,
        label="validation, 95 % interval",
    )
    axes[1].axhline(chance, color=BLACK, linewidth=0.8, linestyle=":")
    axes[1].set(title="Accuracy of an episode (dotted: chance), %", xlabel="step", ylim=(0, 100))
    axes[1].legend(loc="lower right", bbox_to_anchor=(1.02, 0.19))
    axes[2].plot(steps, [m["rate"] for m in training], color=GREEN)
    axes[2].set(title="Learning rate", xlabel="step")
    return figure


def accuracy_bars(accuracies: Mapping[str, tuple[float, float]], chance: float) -> Figure:
    """Accuracies with the half widths of their 95 % intervals, and chance as a dotted line."""
    figure, ax = plt.subplots(figsize=(6, 0.55 * len(accuracies) + 0.9))
    names = list(accuracies)
    values = [accuracies[n][0] for n in names]
    ax.barh(
        [text(name) for name in names],
        values,
        xerr=[accuracies[n][1] for n in names],
        color=BLUE,
        height=0.6,
        capsize=3,
    )
    for row, name in enumerate(names):
        ax.text(1, row, f"{accuracies[name][0]:.1f} ± {accuracies[name][1]:.1f}", va="center", color="white")
    ax.axvline(chance, color=BLACK, linestyle=":", linewidth=1)
    ax.set(xlabel="accuracy on novel classes, % (dotted: chance)", xlim=(0, 100))
    ax.invert_yaxis()
    return figure


def episode_histograms(results: Mapping[str, Result], method: str, reference: str) -> Figure:
    """Accuracy of `method` episode by episode, and its lead over `reference` on those same episodes, in points."""
    own = results[method].per_episode
    lead = own - results[reference].per_episode
    half = 1.96 * lead.std(ddof=1) / len(lead) ** 0.5
    reach = max(30, int(abs(lead).max()))
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.4), sharey=True)
    axes[0].hist(own, bins=range(0, 102, 4), color=BLUE)
    axes[0].set(xlabel=f"accuracy of {text(method)} in an episode, %", ylabel="episodes")
    axes[1].hist(lead, bins=range(-reach, reach + 1, 2), color=GREEN)
    axes[1].set(xlabel=f"{text(method)} - {text(reference)}, points (mean {lead.mean():.2f} ± {half:.2f})")
    return figure


def data_sheet_lines(sheet: pd.DataFrame, chance: float) -> Figure:
    """A data sheet: accuracy against displacement, a panel a method, a line for each thing seen."""
    methods = sheet["method"].unique()
    figure, axes = plt.subplots(1, len(methods), figsize=(9, 3.2), sharey=True, squeeze=False)
    seen = list(sheet["sees"].unique())
    clutter = iter(plt.get_cmap("Blues")(np.linspace(0.95, 0.45, len(seen))))
    colours = {sees: ORANGE if sees == "object alone" else next(clutter) for sees in seen}
    for ax, method in zip(axes[0], methods, strict=True):
        for k, sees in enumerate(seen):
            part = sheet[(sheet["method"] == method) & (sheet["sees"] == sees)]
            apart = 0.012 * (k - (len(seen) - 1) / 2)  # lest intervals hide one another
            ax.errorbar(
                part["displacement"] + apart,
                part["accuracy"],
                part["ci95"],
                color=colours[sees],
                marker="s" if sees == "object alone" else "o",
                markersize=4,
                capsize=2,
                label=text(sees),
            )
        ax.axhline(chance, color=BLACK, linewidth=0.8, linestyle=":")
        ax.text(sheet["displacement"].max(), chance - 2.5, "chance", ha="right", va="top", fontsize=7)
        ax.set(title=text(method)[0].upper() + text(method)[1:], xlabel="displacement of the object")
        ax.set_xticks(sorted(sheet["displacement"].unique()))
    axes[0, 0].set(ylabel="accuracy, % (bars: 95 % interval)", ylim=(0, max(60, 1.12 * sheet["accuracy"].max())))
    axes[0, 0].legend(*_last_first(axes[0, 0]), loc="upper right")
    return figure


def _last_first(ax: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = ax.get_legend_handles_labels()
    return handles[::-1], labels[::-1]


def show_pairs(
    pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    names: Sequence[tuple[str, str]],
    captions: Sequence[str],
    columns: int = 3,
    width: float = 9,
) -> Figure:
    """Pairs of pictures side by side, each picture with its name below and each pair with its caption above.

    Args:
        pairs: pictures uint8 [size, size] or [size, size, 3].
        names, captions: one a picture, one a pair.
        columns: pairs in a row.
        width: of the figure, in inches.
    """
    rows = -(-len(pairs) // columns)
    size = (width, min(rows * (width / columns / 2.12 + 0.45), MOST_INCHES))
    figure, axes = plt.subplots(rows, 3 * columns, figsize=size, squeeze=False, width_ratios=[1, 1, 0.12] * columns)
    for ax in axes.ravel():
        ax.axis("off")
    for k, (pair, own, caption) in enumerate(zip(pairs, names, captions, strict=True)):
        left = 3 * (k % columns)  # every third place is a gap
        for ax, pixels, name in zip(axes[k // columns, left : left + 2], pair, own, strict=True):
            ax.axis("on")
            ax.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(text(textwrap.fill(name, 22)), fontsize=6.5)
            for spine in ax.spines.values():
                spine.set(visible=True, color="0.75")
        axes[k // columns, left].set_title(text(caption), fontsize=8, loc="left")
    return figure
