"""What cannot be read in a figure: letters that are too small where it is shown, and texts that lie on one another."""

from __future__ import annotations

from itertools import combinations
from typing import Any
from unittest.mock import patch

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from labkit.plotting import SMALL

SHOWN_INCHES = 10.0  # across, at 100 pixels an inch: JupyterLab shrinks what is wider


def drawn_texts(figure: Figure) -> list[Text]:
    """The texts that are really drawn: no ticks beyond the axes, none of axes that are switched off."""
    found: list[Text] = []
    draw = Text.draw

    def noted(text: Text, *args: Any, **options: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append(text)
        draw(text, *args, **options)

    with patch.object(Text, "draw", noted):
        figure.canvas.draw()
    return list(dict.fromkeys(found))


def unreadable(figure: Figure) -> list[str]:
    """A line for every text under `SMALL` points at the size it is read, and for every pair of texts that overlap."""
    texts = drawn_texts(figure)
    across = figure.get_tightbbox().width  # inches, as a notebook cuts it out
    shrunk = min(1.0, SHOWN_INCHES / across)
    found = [
        f"{text.get_text()!r}: {shrunk * float(text.get_fontsize()):.1f} pt, {across:.1f} inches across"
        for text in texts
        if shrunk * float(text.get_fontsize()) < SMALL - 0.05
    ]
    places = [(text.get_text(), text.get_window_extent()) for text in texts]
    return found + [f"{one!r} lies on {other!r}" for (one, a), (other, b) in combinations(places, 2) if _overlap(a, b)]


def _overlap(one: Bbox, other: Bbox) -> bool:
    """More than a pixel in either direction."""
    both = Bbox.intersection(one, other)
    return both is not None and min(both.width, both.height) > 1
