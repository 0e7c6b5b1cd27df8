"""SimpleShot against a nearest-mean classifier of scikit-learn's kind, written out in NumPy."""

import numpy as np
import pytest
import torch

from labkit.methods.simpleshot import SimpleShot
from labkit.models.small import small_model


@pytest.mark.parametrize("transform", ["UN", "L2N", "CL2N"])
def test_the_answer_is_the_nearest_mean_of_transformed_features(transform: str) -> None:
    model = small_model("simpleshot", transform=transform)
    c = model.channels
    drawn = torch.Generator().manual_seed(0)
    support, query = torch.rand(1, 4, 3, c, 2, 2, generator=drawn), torch.rand(1, 20, c, 2, 2, generator=drawn)
    base = torch.rand(c, generator=drawn)
    model.take_base_mean(base)

    def features(maps: torch.Tensor) -> np.ndarray:
        x = maps.mean((-2, -1)).numpy()[0]
        x = x - base.numpy() if transform == "CL2N" else x
        return x if transform == "UN" else x / np.linalg.norm(x, axis=-1, keepdims=True)

    means = features(support).mean(1)
    wanted = -((features(query)[:, None] - means) ** 2).sum(-1)
    np.testing.assert_allclose(model.score(support, query)[0], wanted, atol=1e-6)


def test_the_mean_of_the_base_classes_is_part_of_the_file() -> None:
    model = small_model("simpleshot")
    assert isinstance(model, SimpleShot)
    model.take_base_mean(torch.arange(model.channels).float())
    again = small_model("simpleshot")
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.centre, model.centre)
