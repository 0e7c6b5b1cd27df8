"""LEO against the numbers of the authors' formulas, its written-out gradients against autograd's."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from labkit.methods.leo import LEO, Normals
from labkit.methods.noise import set_keys
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden

ARRAYS = golden("leo")
WEIGHTS = {
    "encoder.weight": "encoder/linear/w",
    "relation.0.weight": "relation_network/mlp/linear_0/w",
    "relation.2.weight": "relation_network/mlp/linear_1/w",
    "relation.4.weight": "relation_network/mlp/linear_2/w",
    "decoder.weight": "decoder/linear/w",
    "rates": "leo_inner/lr",
    "fine_rates": "finetuning/lr",
}


def as_ours(array: torch.Tensor) -> torch.Tensor:
    """Theirs multiply from the right, ours from the left; their rates have two axes more."""
    return array.T if array.ndim == 2 else array.flatten()


def small() -> LEO:
    penalties = {
        "divergence_weight": "kl_weight",
        "encoder_weight": "encoder_penalty_weight",
        "l2_weight": "l2_penalty_weight",
        "orthogonality_weight": "orthogonality_penalty_weight",
    }
    options: dict[str, Any] = {own: float(ARRAYS[f"hyper/{theirs}"]) for own, theirs in penalties.items()}
    made = LEO(Features(24), latents=8, drop=0.0, **options).double()
    with torch.no_grad():
        for own, theirs in WEIGHTS.items():
            made.get_parameter(own).copy_(as_ours(ARRAYS[f"weights/{theirs}"]))
    return made


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("shots", [1, 5])
def test_it_computes_what_the_authors_formulas_compute(shots: int, mode: str) -> None:
    model = small().train(mode == "train")
    at = f"k{shots}/{mode}/"
    support, query = (ARRAYS[f"k{shots}/{x}"][None].requires_grad_() for x in ("support", "query"))
    normals = None
    if mode == "train":
        drawn = [ARRAYS[f"{at}noise_{i}"] for i in range(7)]
        normals = Normals(drawn[0][None], torch.stack(drawn[1:])[None])
    adapted = model.adapt(support, normals=normals)
    scores = model.logits(query, adapted.weights)
    total = F.cross_entropy(scores[0], ARRAYS[f"k{shots}/query_labels"]) + model.penalties(adapted)
    check("latents", adapted.start[0], ARRAYS[f"{at}latents_start"], SCORES)
    check("class weights", adapted.weights[0], ARRAYS[f"{at}final_class_weights"], SCORES)
    check("scores", scores[0], ARRAYS[f"{at}scores"], SCORES)
    check("loss", total, ARRAYS[f"{at}loss"], SCORES)
    if mode == "train":
        check("divergence", adapted.divergence, ARRAYS[f"{at}kl"], SCORES)
    total.backward()
    for x, name in ((support, "support"), (query, "query")):
        assert x.grad is not None
        check(f"gradient of the {name}", x.grad[0], ARRAYS[f"{at}grad_{name}"], GRADIENTS)
    for own, theirs in WEIGHTS.items():
        found = model.get_parameter(own).grad
        assert found is not None
        check(f"gradient of {own}", found, as_ours(ARRAYS[f"{at}grad_weights/{theirs}"]), GRADIENTS)


@pytest.mark.parametrize("missing", [False, True])
def test_its_slopes_are_autograds(missing: bool) -> None:
    model = small().train()
    torch.manual_seed(0)
    shots, codes = torch.randn(2, 3, 2, 24).double(), torch.randn(2, 3, 2, 8).double().requires_grad_()
    drawn, there = torch.randn(2, 3, 2, 24).double(), torch.ones(2, 3, 2).double()
    there[1, 0, 1] = 0 if missing else 1
    weights = model.decode(codes, drawn)
    mean = (weights * there[..., None]).sum(2) / there.sum(2)[..., None]
    labels = torch.arange(3).repeat_interleave(2).expand(2, -1)
    each = F.cross_entropy((shots.flatten(1, 2) @ mean.mT).flatten(0, 1), labels.flatten(), reduction="none")
    of_weights, of_codes = torch.autograd.grad((each * there.flatten()).sum(), (weights, codes))
    slope = model.slope(shots, weights, there, 0)
    torch.testing.assert_close(slope, of_weights)
    torch.testing.assert_close(model.slope_of_codes(slope, codes, drawn), of_codes)


def test_its_score_reads_normalised_means_and_needs_no_gradients() -> None:
    model = small().eval()
    support, query = ARRAYS["k5/support"][None], ARRAYS["k5/query"][None]
    longer = [times * x[..., None, None].expand(*x.shape, 2, 2) for times, x in ((3, support), (2, query))]
    with torch.inference_mode():
        scores = model.score(*longer)
    reached = model.logits(F.normalize(query, dim=-1), model.adapt(F.normalize(support, dim=-1)).weights)
    torch.testing.assert_close(scores, reached)


def test_its_draws_are_functions_of_the_episode() -> None:
    torch.manual_seed(0)
    model = LEO(Features(24), latents=8).train()
    shots = F.normalize(torch.randn(2, 3, 2, 24), dim=-1)
    set_keys(model, [(1,), (2,)])
    both = model.adapt(shots)
    set_keys(model, [(2,)])
    torch.testing.assert_close(model.adapt(shots[1:]).weights, both.weights[1:])
    set_keys(model, [(3,)])
    assert not torch.allclose(model.adapt(shots[1:]).weights, both.weights[1:])


def test_loss_is_cross_entropy_and_penalties() -> None:
    torch.manual_seed(0)
    model = LEO(Features(24), classes=9, latents=8, drop=0.0, global_weight=0.5).double().eval()
    support, query = torch.randn(2, 3, 1, 24, 1, 1).double(), torch.randn(2, 3, 24, 1, 1).double()
    labels, base_labels = torch.tensor([[0, 1, 2]] * 2), torch.tensor([[7, 3, 8], [2, 0, 1]])
    losses = model.loss(support, query, labels, base_labels)
    few_shot = F.cross_entropy(model.score(support, query).flatten(0, 1), labels.flatten())
    shots = F.normalize(support[..., 0, 0], dim=-1)
    plain = F.cross_entropy(model.global_classifier(query[..., 0, 0]).flatten(0, 1), base_labels.flatten())
    torch.testing.assert_close(losses.total, few_shot + model.penalties(model.adapt(shots)) + 0.5 * plain)
    torch.testing.assert_close(losses.few_shot, few_shot)
    torch.testing.assert_close(model.classification_loss(query.flatten(0, 1), base_labels.flatten()).total, plain)
