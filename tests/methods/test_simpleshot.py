"""SimpleShot against a nearest-mean classifier of scikit-learn's kind, written out in NumPy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.models.checkpoints import load_model
from labkit.models.small import small_model
from labkit.training.heads import train_head
from labkit.training.loop import train
from labkit.training.phases import Phase
from tests.helpers.tiny import BASE, TINY, VALIDATION
from tests.helpers.toy_maps import toy_maps


@pytest.mark.parametrize("transform", ["UN", "L2N", "CL2N"])
def test_the_answer_is_the_nearest_mean_of_transformed_features(transform: str) -> None:
    model = small_model("simpleshot", transform=transform)
    c = model.channels
    drawn = torch.Generator().manual_seed(0)
    support, query = torch.rand(1, 4, 3, c, 2, 2, generator=drawn), torch.rand(1, 20, c, 2, 2, generator=drawn)
    base = torch.rand(c, generator=drawn)
    model.take_base_mean(lambda: base)

    def features(maps: torch.Tensor) -> np.ndarray:
        x = maps.mean((-2, -1)).numpy()[0]
        x = x - base.numpy() if transform == "CL2N" else x
        return x if transform == "UN" else x / np.linalg.norm(x, axis=-1, keepdims=True)

    means = features(support).mean(1)
    wanted = -((features(query)[:, None] - means) ** 2).sum(-1)
    np.testing.assert_allclose(model.score(support, query)[0], wanted, atol=1e-6)


def test_the_mean_of_the_base_classes_comes_from_the_maps_and_is_part_of_the_file(tmp_path: Path) -> None:
    maps = toy_maps()
    adam = Phase(1, "head", optimiser="adam", learning_rate=1e-3, weight_decay=0.0, validate_every=1)
    options = {"transform": "CL2N"}
    trained = train_head(
        "simpleshot", options, *maps[:2], tmp_path, phases=(adam,), validation_episodes=4, progress=False
    )
    for model in (trained.model, load_model(tmp_path / "best.safetensors")):
        torch.testing.assert_close(model.centre, maps.base.mean())


def test_without_that_mean_it_says_so() -> None:
    model = small_model("simpleshot", transform="CL2N")
    maps = torch.zeros(1, 2, 1, model.channels, 1, 1)
    with pytest.raises(ValueError, match="give the mean to take_base_mean"):
        model.score(maps, maps[:, 0])


def test_it_is_trained_on_pictures_too(tmp_path: Path) -> None:
    """Where nobody tells a mean of features; a weight that is no number would end the training."""
    e = replace(TINY, method="simpleshot", choices={}, steps=2, warmup=0, validate_every=2)
    assert train(e, BASE, VALIDATION, tmp_path, progress=False).step == 2
