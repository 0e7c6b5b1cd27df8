"""The pictures of the notebooks: one look, colours that the colour-blind can tell apart."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from labkit.data.imageset import ImageSet
from labkit.episodes import Episode

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
DIVERGING = "RdBu_r"


def use_style() -> None:
    """Set the lab's look for all figures that follow."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, RED]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "image.interpolation": "nearest",
            "legend.frameon": False,
            "font.size": 9,
        }
    )


def show_image(ax: Axes, pixels: ArrayLike, title: str = "", frame: str | None = None) -> None:
    """A picture without ticks; `frame` is a colour around it. Titles are wrapped to the picture's width."""
    ax.imshow(np.asarray(pixels))
    ax.set(xticks=[], yticks=[])
    if title:
        ax.set_title(textwrap.fill(title, 16), fontsize=7)
    for spine in ax.spines.values():
        spine.set(visible=frame is not None, color=frame or BLACK, linewidth=3)


def image_grid(rows: Sequence[Sequence[NDArray[np.uint8]]], names: Sequence[str], width: float = 9) -> Figure:
    """Rows of pictures, each row with its name to the left."""
    columns = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(width, width * len(rows) / (columns + 2)), squeeze=False, layout="constrained"
    )
    for ax in axes.ravel():
        ax.axis("off")
    for row, name, line in zip(rows, names, axes, strict=True):
        for pixels, ax in zip(row, line, strict=False):
            ax.axis("on")
            show_image(ax, pixels)
        label = textwrap.fill(name, 22)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
    return figure


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
        name = images.class_names[int(episode.classes[n])].capitalize()
        axes[n, 0].set_ylabel(textwrap.fill(name, 22), rotation=0, ha="right", va="center", fontsize=7)
    axes[0, 0].set_title("support", color=BLUE)
    axes[0, shot].set_title("query", loc="left")
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
    show_image(axes[0], query, "query")
    show_image(axes[1], support, "support")
    side = np.asarray(support).shape[0]
    axes[0].plot(position[1], position[0], "o", color=GREEN, markersize=8, markeredgecolor="white")
    where, ghosts = np.asarray(points), np.asarray(grid)
    inside = ((where >= -0.5) & (where <= side - 0.5)).all(1)
    drawn = where.clip(0, side - 1)
    axes[1].plot(ghosts[:, 1], ghosts[:, 0], "o", color="white", alpha=0.55, markersize=4, clip_on=False)
    for (y0, x0), (y1, x1) in zip(ghosts, drawn, strict=True):
        axes[1].plot([x0, x1], [y0, y1], color="white", alpha=0.5, linewidth=0.8)
    axes[1].plot(drawn[inside, 1], drawn[inside, 0], "o", color=RED, markersize=6, markeredgecolor="white")
    axes[1].plot(drawn[~inside, 1], drawn[~inside, 0], "o", color=RED, markersize=6, fillstyle="none", clip_on=False)
    axes[1].set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))


def learning_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Losses, training and validation accuracy, and learning rate against steps, from ``metrics.jsonl``."""
    training = [m for m in metrics if "loss" in m]
    validation = [m for m in metrics if "validation" in m]
    steps = [m["step"] for m in training]
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    axes[0].plot(steps, [m["few_shot"] for m in training], label="few-shot, Eq. 12")
    axes[0].plot(steps, [m["globally"] for m in training], label="global, Eq. 11")
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
        label="validation classes, 95 % interval",
    )
    axes[1].axhline(20, color=BLACK, linewidth=0.8, linestyle=":")
    axes[1].set(title="Accuracy of an episode (dotted: chance), %", xlabel="step", ylim=(10, 100))
    axes[1].legend(loc="lower right")
    axes[2].plot(steps, [m["rate"] for m in training], color=GREEN)
    axes[2].set(title="Learning rate", xlabel="step")
    return figure


def accuracy_bars(accuracies: Mapping[str, tuple[float, float]], chance: float) -> Figure:
    """Accuracies with the half widths of their 95 % intervals, and chance as a dotted line."""
    figure, ax = plt.subplots(figsize=(6, 0.55 * len(accuracies) + 0.9))
    names = list(accuracies)
    values = [accuracies[n][0] for n in names]
    ax.barh(names, values, xerr=[accuracies[n][1] for n in names], color=BLUE, height=0.6, capsize=3)
    for row, name in enumerate(names):
        ax.text(1, row, f"{accuracies[name][0]:.1f} ± {accuracies[name][1]:.1f}", va="center", color="white")
    ax.axvline(chance, color=BLACK, linestyle=":", linewidth=1)
    ax.set(xlabel="accuracy on novel classes, % (dotted: chance)", xlim=(0, 100))
    ax.invert_yaxis()
    return figure
