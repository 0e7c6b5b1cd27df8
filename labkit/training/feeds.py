"""What a step is fed with: episodes, or random pictures of the base classes; both functions of (seed, number)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labkit.common.devices import put
from labkit.data.imageset import ImageSet
from labkit.episodes.augment import Augment
from labkit.episodes.preparation import Preparation
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler


@dataclass(frozen=True)
class Batch:
    """What one process takes in one step.

    Attributes:
        inputs: of the loss.
        labels: the right answers: [E, Q] of episodes, [B] of pictures.
        keys: what the noise of each episode, or picture, is drawn by; see `labkit.methods.noise`.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor
    keys: Sequence[tuple[int, ...]]


class Feed(Protocol):
    """Batches by number, how their pictures are prepared, and the method's loss that takes them."""

    loss: ClassVar[str]
    prepare: Preparation

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The episodes or pictures that have these numbers."""


class EpisodeFeed:
    """Episodes, for `Method.loss`."""

    loss: ClassVar[str] = "loss"

    def __init__(self, sampler: EpisodeSampler) -> None:
        self.sampler, self.prepare = sampler, sampler.prepare

    def batch(self, numbers: Sequence[int]) -> Batch:
        drawn = self.sampler.batch(numbers)
        base_labels = drawn.classes.gather(1, drawn.query_labels)
        keys = [(self.sampler.seed, i, 4) for i in numbers]
        return Batch((drawn.support, drawn.query, drawn.query_labels, base_labels), drawn.query_labels, keys)


class PictureFeed:
    """Random pictures, for `Method.classification_loss`: every pass takes each picture once, in an order of its own.

    Args:
        images: of the base classes.
        seed: picture i depends on it and on i alone.
        device: where pixels are kept and gathered.
        augment: applied before normalisation, as a function of (seed, i) too.
    """

    loss: ClassVar[str] = "classification_loss"

    def __init__(self, images: ImageSet, seed: int, device: torch.device | str, augment: Augment | None) -> None:
        self.seed = seed
        self.prepare = Preparation(images, device, Preprocessing.of(images), augment)
        self.labels = torch.from_numpy(images.labels).to(self.prepare.pixels.device)
        self._pass: tuple[int, NDArray[np.int64]] = -1, np.empty(0, np.int64)

    def indices(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Where in the `ImageSet` the pictures with these numbers lie."""
        found = []
        for number in numbers:
            turn, place = divmod(number, len(self.labels))
            if self._pass[0] != turn:  # ranks of uniform draws: the same in every NumPy release
                order = np.random.default_rng((self.seed, turn, 5)).random(len(self.labels)).argsort()
                self._pass = turn, order
            found.append(self._pass[1][place])
        return np.array(found)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """See `Feed.batch`. Every picture has its own augmentation and its own noise."""
        index = put(self.indices(numbers), self.labels.device)
        # A third number beside the seed: no picture is augmented as the episode of the same number is.
        images = self.prepare(index[:, None], [(self.seed, i, 7) for i in numbers])[:, 0]
        labels = self.labels[index]
        keys = [(self.seed, i, 6) for i in numbers]
        return Batch((images, labels), labels, keys)
