"""Episodes on features show the pictures that were drawn, and groups of them stay small."""

import numpy as np
import torch

from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.play import Features, groups, on_features, pictures_of
from tests.helpers.toys import toy_images

IMAGES = toy_images(classes=5, per_class=8)
DRAWS = [EpisodeSampler(IMAGES, 3, 2, 2).indices(i) for i in range(4)]


def test_features_are_looked_up_by_the_numbers_of_the_pictures() -> None:
    used = pictures_of(DRAWS)
    all_of_them = Features(torch.arange(len(IMAGES))[:, None])
    some = Features(torch.from_numpy(used)[:, None], used)
    for features in (all_of_them, some):
        played = on_features(DRAWS, features)
        assert played.support[..., 0].tolist() == [draw[1].tolist() for draw in DRAWS]
        assert played.query[..., 0].tolist() == [draw[2].tolist() for draw in DRAWS]
    elsewhere = on_features(DRAWS, all_of_them, Features(-torch.arange(len(IMAGES))[:, None]))
    assert torch.equal(elsewhere.query, -played.query)
    assert torch.equal(elsewhere.support, played.support)


def test_accuracy_is_in_percent_of_the_queries() -> None:
    played = on_features(DRAWS[:2], Features(torch.zeros(len(IMAGES), 1)))
    scores = torch.eye(3)[torch.from_numpy(played.labels)]
    scores[1, :3] = scores[1, :3].roll(1, dims=-1)  # three of six are wrong
    assert played.accuracy(scores).tolist() == [100, 50]


def test_groups_hold_all_episodes_in_order_and_few_pictures() -> None:
    assert list(groups(DRAWS, 1000)) == [[0, 1, 2, 3]]
    parts = list(groups(DRAWS, 14))
    assert np.concatenate(parts).tolist() == [0, 1, 2, 3]
    assert len(parts) > 1
    assert all(len(pictures_of([DRAWS[i] for i in part])) <= 14 for part in parts)
