"""Pictures to look at in the explorer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labkit import plotting
from labkit.common import checks
from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import EpisodeSampler


@dataclass(frozen=True)
class Task:
    """Pictures to look at: a support set and queries.

    Attributes:
        title: shown where tasks are chosen.
        names: of the N classes.
        support: uint8 [N, K, size, size, 3].
        query: uint8 [Q, size, size, 3].
        shots: how many of the K pictures each class has, N numbers.
        labels: true class of each query, Q numbers, or None where nobody knows.
        files: what the queries are called, Q names, or None where they have no names.

    Raises:
        ValueError: names, shots, labels or files that do not fit the pictures.
    """

    title: str
    names: tuple[str, ...]
    support: NDArray[np.uint8]
    query: NDArray[np.uint8]
    shots: tuple[int, ...]
    labels: tuple[int, ...] | None = None
    files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("names", "shots", "labels", "files"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(checks.plain(v) for v in checks.several(name, value, "a series")))
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        n, q, shape = len(self.names), len(self.query), list(self.support.shape)
        if len(shape) != 5 or shape[0] != n:
            raise ValueError(f"support must be [N, K, size, size, 3] of {n} classes, got {shape}")
        if self.files is not None and len(self.files) != q:
            raise ValueError(f"files must be {q} names, got {len(self.files)}")
        for what, numbers, count, (low, high) in (
            ("shots", self.shots, n, (1, shape[1])),
            ("labels", (0,) * q if self.labels is None else self.labels, q, (0, n - 1)),
        ):
            if len(numbers) != count:
                raise ValueError(f"{what} must be {count} numbers, got {len(numbers)}")
            for number in numbers:
                checks.check_int(f"each of {what}", number, low, high)


def tasks_of(
    images: ImageSet,
    episodes: Sequence[int],
    way: int = 5,
    shots: Sequence[int] = (1,),
    query: int = 1,
    seed: int = 0,
) -> list[Task]:
    """Episodes of an `ImageSet`, once for every number of shots; `query` pictures a class, in the order of classes."""
    tasks = []
    way, query = checks.check_int("way", way), checks.check_int("query", query)
    for number in checks.several("episodes", episodes, "a list of whole numbers"):
        for shot in checks.several("shots", shots, "a list of whole numbers"):
            shot = checks.check_int("a number of shots", shot)
            classes, support, queries, labels = EpisodeSampler(images, way, shot, query, seed).indices(number)
            order = np.argsort(labels, kind="stable")
            tasks.append(
                Task(
                    f"episode {number}, {way}-way {shot}-shot",
                    tuple(plotting.readable(images.class_names[c]) for c in classes),
                    images.pixels[support],
                    images.pixels[queries[order]],
                    (shot,) * way,
                    tuple(int(v) for v in labels[order]),
                )
            )
    return tasks
