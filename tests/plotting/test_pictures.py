"""Pictures stand beside their names."""

import pytest

from labkit import plotting
from labkit.episodes.sampler import EpisodeSampler
from tests.helpers.toys import toy_images


def test_an_episode_shows_each_class_by_its_name() -> None:
    images = toy_images(classes=4, per_class=8)
    episode = EpisodeSampler(images, 3, 1, 5)[0]
    figure = plotting.show_episode(images, episode, queries=4)
    names = [figure.axes[5 * n].get_ylabel() for n in range(3)]
    assert names == [plotting.readable(images.class_names[c]) for c in episode.classes]
    assert all(ax.images for ax in figure.axes)


@pytest.mark.integration
@pytest.mark.parametrize("asked", [1, 3, 8])
def test_an_episode_of_few_queries_leaves_no_axes_empty(asked: int) -> None:
    images = toy_images(classes=4, per_class=8)
    figure = plotting.show_episode(images, EpisodeSampler(images, 3, 2, 3)[0], queries=asked)
    assert len(figure.axes) == 3 * (2 + min(asked, 3))
    assert all(ax.images for ax in figure.axes)


def test_readable_names() -> None:
    assert plotting.readable("SCRIPT CAPITAL F") == "Script capital F"
    assert plotting.readable("n04146614") == "school bus"
    assert plotting.readable("n00000000") == "n00000000"  # of another data set
    assert plotting.readable("Siamese cat") == "Siamese cat"
