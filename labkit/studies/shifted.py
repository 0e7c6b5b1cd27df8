"""Displaced photographs (section 5.4): a picture shifted on its own ground, which is continued by its mirror image.

Supports are shifted to one side and queries to the other ("apart"), or both to the same side ("together"): what apart
costs beyond together is owed to the distance, and not to the shift. Objects need no masks for it. A backbone's maps of
the shifted pictures are computed once and serve every head on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.features import embed_pictures, eval_mode
from labkit.evaluation.play import Features, on_features
from labkit.methods.base import Method

DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (y, x)
SHIFTS = (0.25,)  # of the side, to either side: the objects are twice as far apart
PER_CLASS, EPISODES = 100, 600


def shifted(pixels: NDArray[np.uint8], dy: int, dx: int) -> NDArray[np.uint8]:
    """Pictures uint8 [n, h, w, 3] moved by (dy, dx) pixels; what comes in at the edge is their mirror image.

    Raises:
        ValueError: a shift of a whole side or more, for which a picture holds no ground.
    """
    h, w = pixels.shape[1:3]
    if abs(dy) >= h or abs(dx) >= w:
        raise ValueError(f"a shift must be smaller than the picture's {h} x {w} pixels, got ({dy}, {dx})")
    wide = np.pad(pixels, ((0, 0), (abs(dy),) * 2, (abs(dx),) * 2, (0, 0)), mode="symmetric")
    top, left = abs(dy) - dy, abs(dx) - dx
    return np.ascontiguousarray(wide[:, top : top + h, left : left + w])


class Shifted:
    """Maps of some pictures of a set as they are and shifted, of one backbone, for any number of heads.

    Args:
        backbone: a model of pictures.
        images: of novel classes; the first `PER_CLASS` of each class are taken.
        shifts: as shares of the side.
    """

    def __init__(self, backbone: Method, images: ImageSet, shifts: Sequence[float] = SHIFTS) -> None:
        of_class = (np.flatnonzero(images.labels == c)[:PER_CLASS] for c in range(len(images.class_names)))
        kept = np.sort(np.concatenate(list(of_class)))
        self.images = replace(images, pixels=images.pixels[kept], labels=images.labels[kept], packed_masks=None)
        self.shifts, side = tuple(shifts), images.size
        self.maps: dict[tuple[float, tuple[int, int]], Features] = {}
        for shift, directions in ((0.0, DIRECTIONS[:1]), *((s, DIRECTIONS) for s in shifts)):
            for dy, dx in directions:
                moved = shifted(self.images.pixels, dy * round(shift * side), dx * round(shift * side))
                self.maps[shift, (dy, dx)] = Features(embed_pictures(backbone, moved).half())

    def levels(self) -> list[tuple[str, float]]:
        """Names of what is measured: ``("together", 0.0)``, and either way for every shift."""
        return [("together", 0.0), *((name, s) for s in self.shifts for name in ("together", "apart"))]

    def measure(self, head: Method, shot: int, episodes: int = EPISODES, seed: int = 0) -> dict[str, Any]:
        """Accuracy in percent of every episode of a head, ``{"apart 0.25": [...], ...}``: the same 5-way episodes."""
        sampler = EpisodeSampler(self.images, 5, shot, 15, seed)
        found: dict[str, Any] = {}
        with eval_mode(head):
            for name, shift in self.levels():
                values = []
                for number in range(episodes):
                    direction = DIRECTIONS[number % len(DIRECTIONS)] if shift else DIRECTIONS[0]
                    y, x = direction
                    other = (-y, -x) if name == "apart" else direction
                    draws = [sampler.indices(number)]
                    episode = on_features(draws, self.maps[shift, direction], self.maps[shift, other])
                    scores = head.score(episode.support.float(), episode.query.float())
                    values.append(float(episode.accuracy(scores)[0]))
                found[f"{name} {shift:g}"] = [round(v, 2) for v in values]
        return found
