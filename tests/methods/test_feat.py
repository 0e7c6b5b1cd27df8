"""FEAT against its authors' numbers; and the paper's contrast, against formulas written naively."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from labkit.methods.feat import FEAT
from tests.helpers.features import Features
from tests.helpers.rival_episodes import check_episode
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

C, WB = 6, ("weight", "bias")


@pytest.fixture
def model() -> FEAT:
    torch.manual_seed(0)
    return FEAT(Features(C), temperature=4.0, contrast=0.3, contrast_of="adapted").double().eval()


def naive(model: FEAT, members: np.ndarray) -> np.ndarray:
    """A set [M, c], adapted."""
    q, k, v, out = (m.weight.detach().numpy() for m in (model.to_query, model.to_key, model.to_value, model.out))
    adapted = []
    for own in members:
        raised = [math.exp((q @ own) @ (k @ other) / math.sqrt(C)) for other in members]
        seen = sum(r * (v @ other) for r, other in zip(raised, members, strict=True)) / sum(raised)
        z = own + out @ seen + model.out.bias.detach().numpy()
        z = (z - z.mean()) / math.sqrt(z.var() + model.norm.eps)
        adapted.append(z * model.norm.weight.detach().numpy() + model.norm.bias.detach().numpy())
    return np.array(adapted)


def test_scores_are_distances_to_adapted_prototypes(model: FEAT) -> None:
    torch.manual_seed(1)
    support, query = torch.randn(1, 3, 2, C, 2, 2).double(), torch.randn(1, 4, C, 2, 2).double()
    with torch.no_grad():
        scores = model.score(support, query)[0].numpy()
    prototypes = naive(model, support.mean((2, -2, -1))[0].numpy())
    queries = query.mean((-2, -1))[0].numpy()
    for i, n in np.ndindex(4, 3):
        assert scores[i, n] == pytest.approx(-((queries[i] - prototypes[n]) ** 2).sum() / 4)


def test_the_contrastive_term_adapts_every_class_by_itself(model: FEAT) -> None:
    torch.manual_seed(1)
    support, query = torch.randn(1, 2, 1, C, 1, 1).double(), torch.randn(1, 4, C, 1, 1).double()
    labels = torch.tensor([[1, 0, 0, 1]])
    with torch.no_grad():
        losses = model.loss(support, query, labels, labels)
    sets = [
        np.concatenate([support[0, n, :, :, 0, 0].numpy(), query[0, labels[0] == n, :, 0, 0].numpy()]) for n in (0, 1)
    ]
    adapted = [naive(model, members) for members in sets]
    middles = [a.mean(0) for a in adapted]
    terms = []
    for n, members in enumerate(adapted):
        for member in members:
            raised = [math.exp(-((member - m) ** 2).sum() / 4) for m in middles]
            terms.append(-math.log(raised[n] / sum(raised)))
    assert losses.auxiliary.item() == pytest.approx(np.mean(terms))
    few_shot = F.cross_entropy(losses.scores[0], labels[0]).item()
    assert losses.total.item() == pytest.approx(few_shot + 0.3 * np.mean(terms))


NAMES = {"to_query.weight": "w_qs.weight", "to_key.weight": "w_ks.weight", "to_value.weight": "w_vs.weight"}
NAMES |= {f"{own}.{w}": f"{theirs}.{w}" for own, theirs in (("norm", "layer_norm"), ("out", "fc")) for w in WB}


@pytest.mark.parametrize("shots", [1, 5])
def test_it_is_the_released_code(shots: int) -> None:
    arrays, k = golden("feat"), f"k{shots}/"
    temperature, other, balance = (float(arrays[f"{k}hyper/{h}"]) for h in ("temperature", "temperature2", "balance"))
    options = {"temperature": temperature, "contrast_temperature": other, "contrast": balance}
    model = FEAT(Features(32), drop=0.0, drop_attention=0.0, **options).double()
    put_weights(model, arrays, "weights/slf_attn.", NAMES)
    losses = check_episode(model, arrays, shots)
    check("few-shot loss", losses.few_shot, arrays[k + "loss_few_shot"], SCORES)
    check("contrast", losses.auxiliary, arrays[k + "loss_contrastive"], SCORES)
    weights = dict(model.named_parameters())
    for own, theirs in NAMES.items():
        expected = arrays[f"{k}grad_weights/slf_attn.{theirs}"]
        check(f"gradient of {own}", weights[own].grad, expected, GRADIENTS)  # type: ignore[arg-type]


def test_classes_may_have_unequal_queries(model: FEAT) -> None:
    labels = torch.tensor([[0, 0, 1]])
    losses = model.loss(torch.randn(1, 2, 1, C, 1, 1).double(), torch.randn(1, 3, C, 1, 1).double(), labels, labels)
    assert torch.isfinite(losses.total)


def test_attention_drops_its_weights_in_training_only() -> None:
    torch.manual_seed(0)
    model = FEAT(Features(C), drop=0.0, drop_attention=0.9).double()
    members = torch.randn(1, 5, C).double()
    assert torch.equal(model.eval().adapt(members), model.adapt(members))
    assert not torch.equal(model.train().adapt(members), model.adapt(members))
