"""Random pictures: every one once in a pass, a function of (seed, number), for one process as for several."""

import numpy as np
import torch

from labkit.episodes.augment import Augment
from labkit.training.feeds import PictureFeed
from tests.helpers.tiny import BASE


def feed(seed: int = 0) -> PictureFeed:
    return PictureFeed(BASE, seed, "cpu", Augment())


def test_every_pass_takes_each_picture_once_in_another_order() -> None:
    n = len(BASE)
    first, second = feed().indices(range(n)), feed().indices(range(n, 2 * n))
    assert sorted(first) == sorted(second) == list(range(n))
    assert not np.array_equal(first, second)
    across = feed().indices(range(n - 3, n + 3))
    np.testing.assert_array_equal(across, np.append(first[-3:], second[:3]))
    assert not np.array_equal(first, feed(seed=1).indices(range(n)))


def test_a_picture_is_a_function_of_seed_and_number_alone() -> None:
    whole, part = feed().batch(range(20, 28)), feed().batch(range(24, 28))
    assert torch.equal(whole.inputs[0][4:], part.inputs[0])
    assert torch.equal(whole.inputs[1][4:], part.inputs[1])
    assert whole.keys[4:] == part.keys
    assert torch.equal(whole.labels, whole.inputs[1])
    other = feed(seed=1).batch(range(20, 28))
    assert not torch.equal(whole.inputs[0], other.inputs[0])


def test_labels_are_those_of_the_pictures() -> None:
    plain = PictureFeed(BASE, 0, "cpu", None)
    images, labels = plain.batch(range(9)).inputs
    index = plain.indices(range(9))
    np.testing.assert_array_equal(labels, BASE.labels[index])
    prepared = plain.prepare.preprocessing
    expected = prepared.normalise(prepared.to_unit(BASE.tensor()[index]))
    assert torch.equal(images, expected)
