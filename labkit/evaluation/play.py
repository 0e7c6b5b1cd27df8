"""Episodes played on features: a picture is embedded once, however many episodes show it.

At test time a feature does not depend on its episode, so embedding every picture once and playing the episodes on the
features gives the scores of playing them on pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Draw = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Of one episode, as `EpisodeSampler.indices` gives it: classes [N], support [N, K], query [Q], labels [Q]."""


@dataclass(frozen=True)
class Features:
    """Features of some pictures of a set, looked up by the pictures' numbers.

    Attributes:
        maps: [n, ...].
        index: the n numbers in ascending order; None if the features are of all pictures.
    """

    maps: Tensor
    index: NDArray[np.int64] | None = None

    def of(self, numbers: NDArray[np.int64]) -> Tensor:
        """Features [*numbers.shape, ...]."""
        rows = numbers if self.index is None else np.searchsorted(self.index, numbers)
        return self.maps[torch.from_numpy(rows)]


@dataclass(frozen=True)
class OnFeatures:
    """Some episodes on features: support [E, N, K, ...], query [E, Q, ...] and labels [E, Q]."""

    support: Tensor
    query: Tensor
    labels: NDArray[np.int64]

    def accuracy(self, scores: Tensor) -> NDArray[np.float64]:
        """Percent of the queries that are right, by scores [E, Q, N], for each episode: [E]."""
        right: NDArray[np.float64] = 100 * np.mean(scores.argmax(-1).cpu().numpy() == self.labels, axis=-1)
        return right


def on_features(
    draws: Sequence[Draw], support: Features, query: Features | None = None, mirrored: Features | None = None
) -> OnFeatures:
    """Episodes on the features of their pictures.

    Args:
        query: where queries are looked up among others than supports.
        mirrored: features of the mirror images, for a method that is shown them too (`Method.shows_mirrored`).
    """
    _, shown, asked, labels = (np.stack(part) for part in zip(*draws, strict=True))
    of_support = support.of(shown)
    if mirrored is not None:
        of_support = torch.cat([of_support, mirrored.of(shown)], dim=2)
    return OnFeatures(of_support, (query or support).of(asked), labels)


def pictures_of(draws: Sequence[Draw]) -> NDArray[np.int64]:
    """Numbers of all pictures that some episodes show, ascending, each once."""
    return np.unique(np.concatenate([np.append(support, query) for _, support, query, _ in draws]))


def groups(draws: Sequence[Draw], most: int) -> Iterator[list[int]]:
    """Numbers of consecutive episodes that show at most `most` pictures together; usually all in one group."""
    group: list[int] = []
    used: set[int] = set()
    for i, draw in enumerate(draws):
        own = set(pictures_of([draw]).tolist())
        if group and len(used | own) > most:
            yield group
            group, used = [], set()
        group.append(i)
        used |= own
    yield group
