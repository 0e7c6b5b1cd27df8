"""CC+rot against the numbers of the authors' code."""

import pytest
import torch
from torch.nn import functional as F

from labkit.methods.cc_rot import CCRot, four_rotations
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

ARRAYS = golden("cc_rot")
HEAD, BLOCK = "classifier_aux/layers.", "classifier_aux/layers.0.block.Block.layer."
WEIGHTS = {
    "base_weights": "classifier/weight_base",
    "scale": "classifier/scale_cls",
    "rotation_head.weights": f"{HEAD}1.layers.weight",
    "rotation_head.scale": f"{HEAD}1.layers.scale_cls",
    "rotation_head.norm.weight": f"{HEAD}0.block.BN.weight",
    "rotation_head.norm.bias": f"{HEAD}0.block.BN.bias",
    "rotation_head.blocks.0.shortcut.weight": f"{BLOCK}0.convShortcut.weight",
    "rotation_head.blocks.1.norm1.weight": f"{BLOCK}1.convResidual.bn1.weight",
    "rotation_head.blocks.1.norm1.bias": f"{BLOCK}1.convResidual.bn1.bias",
    **{
        f"rotation_head.blocks.{i}.{own}": f"{BLOCK}{i}.convResidual.{theirs}"
        for i in (0, 1)
        for own, theirs in (
            ("conv1.weight", "conv1.weight"),
            ("conv2.weight", "conv2.weight"),
            ("norm2.weight", "bn2.weight"),
            ("norm2.bias", "bn2.bias"),
        )
    },
}
STATISTICS = {
    own.removesuffix("weight") + s: theirs.removesuffix("weight") + s
    for own, theirs in WEIGHTS.items()
    if "norm" in own and own.endswith("weight")
    for s in ("running_mean", "running_var")
}


@pytest.fixture
def model() -> CCRot:
    made = CCRot(Features(8), classes=12, head_blocks=2).double()
    put_weights(made, ARRAYS, "weights/", WEIGHTS | STATISTICS)
    return made.eval()


@pytest.mark.parametrize("shots", [1, 5])
def test_its_scores_are_those_of_the_authors_code(model: CCRot, shots: int) -> None:
    support, query = ARRAYS[f"k{shots}/support"][None], ARRAYS[f"k{shots}/query"][None]
    scores = model.score(support, query)[0]
    check("scores", scores, ARRAYS[f"k{shots}/scores"], SCORES)
    check("beside base classes", scores, ARRAYS[f"k{shots}/scores_base_and_novel"][:, 12:], SCORES)


def copies() -> torch.Tensor:
    """The file's maps, block by block in the four rotations, as ours: [4, 4, c, h, w], rotations last."""
    by_block = ARRAYS["train/features_of_four_rotations"]
    return by_block.view(4, 4, *by_block.shape[1:]).transpose(0, 1)


def test_its_training_is_that_of_the_authors_code(model: CCRot) -> None:
    model.train()
    maps = copies().clone().requires_grad_()
    classification, rotation, _ = model.losses_of(maps, ARRAYS["train/base_labels"])
    loss = classification + model.rotation_weight * rotation
    check("classification", classification, ARRAYS["train/loss_classification"], SCORES)
    check("rotation", rotation, ARRAYS["train/loss_rotation"], SCORES)
    check("loss", loss, ARRAYS["train/loss"], SCORES)
    loss.backward()
    assert maps.grad is not None
    check("gradient of the maps", maps.grad.transpose(0, 1).flatten(0, 1), ARRAYS["train/grad_features"], GRADIENTS)
    for own, theirs in WEIGHTS.items():
        found = model.get_parameter(own).grad
        assert found is not None
        expected = ARRAYS[f"train/grad_weights/{theirs}"]
        check(f"gradient of {own}", found.reshape(expected.shape), expected, GRADIENTS)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_its_rotations_head_is_that_of_the_authors_code(model: CCRot, mode: str) -> None:
    scores = model.train(mode == "train").rotation_head(ARRAYS["train/features_of_four_rotations"])
    check("rotations", scores, ARRAYS[f"{mode}/rotation_scores"], SCORES)


def test_pictures_turn_counter_clockwise() -> None:
    turned = four_rotations(ARRAYS["rotation/picture"][0])
    for turns in range(4):
        assert torch.equal(turned[turns], ARRAYS[f"rotation/by_{90 * turns}"][0])
    with pytest.raises(ValueError, match="must be square"):
        four_rotations(torch.zeros(1, 3, 4, 5))


def test_both_losses_classify_all_copies_of_all_pictures(model: CCRot) -> None:
    torch.manual_seed(0)
    support, query = torch.randn(2, 2, 3, 8, 6, 6).double(), torch.randn(2, 4, 8, 6, 6).double()
    labels, base_labels = torch.tensor([[0, 1, 1, 0]] * 2), torch.tensor([[7, 3, 3, 7], [5, 0, 0, 5]])
    losses = model.loss(support, query, labels, base_labels)
    pictures = torch.cat([support.flatten(0, 2), query.flatten(0, 1)])
    target = torch.tensor([7] * 3 + [3] * 3 + [5] * 3 + [0] * 3 + [7, 3, 3, 7, 5, 0, 0, 5])
    plain = model.classification_loss(pictures, target)
    torch.testing.assert_close(losses.total, plain.total)
    turned = [p.rot90(turns, (-2, -1)) for p in pictures for turns in range(4)]
    four = target.repeat_interleave(4), torch.arange(4).repeat(20)
    cosines = F.cosine_similarity(torch.stack(turned).mean((2, 3))[:, None], model.base_weights[None], dim=-1)
    of_classes = F.cross_entropy(model.scale * cosines, four[0])
    of_rotations = F.cross_entropy(model.rotation_head(torch.stack(turned)), four[1])
    torch.testing.assert_close(plain.total, of_classes + of_rotations)
    torch.testing.assert_close(losses.scores, model.score(support, query))
