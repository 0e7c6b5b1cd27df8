"""Few-shot tasks (section 3): episode i is a pure function of (seed, i), in any order and any process."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labkit.common import checks
from labkit.common.devices import put
from labkit.data.imageset import ImageSet
from labkit.episodes.augment import Augment
from labkit.episodes.preparation import Preparation
from labkit.episodes.preprocessing import Preprocessing


@dataclass(frozen=True)
class Episode:
    """One N-way K-shot task, or a batch of them with a leading E.

    Attributes:
        support: normalised images [N, K, 3, h, w].
        query: normalised images [Q, 3, h, w], Q = N x query, in shuffled order.
        query_labels: int64 [Q], which of the N classes each query belongs to.
        classes: int64 [N], labels of the classes in the `ImageSet`.
        support_index, query_index: int64 [N, K] and [Q], places in the `ImageSet`.
    """

    support: Tensor
    query: Tensor
    query_labels: Tensor
    classes: Tensor
    support_index: Tensor
    query_index: Tensor

    def __repr__(self) -> str:
        return f"Episode({', '.join(f'{f.name} {list(getattr(self, f.name).shape)}' for f in fields(self))})"


class EpisodeSampler:
    """Draws N classes, K support images and `query` others of each class.

    ``sampler[i]`` is episode i for any i from 0, since each is a function of (seed, i). Iterating gives the first
    `episodes` of them, as many as ``len(sampler)`` says and the paper's protocol plays.

    Args:
        images: where to draw from.
        way: N, classes in an episode.
        shot: K, support images a class.
        query: query images a class.
        seed: episode i depends on it and on i alone.
        device: where pixels are kept and gathered.
        preprocessing: constants of the normalisation; a model's own when evaluating it.
        episodes: how many a loop over the sampler gives.
        augment: applied before normalisation, as a function of (seed, i) too; training gives one.

    Raises:
        ValueError: more classes or images asked for than there are, or no such device; feature maps to be augmented, or
            with a preprocessing of pictures.
        TypeError: `images` is no `ImageSet`, or a count no whole number.
    """

    def __init__(
        self,
        images: ImageSet,
        way: int = 5,
        shot: int = 1,
        query: int = 15,
        seed: int = 0,
        *,
        device: torch.device | str = "cpu",
        preprocessing: Preprocessing | None = None,
        augment: Augment | None = None,
        episodes: int = 2000,
    ) -> None:
        checks.kind("images", images, ImageSet, "an ImageSet, as labkit.load_images gives")
        checks.kind("preprocessing", preprocessing, (Preprocessing, type(None)), "a Preprocessing or None")
        checks.kind("augment", augment, (Augment, type(None)), "an Augment or None")
        way, shot, query = (
            checks.check_int("way", way),
            checks.check_int("shot", shot),
            checks.check_int("query", query),
        )
        seed, self.episodes = checks.check_int("seed", seed, least=0), checks.check_int("episodes", episodes)
        if way > len(images.class_names):
            raise ValueError(f"way={way}, but {images!r} has only {len(images.class_names)} classes")
        smallest = min(range(len(images.class_names)), key=lambda c: len(images.class_indices[c]))
        if shot + query > len(images.class_indices[smallest]):
            raise ValueError(
                f"shot + query = {shot + query} images of a class, but class {images.class_names[smallest]!r} of "
                f"{images!r} has only {len(images.class_indices[smallest])}"
            )
        self.images, self.way, self.shot, self.query, self.seed = images, way, shot, query, seed
        self.prepare = Preparation(images, device, preprocessing or Preprocessing.of(images), augment)

    def indices(self, i: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Classes [N], support_index [N, K], query_index [Q] and query_labels [Q] of episode i, without its images."""
        i = checks.check_int("the number of an episode", i, -(2**63))
        if i < 0:
            raise IndexError(f"episodes are numbered from 0, got {i}")
        rng = np.random.default_rng((self.seed, i))
        classes = _drawn(rng, len(self.images.class_names), self.way)
        of_class = [self.images.class_indices[c] for c in classes]
        drawn = np.stack([own[rng.random(len(own)).argsort()[: self.shot + self.query]] for own in of_class])
        order = rng.random(self.way * self.query).argsort()
        labels = np.repeat(np.arange(self.way), self.query)[order]
        return classes, drawn[:, : self.shot], drawn[:, self.shot :].reshape(-1)[order], labels

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(self.episodes))

    def __getitem__(self, i: int) -> Episode:
        batch = self.batch([i])
        return Episode(**{f.name: getattr(batch, f.name)[0] for f in fields(batch)})

    def batch(self, episodes: Iterable[int]) -> Episode:
        """Several episodes at once, gathered by index where the pixels are; every field gains a leading E."""
        numbers = checks.several("episodes", episodes, "a series of their numbers, such as range(4)", least=0)
        numbers = [checks.check_int("the number of an episode", i, -(2**63)) for i in numbers]
        if not numbers:
            raise ValueError("a batch must hold at least one episode, got none")
        drawn = [self.indices(i) for i in numbers]
        device = self.prepare.pixels.device
        classes, support, query, labels = (put(np.stack(part), device) for part in zip(*drawn, strict=True))
        e, shots = len(numbers), self.way * self.shot
        index = torch.cat([support.flatten(1), query], dim=1)
        images = self.prepare(index, [(self.seed, i) for i in numbers])
        shape = (e, self.way, self.shot, *images.shape[2:])
        return Episode(images[:, :shots].reshape(shape), images[:, shots:], labels, classes, support, query)


def classes_of_episodes(count: int, way: int, episodes: int, seed: int) -> NDArray[np.int64]:
    """The classes of the first episodes of any `EpisodeSampler` over so many classes, [episodes, way].

    They depend on nothing else, so what a stored accuracy was measured on is known without its pictures.
    """
    return np.stack([_drawn(np.random.default_rng((seed, i)), count, way) for i in range(episodes)])


def _drawn(rng: np.random.Generator, count: int, way: int) -> NDArray[np.int64]:
    """Different numbers below `count`, as ranks of uniform draws: plain, and the same in every NumPy release."""
    return rng.random(count).argsort()[:way]
