"""E3BM against the numbers of the authors' code, its written-out gradient against autograd's."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from labkit.methods.e3bm import E3BM
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

ARRAYS = golden("e3bm")
LEARNERS = {"lengths": "basestep", "counts": "combination"}
WEIGHTS = {
    f"{own}.{weight}": f"hyperprior_{theirs}_model.{name}"
    for own, theirs in LEARNERS.items()
    for weight, name in (("start", "hyperprior_initialization_vars"), ("weight", "fc_w"), ("bias", "fc_b"))
}
GRADIENT_NAMES = {"start": "initialization", "weight": "fc_w", "bias": "fc_b"}


def small(**options: Any) -> E3BM:
    torch.manual_seed(0)
    return E3BM(Features(24), **options).double()


@pytest.mark.parametrize("steps", [4, 100])
@pytest.mark.parametrize("shots", [1, 5])
def test_it_computes_what_the_authors_code_computes(shots: int, steps: int) -> None:
    model, at = small(steps=steps, softness=0.03), f"k{shots}/steps{steps}/"
    put_weights(model, ARRAYS, f"{at}weights/", WEIGHTS)
    support, query = (ARRAYS[f"k{shots}/{x}"][None].requires_grad_() for x in ("support", "query"))
    scores = model.score(support, query)
    loss = F.cross_entropy(scores[0], ARRAYS[f"k{shots}/query_labels"])
    check("scores", scores[0], ARRAYS[f"{at}scores"], SCORES)
    check("loss", loss, ARRAYS[f"{at}loss"], SCORES)
    loss.backward()
    for x, name in ((support, "support"), (query, "query")):
        assert x.grad is not None
        check(f"gradient of the {name}", x.grad[0], ARRAYS[f"{at}grad_{name}"], GRADIENTS)
    for own in WEIGHTS:
        found, (learner, weight) = model.get_parameter(own).grad, own.split(".")
        assert found is not None
        if steps == 100 and weight != "start":
            continue  # not in the file, for their size
        expected = ARRAYS[f"{at}grad_weights/{LEARNERS[learner]}.{GRADIENT_NAMES[weight]}"]
        check(f"gradient of {own}", found, expected, GRADIENTS)


@pytest.mark.parametrize("missing", [False, True])
def test_its_slope_is_autograds(missing: bool) -> None:
    model = small()
    torch.manual_seed(1)
    shots, weights = torch.randn(2, 3, 2, 24).double(), torch.randn(2, 3, 24).double().requires_grad_()
    there = torch.ones(2, 3, 2).double()
    there[1, 0, 1] = 0 if missing else 1
    labels = torch.arange(3).repeat_interleave(2)
    logits = 8 * F.cosine_similarity(shots.flatten(1, 2)[:, :, None], weights[:, None], dim=-1)
    losses = [F.cross_entropy(logits[e][there[e].flatten() > 0], labels[there[e].flatten() > 0]) for e in range(2)]
    (expected,) = torch.autograd.grad(losses[0] + losses[1], weights)
    torch.testing.assert_close(model.slope(F.normalize(shots, dim=-1), weights, there), expected)


def test_at_first_it_is_its_last_classifier_or_the_mean_of_all() -> None:
    support, query = ARRAYS["k5/support"][None], ARRAYS["k5/query"][None]
    with torch.inference_mode():  # its gradients are written out, and need no graph
        lasts = [small(steps=s, softness=0.0).score(support, query) for s in (1, 2, 3)]
        every = small(steps=3, softness=0.0, combination="equal").score(support, query)
    torch.testing.assert_close(every, sum(lasts) / 3)
    with pytest.raises(ValueError, match="combination must be"):
        small(combination="other")


def test_loss_may_take_a_classification_beside_it() -> None:
    model = small(steps=2, classes=9, global_weight=0.5)
    torch.manual_seed(0)
    support, query = torch.randn(1, 3, 1, 24, 2, 2).double(), torch.randn(1, 3, 24, 2, 2).double()
    labels, base_labels = torch.tensor([[0, 1, 2]]), torch.tensor([[7, 3, 8]])
    losses = model.loss(support, query, labels, base_labels)
    plain = model.classification_loss(query[0], base_labels[0])
    torch.testing.assert_close(losses.auxiliary, plain.total)
    torch.testing.assert_close(losses.few_shot, F.cross_entropy(model.score(support, query)[0], labels[0]))
    torch.testing.assert_close(losses.total, losses.few_shot + 0.5 * plain.total)
    model.global_weight = 0.0
    torch.testing.assert_close(model.loss(support, query, labels, base_labels).total, losses.few_shot)
