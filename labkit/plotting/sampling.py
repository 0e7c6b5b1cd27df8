"""Figure 3 of the paper: a query position and the nine points sampled for it in the support."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from labkit.plotting.pictures import show_image
from labkit.plotting.style import BLACK, GREEN, RED, SMALL

MARKED = (
    "green: the query position; numbered: the points sampled for it, hollow where they lie outside the picture\n"
    "(drawn on its edge); white: the regular 3 x 3 grid around the position, from which lines lead to the points"
)


def sampling_row(
    query: ArrayLike,
    support: ArrayLike,
    points: ArrayLike,
    grid: ArrayLike,
    cells: Sequence[tuple[int, int]],
    side: int | None = None,
) -> Figure:
    """`show_sampling` for several query cells (row, column); points and grid [9, 2, h, w] in image pixels."""
    where, regular = np.asarray(points), np.asarray(grid)
    across = min(4.0 * len(cells), 9.5)  # inches
    figure, axes = plt.subplots(1, 2 * len(cells), figsize=(across, across / (2 * len(cells)) + 0.9))
    for (i, j), pair in zip(cells, axes.reshape(-1, 2), strict=True):
        y, x = regular[4, :, i, j]
        show_sampling(pair, query, support, (y, x), where[:, :, i, j], regular[:, :, i, j], side)
        pair[0].set_xlabel(f"cell ({i}, {j})")
    figure.supxlabel(MARKED, fontsize=SMALL)
    return figure


def show_sampling(
    axes: Sequence[Axes],
    query: ArrayLike,
    support: ArrayLike,
    position: tuple[float, float],
    points: ArrayLike,
    grid: ArrayLike,
    side: int | None = None,
) -> None:
    """Figure 3 of the paper: a query position (green) and the nine points sampled for it in the support (red).

    Args:
        axes: two, for query and support.
        query, support: pictures [size, size, 3].
        position: (y, x) of the query position in pixels.
        points: (y, x) in pixels, [9, 2], numbered in the order of psi's taps; those outside the picture are drawn,
            hollow, on its edge.
        grid: the regular 3 x 3 grid, [9, 2], drawn as ghosts.
        side: pixels a side of what the network reads, where the pictures are shown in more.
    """
    side = side or np.asarray(support).shape[0]
    show_image(axes[0], query, "query position", side=side)
    axes[0].plot(position[1], position[0], "o", color=GREEN, markersize=11, markeredgecolor="white", clip_on=False)
    axes[0].set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    show_image(axes[1], support, "sampled points", side=side)
    show_points(axes[1], side, points, grid)


def show_points(ax: Axes, side: int, points: ArrayLike, grid: ArrayLike) -> None:
    """The nine points of `show_sampling` over a support picture that is shown already, `side` pixels wide and high."""
    where, ghosts = np.asarray(points), np.asarray(grid)
    inside = np.all((where >= -0.5) & (where <= side - 0.5), axis=1)
    drawn = where.clip(0, side - 1)
    edge = [patheffects.withStroke(linewidth=2, foreground=BLACK, alpha=0.35)]  # white is seen on any picture then
    ax.plot(ghosts[:, 1], ghosts[:, 0], "o", color="white", alpha=0.7, markersize=4, clip_on=False, path_effects=edge)
    for (y0, x0), (y1, x1) in zip(ghosts, drawn, strict=True):
        ax.plot([x0, x1], [y0, y1], color="white", alpha=0.7, linewidth=0.9, path_effects=edge)
    for own, face, around in ((inside, RED, "white"), (~inside, "white", RED)):
        ax.plot(
            *drawn[own].T[::-1], "o",
            color=RED, markerfacecolor=face, markeredgecolor=around, markersize=12, clip_on=False,
        )  # fmt: skip
    for number, ((y, x), full) in enumerate(zip(drawn, inside.tolist(), strict=True), 1):
        colour = "white" if full else RED
        ax.text(x, y, f"{number}", color=colour, ha="center", va="center_baseline", fontsize=SMALL, weight="bold")
    ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
