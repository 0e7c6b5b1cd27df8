"""Pictures and maps, alone, in rows and in pairs."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray

from labkit.data.glyphs.sharp import sharp
from labkit.data.imageset import ImageSet
from labkit.data.wordnet import word_of
from labkit.episodes.sampler import Episode
from labkit.plotting.style import BLACK, BLUE, HEAT, MOST_INCHES, MOST_ROWS, SMALL, text


def show_image(ax: Axes, pixels: ArrayLike, title: str = "", frame: str | None = None, side: int | None = None) -> None:
    """A picture without ticks. Titles are wrapped to the picture's width.

    Args:
        frame: a colour around it.
        side: pixels a side of what a network reads, where the picture is shown in more: its coordinates count.
    """
    picture = np.asarray(pixels)
    side = side or picture.shape[0]
    if picture.dtype == np.uint8:  # 32 steps a colour look the same, and a notebook's PNG has half the bytes
        picture = (picture.astype(int) + 4 & ~7).clip(max=255).astype(np.uint8)
    ax.imshow(picture, extent=(-0.5, side - 0.5, side - 0.5, -0.5))
    ax.set(xticks=[], yticks=[])
    if title:
        ax.set_title(text(textwrap.fill(title, 16)), fontsize=SMALL)
    for spine in ax.spines.values():
        spine.set(visible=frame is not None, color=frame or BLACK, linewidth=3)


def show_heat(ax: Axes, values: ArrayLike, title: str = "", low: float | None = None, high: float | None = None) -> Any:
    """A map of h x w cells as colours from `low` to `high`; returns what a colour bar needs."""
    shown = ax.imshow(np.asarray(values), cmap=HEAT, vmin=low, vmax=high)
    ax.set(xticks=[], yticks=[])
    ax.set_title(text(title), fontsize=SMALL)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return shown


def readable(name: str) -> str:
    """The name of a class as people read it.

    A Unicode name in lower case, its letters as they are, ``SCRIPT CAPITAL F`` as ``Script capital F``; a class of
    miniImageNet by its word, ``n04146614`` as ``school bus``; and any other name as it is.
    """
    if not name.isupper():
        return word_of(name)
    words = " ".join(w if len(w) == 1 else w.lower() for w in name.split())
    return words[:1].upper() + words[1:]


def image_grid(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    names: Sequence[str],
    width: float = 8,
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
    beside = 0.15 + 0.08 * max(len(line) for label in labels for line in label.split("\n"))  # inches for the names
    above = 0 if titles is None else 0.23 * len(titles)  # inches for the titles
    height = min((width - beside) / columns * len(rows), MOST_INCHES) + above
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    figure, axes = plt.subplots(len(rows), columns, figsize=(width, height), squeeze=False, layout=engine)
    for ax in axes.ravel():
        ax.axis("off")
    for r, (row, label, line) in enumerate(zip(rows, labels, axes, strict=True)):
        over = titles[r] if titles is not None and r < len(titles) else [""] * len(row)
        for c, (pixels, title, ax) in enumerate(zip(row, over, line, strict=False)):
            ax.axis("on")
            show_image(ax, pixels, title, frame=frame if c == 0 else None)
        line[0].set_ylabel(text(label), rotation=0, ha="right", va="center", fontsize=SMALL)
    if left_out > 0:
        figure.supxlabel(f"and {left_out} more", fontsize=SMALL)
    return figure


def spotlight(pixels: ArrayLike, mask: ArrayLike) -> NDArray[np.uint8]:
    """The picture [size, size, 3] in colour where `mask` [size, size] is, dim and grey elsewhere."""
    picture = np.asarray(pixels)
    dim = 0.3 * (picture @ np.array([0.299, 0.587, 0.114]))
    return np.where(np.asarray(mask)[..., None], picture, dim[..., None]).astype(np.uint8)


def show_episode(images: ImageSet, episode: Episode, queries: int = 5, width: float = 9) -> Figure:
    """Support to the left, each class by its name, and the first queries of that class to the right of it.

    Args:
        queries: how many of a class at most.
        width: of the figure, in inches.
    """
    way, shot = episode.support_index.shape
    asked = [episode.query_index[episode.query_labels == n][:queries].tolist() for n in range(way)]
    columns = shot + max(map(len, asked))
    across = min(width, 1.6 * (columns + 1.3))  # inches: a few pictures are not blown up
    cell = across / (columns + 1.3)
    figure, axes = plt.subplots(way, columns, figsize=(across, cell * way + 0.3), squeeze=False)
    for n, line in enumerate(axes):
        shown = [*episode.support_index[n].tolist(), *asked[n]]
        for ax in line[len(shown) :]:
            ax.remove()
        for k, (ax, i) in enumerate(zip(line, shown, strict=False)):
            show_image(ax, sharp(images, i), frame=BLUE if k < shot else None, side=images.size)
        name = readable(images.class_names[int(episode.classes[n])])
        axes[n, 0].set_ylabel(text(textwrap.fill(name, 18)), rotation=0, ha="right", va="center", fontsize=SMALL)
    axes[0, 0].set_title("support", color=BLUE)
    if asked[0]:
        axes[0, shot].set_title("query", loc="left")
    return figure


def heat_row(
    maps: Sequence[ArrayLike],
    titles: Sequence[str],
    label: str,
    picture: ArrayLike | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Maps side by side on one scale with its colour bar; to their left a picture, if given.

    `label`, of the scale, may hold mathematics between two ``$``.
    """
    extra = picture is not None
    count = len(maps) + extra
    figure, axes = plt.subplots(1, count, figsize=(min(1.8 * count + 0.8, 9.5), 2.2))
    if extra:
        show_image(axes[0], np.asarray(picture), "query")
    values = np.stack([np.asarray(m) for m in maps])
    low, high = (v if v is not None else f for v, f in zip(limits, (values.min(), values.max()), strict=True))
    for ax, value, title in zip(axes[extra:], values, titles, strict=True):
        shown = show_heat(ax, value, title, low, high)
    figure.colorbar(shown, ax=axes, label=label)
    return figure


def picture_and_heat(pictures: Sequence[ArrayLike], maps: Sequence[ArrayLike], label: str) -> Figure:
    """Pictures above, a map of each below, every map on a scale of its own; `label` may hold mathematics."""
    figure, axes = plt.subplots(2, len(maps), figsize=(1.6 * len(maps), 3.4))
    for column, picture, values in zip(axes.T, pictures, maps, strict=True):
        show_image(column[0], picture)
        show_heat(column[1], values)
    figure.supxlabel(f"below: {label}, from dark to bright, each map by itself", fontsize=SMALL)
    return figure


def score_rows(picture: ArrayLike, before: ArrayLike, after: ArrayLike, label: int) -> Figure:
    """Score maps [N, h, w] of a query before and after alignment, each row on one scale; `label` is the true class."""
    rows = (np.asarray(before), np.asarray(after))
    count = len(rows[0])
    figure, axes = plt.subplots(2, count + 1, figsize=(1.55 * (count + 1), 3.6))
    show_image(axes[0, 0], picture, "query")
    axes[1, 0].axis("off")
    for line, maps, name in zip(axes, rows, ("before alignment", "after alignment"), strict=True):
        for n, ax in enumerate(line[1:]):
            title = f"class {n + 1}{' (true)' if n == label else ''}" if maps is rows[0] else ""
            show_heat(ax, maps[n], title, maps.min(), maps.max())
            ax.set_xlabel(f"score {maps[n].mean():.2f}")
        line[1].set_ylabel(name)
    own = [f"{maps.min():.1f} to {maps.max():.1f} {name}" for maps, name in zip(rows, ("above", "below"), strict=True)]
    figure.supxlabel(f"dark to bright: {', '.join(own)}; a class's score is the mean of its cells", fontsize=SMALL)
    return figure


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
    size = (width, min(rows * (width / columns / 2.12 + 0.8), MOST_INCHES))
    figure, axes = plt.subplots(rows, 3 * columns, figsize=size, squeeze=False, width_ratios=[1, 1, 0.12] * columns)
    for ax in axes.ravel():
        ax.axis("off")
    for k, (pair, own, caption) in enumerate(zip(pairs, names, captions, strict=True)):
        left = 3 * (k % columns)  # every third place is a gap
        for ax, pixels, name in zip(axes[k // columns, left : left + 2], pair, own, strict=True):
            ax.axis("on")
            ax.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(text(textwrap.fill(name, 17)), fontsize=SMALL)
            for spine in ax.spines.values():
                spine.set(visible=True, color="0.75")
        axes[k // columns, left].set_title(text(caption), fontsize=SMALL, loc="left")
    return figure
