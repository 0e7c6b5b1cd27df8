"""One picture of the whole method, for somebody who sees it for the first time: from an episode to the scores."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labkit.common import checks
from labkit.data.glyphs.sharp import sharp
from labkit.data.imageset import ImageSet
from labkit.dmf import alignment
from labkit.dmf.model import DMF
from labkit.dmf.sampling import regular_grid
from labkit.dmf.trace import Trace
from labkit.episodes.sampler import Episode
from labkit.methods.cells import Cells
from labkit.plotting.pictures import readable, show_image
from labkit.plotting.sampling import show_points
from labkit.plotting.style import BLACK, BLUE, GREEN, HEAT, RED


def episode_and_question(images: ImageSet, episode: Episode, query: int) -> Figure:
    """The five support pictures of a one-shot episode, and a query: which of the five classes is it?"""
    query = checks.check_int("query", query, least=0, most=len(episode.query_index) - 1)
    support, asked = episode.support_index[:, 0].tolist(), int(episode.query_index[query])
    names = [readable(images.class_names[c]) for c in episode.classes.tolist()]
    figure, axes = plt.subplots(1, len(support) + 1, figsize=(10, 1.9), width_ratios=[1] * len(support) + [1.25])
    for n, (ax, index) in enumerate(zip(axes, support, strict=False)):
        show_image(ax, sharp(images, index), f"class {n + 1}: {names[n]}")
    show_image(axes[-1], sharp(images, asked), "query: which of the five?", frame=GREEN)
    return figure


def from_position_to_score(
    model: DMF, images: ImageSet, episode: Episode, trace: Trace, query: int, cell: tuple[int, int]
) -> Figure:
    """What happens to one position of a query that meets its own class, in six panels from left to right.

    Args:
        model: whose kernel has size 1.
        episode: of one shot.
        trace: `DMF.trace` of the episode, alone in its batch.
        cell: row and column of the position in the feature map.
    """
    own, (i, j) = int(episode.query_labels[query]), cell
    picture = sharp(images, int(episode.query_index[query]))
    support = sharp(images, int(episode.support_index[own, 0]))
    side, cells = images.size, trace.query.shape[-1]
    filters = trace.filters[0, query, own, :, 0, i, j]
    gain, _ = alignment.gain(filters[None], model.rule)
    figure, axes = plt.subplots(1, 6, figsize=(9.7, 2.5), width_ratios=[1.3, 1.3, 0.85, 0.85, 1.3, 0.75])
    grid = regular_grid(cells, cells, trace.query)
    ghosts = Cells.of(model).to_pixels(grid[:, :, i, j]).numpy()
    show_image(axes[0], picture, side=side)
    axes[0].set_title("1  a query\nposition")
    axes[0].plot(*ghosts[4][::-1], "o", color=GREEN, markersize=8, markeredgecolor="white")
    show_image(axes[1], support, side=side)
    axes[1].set_title("2  nine points of\nthe support", pad=9)  # above points on the edge
    show_points(axes[1], side, trace.points_px[0, query, own, :, :, i, j], ghosts)
    _bars(axes[2], filters.tolist(), "3  filter,\nby group", BLUE)
    axes[2].set(xlabel="group of channels", ylim=(0, 1))
    _bars(axes[3], gain[0].tolist(), "4  gain,\nby group", BLUE)
    axes[3].axhline(1, color=BLACK, linewidth=0.8, linestyle=":")
    axes[3].set(xlabel="group of channels")
    scored = trace.score_maps[0, query, own].cpu().numpy()
    shown = axes[4].imshow(scored[1:-1, 1:-1] if model.choices.border else scored, cmap=HEAT)
    axes[4].plot(j, i, "o", color=GREEN, markersize=8, markeredgecolor="white")
    axes[4].set(title="5  score,\nby position", xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[4], shrink=0.8)
    scores = trace.scores[0, query].tolist()
    colours = [GREEN if n == own else RED if n == int(np.argmax(scores)) else "#999999" for n in range(len(scores))]
    axes[5].barh(range(len(scores)), scores, color=colours)
    axes[5].set_yticks(range(len(scores)), [f"class {n + 1}" for n in range(len(scores))])
    axes[5].invert_yaxis()
    axes[5].set(title="6  score,\nby class", xlabel="mean over\npositions")
    return figure


def _bars(ax: Axes, values: Sequence[float], title: str, colour: str) -> None:
    ax.bar(range(1, len(values) + 1), values, color=colour, width=0.8)
    ax.set(title=title, xticks=[1, len(values)])
