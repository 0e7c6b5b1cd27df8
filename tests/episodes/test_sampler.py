"""Episodes: disjoint, complete, and functions of (seed, i) alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.episodes.augment import Augment
from labkit.episodes.sampler import EpisodeSampler, classes_of_episodes
from tests.helpers.toys import toy_images

IMAGES = toy_images(classes=7, per_class=12)


@given(
    way=st.integers(1, 7),
    shot=st.integers(1, 6),
    query=st.integers(1, 6),
    seed=st.integers(0, 2**40),
    i=st.integers(0, 10**9),
)
def test_support_and_query_are_disjoint_and_of_their_classes(
    way: int, shot: int, query: int, seed: int, i: int
) -> None:
    episode = EpisodeSampler(IMAGES, way, shot, query, seed)[i]
    support, queries = episode.support_index.numpy(), episode.query_index.numpy()
    everything = np.concatenate([support.ravel(), queries])
    assert len(np.unique(everything)) == len(everything) == way * (shot + query)
    assert len(episode.classes.unique()) == way
    assert (IMAGES.labels[support] == episode.classes.numpy()[:, None]).all()
    assert (IMAGES.labels[queries] == episode.classes[episode.query_labels].numpy()).all()
    assert np.bincount(episode.query_labels.numpy()).tolist() == [query] * way


def test_images_are_the_normalised_pixels_at_the_index() -> None:
    sampler = EpisodeSampler(IMAGES, 3, 2, 4, seed=5)
    episode = sampler[9]
    shapes = [list(t.shape) for t in (episode.support, episode.query)]
    assert shapes == [[3, 2, 3, 24, 24], [12, 3, 24, 24]]
    mean, std = (np.array(v) for v in (sampler.prepare.preprocessing.mean, sampler.prepare.preprocessing.std))
    expected = (IMAGES.pixels[episode.query_index.numpy()] / 255 - mean) / std
    np.testing.assert_allclose(episode.query.movedim(1, -1).numpy(), expected, atol=1e-5)


def test_an_episode_is_the_same_in_any_order_and_batch() -> None:
    sampler = EpisodeSampler(IMAGES, 5, 1, 3, seed=1, augment=Augment())
    batch = sampler.batch([7, 3, 7])
    for place, i in enumerate([7, 3, 7]):
        alone = EpisodeSampler(IMAGES, 5, 1, 3, seed=1, augment=Augment())[i]
        assert torch.equal(batch.support[place], alone.support)
        assert torch.equal(batch.query[place], alone.query)
        assert torch.equal(batch.query_labels[place], alone.query_labels)


@pytest.mark.integration
def test_an_episode_is_the_same_in_another_process_and_differs_by_seed() -> None:
    code = (
        "from labkit.episodes.sampler import EpisodeSampler; from tests.helpers.toys import toy_images; "
        "s = EpisodeSampler(toy_images(classes=7, per_class=12), 5, 1, 3, seed=11); "
        "print([a.tolist() for a in s.indices(123456)])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = [a.tolist() for a in EpisodeSampler(IMAGES, 5, 1, 3, seed=11).indices(123456)]
    assert other == str(here)
    assert here != [a.tolist() for a in EpisodeSampler(IMAGES, 5, 1, 3, seed=12).indices(123456)]


def test_the_draws_of_a_seed_have_not_changed() -> None:
    drawn = [a.tolist() for a in EpisodeSampler(IMAGES, 3, 1, 1, seed=11).indices(5)]
    assert drawn == [[1, 0, 3], [[13], [1], [36]], [7, 41, 17], [1, 2, 0]]


def test_the_classes_of_episodes_are_known_without_pictures() -> None:
    sampler = EpisodeSampler(IMAGES, 3, 1, 2, seed=5)
    drawn = [sampler.indices(i)[0] for i in range(6)]
    np.testing.assert_array_equal(classes_of_episodes(len(IMAGES.class_names), 3, 6, 5), drawn)


def test_every_class_is_drawn_equally_often() -> None:
    sampler = EpisodeSampler(IMAGES, 2, 1, 1, seed=0)
    drawn = np.bincount(np.concatenate([sampler.indices(i)[0] for i in range(3500)]), minlength=7)
    assert abs(drawn - 1000).max() < 120  # four standard deviations


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"way": 8}, "only 7 classes"),
        ({"shot": 6, "query": 7}, "has only 12"),
        ({"way": 0}, "way must be at least 1"),
        ({"seed": -1, "query": 5}, "seed must be at least 0, got -1"),
    ],
)
def test_asking_for_more_than_there_is_says_what_there_is(asked: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EpisodeSampler(IMAGES, **asked)
