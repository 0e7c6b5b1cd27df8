"""ProtoNet against its authors' numbers."""

import pytest
import torch

from labkit.methods.protonet import ProtoNet
from tests.helpers.features import Features
from tests.helpers.rival_episodes import check_episode
from tests.helpers.rival_golden import golden


@pytest.mark.parametrize("shots", [1, 5])
def test_it_is_the_released_code(shots: int) -> None:
    check_episode(ProtoNet(Features(16)).double(), golden("protonet"), shots)


def test_read_by_its_mean_a_map_is_its_pooled_vector() -> None:
    torch.manual_seed(0)
    support, query = torch.randn(1, 3, 2, 4, 2, 3).double(), torch.randn(1, 5, 4, 2, 3).double()
    pooled = (x.mean((-2, -1), keepdim=True) for x in (support, query))
    model = ProtoNet(Features(4), read="mean", scale=2.0)
    torch.testing.assert_close(model.score(support, query), 2 * ProtoNet(Features(4)).score(*pooled))


def test_a_file_older_than_the_option_reads_the_mean() -> None:
    recipe = {"backbone": "conv4", "classes": 64, "backbone_options": {}, "scale": 1.0}
    assert ProtoNet.from_recipe(recipe).read == "mean"
    assert ProtoNet.from_recipe(ProtoNet("conv4").recipe()).read == "map"
    with pytest.raises(ValueError, match="read must be one of"):
        ProtoNet(Features(4), read="max")
