"""Figure 3 of the paper: a query position and the nine points sampled for it in the support."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

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
    """`show_sampling` for several query cells (row, column), a column each; points and grid [9, 2, h, w] in pixels."""
    where, regular = np.asarray(points), np.asarray(grid)
    across = min(2.7 * len(cells), 9.5)  # inches
    size = (max(across, 7.5), 2 * across / len(cells) + 0.8)  # the words below need their room
    figure, axes = plt.subplots(2, len(cells), figsize=size, squeeze=False)
    for (i, j), pair in zip(cells, axes.T, strict=True):
        y, x = regular[4, :, i, j]
        show_sampling(pair, query, support, (y, x), where[:, :, i, j], regular[:, :, i, j], side)
        pair[0].set_title(f"query position, cell ({i}, {j})", fontsize=SMALL)
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
    """Figure 3 of the paper: a query position (green) and the nine points sampled for it in the support (orange).

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
    show_image(axes[0], query, side=side)
    axes[0].plot(position[1], position[0], "o", color=GREEN, markersize=11, markeredgecolor="white", clip_on=False)
    for ax, title in zip(axes, ("query position", "sampled points"), strict=True):
        ax.set_title(title, fontsize=SMALL, pad=9)  # above points that lie on the edge
    axes[0].set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    show_image(axes[1], support, side=side)
    show_points(axes[1], side, points, grid)


def show_points(ax: Axes, side: int, points: ArrayLike, grid: ArrayLike) -> None:
    """The nine points of `show_sampling` over a support picture that is shown already, `side` pixels wide and high."""
    where, ghosts = np.asarray(points), np.asarray(grid)
    inside = np.all((where >= -0.5) & (where <= side - 0.5), axis=1)
    drawn = where.clip(0, side - 1)
    edge = [patheffects.withStroke(linewidth=2, foreground=BLACK, alpha=0.35)]  # white is seen on any picture then
    white: dict[str, Any] = {"color": "white", "alpha": 0.7, "path_effects": edge, "clip_on": False}
    ax.plot(ghosts[:, 1], ghosts[:, 0], "o", markersize=4, **white)
    for (y0, x0), (y1, x1) in zip(ghosts, drawn, strict=True):
        ax.plot([x0, x1], [y0, y1], linewidth=0.9, **white)
    across = 72 * ax.bbox.width / ax.figure.dpi  # of the picture in points, before it is laid out
    letter = side * SMALL / across
    outline = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    for k, (at, label) in enumerate(zip(drawn, _labels(drawn, letter, side), strict=True)):
        edge_of, face = ("white", RED) if inside[k] else (RED, "white")
        ax.plot(*at[::-1], "o", color=face, markeredgecolor=edge_of, markersize=6, clip_on=False)
        ax.text(
            label[1], label[0], str(k + 1), color=RED, path_effects=outline, ha="center", va="center_baseline",
            fontsize=SMALL, weight="bold", zorder=4,
        )  # fmt: skip
    ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))


def _labels(points: NDArray[np.float64], letter: float, side: int) -> NDArray[np.float64]:
    """Where the number of every point stands, (y, x): close beside it, and clear of other points and numbers."""
    angles = np.arange(8) * np.pi / 4
    around = 1.05 * letter * np.stack([-np.sin(angles), np.cos(angles)], 1)
    placed: list[NDArray[np.float64]] = []
    for k, point in enumerate(points):
        others = np.array([p for other, p in enumerate(points) if other != k] + placed)
        free = np.linalg.norm(others - (point + around)[:, None], axis=-1).min(1).clip(max=2 * letter)
        beyond = np.any(np.abs(point + around - (side - 1) / 2) > side / 2, axis=1)
        placed.append(point + around[np.argmax(free - letter * beyond)])
    return np.array(placed)
