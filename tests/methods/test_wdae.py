"""wDAE against the numbers of the authors' code."""

import pytest
import torch
from torch.nn import functional as F

from labkit.methods.base_and_novel import Roles, roles
from labkit.methods.noise import set_keys
from labkit.methods.wdae import WDAE
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

ARRAYS = golden("wdae")
NETWORK = "weights_dae_generator.dae_network."
PARTS = {
    "message1.linear": "aggregation_functions.0.linear",
    "message1.norm": "aggregation_functions.0.activation_function.0",
    "message2.linear": "aggregation_functions.1.linear",
    "message2.norm": "aggregation_functions.1.activation_function.0",
    "norm": "update_functions.0.layers.1",
    "out": "update_functions.1.layers",
}
WEIGHTS = {
    "scale": "scale_cls",
    "update.weight": f"{NETWORK}update_functions.0.layers.0.weight",
    **{f"{own}.{w}": f"{NETWORK}{theirs}.{w}" for own, theirs in PARTS.items() for w in ("weight", "bias")},
}
STATISTICS = {
    f"{own}.{s}": f"{NETWORK}{theirs}.{s}"
    for own, theirs in PARTS.items()
    if "norm" in own
    for s in ("running_mean", "running_var")
}


@pytest.fixture
def model() -> WDAE:
    made = WDAE(Features(16), classes=20, neighbours=6, noise=0.0, drop=0.0).double()
    put_weights(made, ARRAYS, "weights/", WEIGHTS | STATISTICS | {"base_weights": "weight_base"})
    return made


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("shots", [1, 5])
def test_it_computes_what_the_authors_code_computes(model: WDAE, shots: int, mode: str) -> None:
    model.train(mode == "train")
    at = f"k{shots}/"
    support, query = (ARRAYS[at + x][None].requires_grad_() for x in ("support", "query"))
    part = Roles(ARRAYS[at + "novel_ids"][None], ARRAYS[at + "base_ids"][None], torch.empty(0))
    nodes = model.nodes(support, part.base)
    weights = model.denoise(nodes)
    logits = model.logits(query, weights)
    few_shot = F.cross_entropy(logits[0], ARRAYS[at + "query_labels"])
    check("nodes", nodes[0], F.normalize(ARRAYS[at + "input_weights"], dim=1), SCORES)
    check("scores", logits[0], ARRAYS[f"{at}{mode}/scores"], SCORES)
    check("classification", few_shot, ARRAYS[f"{at}{mode}/loss_classification"], SCORES)
    if mode == "eval":
        return
    auxiliary = model.distance_to_learned(weights, part)
    check("reconstruction", auxiliary, ARRAYS[f"{at}train/loss_reconstruction"], SCORES)
    total = few_shot + model.reconstruction * auxiliary
    check("loss", total, ARRAYS[f"{at}train/loss"], SCORES)
    total.backward()
    for x, name in ((support, "support"), (query, "query")):
        assert x.grad is not None
        check(f"gradient of the {name}", x.grad[0], ARRAYS[f"{at}train/grad_{name}"], GRADIENTS)
    for own, theirs in WEIGHTS.items():
        found = model.get_parameter(own).grad
        assert found is not None
        expected = ARRAYS[f"{at}train/grad_weights/{theirs}"]
        if own.endswith("linear.bias"):  # batch normalisation takes it away again
            assert found.abs().max() < 1e-12
        else:
            check(f"gradient of {own}", found.reshape(expected.shape), expected, GRADIENTS)
    assert model.base_weights.grad is None


def test_its_score_denoises_the_novel_weights_beside_all_base_classes(model: WDAE) -> None:
    model.eval()
    support, query = ARRAYS["k5/support"][None], ARRAYS["k5/query"][None]
    weights = model.denoise(model.nodes(support, torch.arange(20)[None]))
    expected = 10 * F.cosine_similarity(query.mean((-2, -1))[0, :, None], weights[0, None, 20:], dim=-1)
    torch.testing.assert_close(model.score(support, query)[0], expected)


def test_its_loss_takes_some_classes_for_novel(model: WDAE) -> None:
    model.novel, model.global_weight = 2, 0.5
    model.eval()
    torch.manual_seed(0)
    support, query = torch.randn(1, 4, 1, 16, 3, 3).double(), torch.randn(1, 4, 16, 3, 3).double()
    labels, base_labels = torch.arange(4)[None], torch.tensor([[7, 3, 12, 5]])
    losses = model.loss(support, query, labels, base_labels)
    part = roles(labels, base_labels, 4, 2, 20)
    weights = model.denoise(model.nodes(support[:, :2], part.base))
    logits = model.logits(query, weights)[0]
    torch.testing.assert_close(losses.few_shot, F.cross_entropy(logits, torch.tensor([18, 19, 10, 4])))
    torch.testing.assert_close(losses.auxiliary, model.distance_to_learned(weights, part))
    plain = model.classification_loss(query[0], base_labels[0])
    torch.testing.assert_close(losses.total, losses.few_shot + losses.auxiliary + 0.5 * plain.total)


def test_its_noise_is_a_function_of_the_episode() -> None:
    torch.manual_seed(0)
    model = WDAE(Features(16), classes=20, drop=0.0).train()
    for layer in (model.norm, model.message1.norm, model.message2.norm):
        layer.eval()  # a batch's statistics would mix the episodes
    nodes = F.normalize(torch.randn(2, 8, 16), dim=-1)
    set_keys(model, [(1, 2), (3, 4)])
    both = model.denoise(nodes)
    set_keys(model, [(3, 4)])
    torch.testing.assert_close(model.denoise(nodes[1:]), both[1:])
    assert not torch.allclose(both, model.eval().denoise(nodes), atol=1e-2)
