"""What the images of every level show, and the episodes that all levels share.

The design is paired. Every method plays the same episodes at every level, with the same characters, backgrounds,
clutter and grain; only what the level names changes. At distance d the supports' objects are placed at 1/2 + d/2 of the
room around them, in one of eight directions, and the queries' at 1/2 - d/2 ("apart"): at distance 1 they lie at
opposite edges or in opposite corners. Edges are hard by themselves, so the same places are measured once more with
support and query on the same side ("together"): what "apart" costs beyond that is owed to the distance alone. The
objects are small, 0.4 to 0.5 of the image's side, or there would be nowhere to go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labkit.common import checks
from labkit.data import load_images
from labkit.data.glyphs.scene import DEFAULT, Difficulty
from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.play import Draw

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # (y, x), from query to support
SMALL = (0.4, 0.5)
DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
CLUTTERS = (0, 2, 4, 8, 16)
CONTRASTS = (0.9, 0.7, 0.5, 0.3, 0.1)


@dataclass(frozen=True)
class Step:
    """A point of a curve: the curve's name, and where it is on the horizontal axis, for example a distance."""

    study: str
    value: float


@dataclass(frozen=True)
class Level(Step):
    """A point of a curve of glyphs: what the supports and what the queries of an episode look like.

    A curve's first level, the easiest, is what the others are compared with.

    Attributes:
        support, query: one or more pairs of difficulties; episode i takes pair i modulo their number.
    """

    support: tuple[Difficulty, ...]
    query: tuple[Difficulty, ...]

    def pair(self, episode: int) -> tuple[Difficulty, Difficulty]:
        """What the supports and the queries of an episode of this number look like."""
        return self.support[episode % len(self.support)], self.query[episode % len(self.query)]

    def only(self, pair: int) -> Level:
        """The same with one of its pairs, number `pair` modulo their number: of a placed level, one direction."""
        k = checks.check_int("the number of a pair", pair, least=0) % len(self.support)
        return replace(self, support=(self.support[k],), query=(self.query[k],))


@dataclass(frozen=True)
class Plan:
    """The images and the episodes, the same at every level.

    Attributes:
        split, size, per_class: of `load_images("glyphs-mini", ...)`.
        way, shot, query, seed: of `EpisodeSampler`.
        episodes: 0 to `episodes` - 1 are played.
    """

    split: str = "test"
    size: int = 40
    per_class: int = 32
    way: int = 5
    shot: int = 1
    query: int = 15
    seed: int = 0
    episodes: int = 600

    def __post_init__(self) -> None:
        """Check that all numbers are whole and large enough.

        Raises:
            TypeError, ValueError: one is not.
        """
        for name in ("size", "per_class", "way", "shot", "query", "episodes"):
            object.__setattr__(self, name, checks.check_int(name, getattr(self, name)))
        object.__setattr__(self, "seed", checks.check_int("seed", self.seed, least=0))

    def images(self, difficulty: Difficulty) -> ImageSet:
        """The same scenes at any difficulty, but for what the difficulty says."""
        return load_images(
            "glyphs-mini", self.split, size=self.size, per_class=self.per_class, difficulty=difficulty, progress=False
        )

    def draws(self) -> list[Draw]:
        """`EpisodeSampler.indices` of every episode; no difficulty has a say in them."""
        sampler = EpisodeSampler(self.images(DEFAULT), self.way, self.shot, self.query, self.seed)
        return [sampler.indices(i) for i in range(self.episodes)]


def placed(distance: float, apart: bool) -> Level:
    """Objects `distance` of the room apart, in all `DIRECTIONS`; or in those same places, but together.

    Args:
        distance: 0, both in the middle, to 1, at opposite edges or in opposite corners.
        apart: the queries' objects on the side opposite to the supports', or on the same.
    """
    middle = replace(DEFAULT, object_size=SMALL)
    ends = [
        tuple(
            replace(middle, position=(0.5 + sign * distance / 2 * y, 0.5 + sign * distance / 2 * x))
            for y, x in (DIRECTIONS if distance else DIRECTIONS[:1])
        )
        for sign in (1, -1)
    ]
    return Level("apart" if apart else "together", distance, ends[0], ends[1] if apart else ends[0])


def all_levels() -> list[Level]:
    """All levels of the study; those that show the same images follow one another."""
    found = [placed(d, apart) for d in DISTANCES for apart in (True, False)]
    for study, values in (("clutter", CLUTTERS), ("contrast", CONTRASTS)):
        for value in values:
            changes: dict[str, Any] = {study: value}
            shown = (replace(DEFAULT, **changes),)
            found.append(Level(study, value, shown, shown))
    return found


@lru_cache(maxsize=4 * len(DIRECTIONS))
def boxes(plan: Plan, difficulty: Difficulty) -> NDArray[np.float64]:
    """Top, left, bottom and right of every object, in pixels: [n, 4]."""
    masks = plan.images(difficulty).masks(slice(None))
    sides = []
    for inked in (masks.any(2), masks.any(1)):  # rows that hold ink, and columns
        first, last = inked.int().argmax(1), inked.shape[1] - inked.flip(1).int().argmax(1)
        sides.append((first, last))
    (top, bottom), (left, right) = sides
    return torch.stack([top, left, bottom, right], 1).double().numpy()


def travel(level: Level, plan: Plan) -> float:
    """Mean distance between the middles of objects of the same number in support and query, as a share of the side."""
    middles = [[boxes(plan, d).reshape(-1, 2, 2).mean(1) for d in side] for side in (level.support, level.query)]
    apart = [np.hypot(*(s - q).T).mean() / plan.size for s, q in zip(*middles, strict=True)]
    return float(np.mean(apart))
