"""Robust dist against the numbers of the authors' code."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.robust_dist import RobustDist
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden

ARRAYS = golden("robust_dist")
DISTANCES: dict[str, Literal["cosine", "squared"]] = {"cos": "cosine", "l2": "squared"}
RELATIONS: dict[str, dict[str, Any]] = {
    "js_T1": {"relation": "cooperation"},
    "neg_js_T1": {"relation": "cooperation", "relation_weight": -1.0},
    "cos_T5": {"relation": "diversity", "relation_weight": 1.0, "relation_temperature": 5.0},
    "neg_cos_T5": {"relation": "diversity", "relation_weight": -1.0, "relation_temperature": 5.0},
}
LABELS, ALL = ARRAYS["train/labels"], torch.ones(6, 4)


def logits() -> Tensor:
    """The members' logits [6, 4, 16]."""
    return ARRAYS["train/logits"].transpose(1, 2).clone().requires_grad_()


def model(**options: Any) -> RobustDist:
    torch.manual_seed(0)
    return RobustDist(Features(24), classes=16, **{"members": 4, **options}).double()


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("distance", DISTANCES)
def test_its_scores_are_those_of_the_authors_code(distance: str, shots: int) -> None:
    made = model(distance=DISTANCES[distance])
    at = f"k{shots}/{distance}/"
    support, query = ARRAYS[f"k{shots}/support"], ARRAYS[f"k{shots}/query"]  # [H, N, K, c], [H, Q, c]
    for member in range(4):
        scores = made.score(support[member, None, ..., None, None], query[member, None, ..., None, None])[0]
        check("a member's", scores.exp(), ARRAYS[f"{at}probabilities_per_member"][member], SCORES)
        loss = F.cross_entropy(scores, ARRAYS[f"k{shots}/query_labels"])
        check("a member's loss", loss, ARRAYS[f"{at}loss_per_member"][member], SCORES)
    together = support.permute(1, 2, 0, 3).flatten(2), query.transpose(0, 1).flatten(1)
    ensemble = model(distance=DISTANCES[distance], read="ensemble")
    scores = ensemble.score(*(x[None, ..., None, None] for x in together))[0]
    check("probabilities", scores.exp(), ARRAYS[f"{at}probabilities"], SCORES)


@pytest.mark.parametrize("name", RELATIONS)
def test_relations_between_members_are_those_of_the_authors_code(name: str) -> None:
    made, given = model(**RELATIONS[name]), logits()
    sign = -1 if name.startswith("neg") else 1
    relation = sign * made.relation_of(given, LABELS, ALL)
    check("relation", relation, ARRAYS[f"train/{name}/relation_loss"], SCORES)
    relation.backward()
    assert given.grad is not None
    check("gradient", given.grad.transpose(1, 2), ARRAYS[f"train/{name}/grad_logits"], GRADIENTS)


def test_the_ensembles_losses_are_those_of_the_authors_code() -> None:
    robust, diverse = model(), model(**RELATIONS["cos_T5"])
    check("robust", robust.ensemble_loss(logits(), LABELS, ALL), ARRAYS["train/loss_robust"], SCORES)
    check("diversity", diverse.ensemble_loss(logits(), LABELS, ALL), ARRAYS["train/loss_diversity"], SCORES)
    alone = model(relation_weight=0.0).ensemble_loss(logits(), LABELS, ALL)
    check("alone", alone, ARRAYS["train/sum_of_cross_entropies"], SCORES)


def test_distillation_is_that_of_the_authors_code() -> None:
    student = ARRAYS["distil/student_logits"].clone().requires_grad_()
    loss = model(targets="logits").distillation_loss(student, logits().detach(), LABELS)
    check("loss", loss, ARRAYS["distil/loss"], SCORES)
    loss.backward()
    assert student.grad is not None
    check("gradient", student.grad, ARRAYS["distil/grad_student_logits"], GRADIENTS)


def test_distillation_is_at_its_best_where_the_student_says_what_the_members_say() -> None:
    made, members = model(distillation=1.0), logits().detach()
    alike = 5 * (members / 5).softmax(-1).mean(1).log()
    best = made.distillation_loss(alike.requires_grad_(), members, LABELS)
    best.backward()
    assert alike.grad is not None
    assert alike.grad.abs().max() < 1e-12
    assert made.distillation_loss(members[:, 0], members, LABELS) > best


def test_inactive_members_teach_and_learn_nothing() -> None:
    made, given = model(), logits()
    active = ALL.clone()
    active[:, 1], active[3, 2] = 0, 0
    loss = made.ensemble_loss(given, LABELS, active)
    loss.backward()
    assert given.grad is not None
    assert not given.grad[:, 1].any()
    assert not given.grad[3, 2].any()
    left = [[0, 2, 3]] * 3 + [[0, 3]] + [[0, 2, 3]] * 2
    each = [made.ensemble_loss(given[i, None, h], LABELS[i, None], torch.ones(1, len(h))) for i, h in enumerate(left)]
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_loss_is_the_ensembles_and_the_students_on_all_pictures() -> None:
    made = model(read="ensemble").eval()
    torch.manual_seed(0)
    support, query = torch.randn(1, 2, 2, 24, 1, 1).double(), torch.randn(1, 3, 24, 1, 1).double()
    labels, base_labels = torch.tensor([[0, 1, 1]]), torch.tensor([[7, 3, 3]])
    losses = made.loss(support, query, labels, base_labels)
    pictures, target = torch.cat([support.flatten(0, 2), query[0]]), torch.tensor([7, 7, 3, 3, 7, 3, 3])
    plain = made.classification_loss(pictures, target)
    torch.testing.assert_close(losses.total, plain.total)
    of_members = torch.stack([head(pictures[..., 0, 0]) for head in made.network_heads], dim=1)
    student = made.student_head(pictures[..., 0, 0])
    torch.testing.assert_close(plain.auxiliary, made.distillation_loss(student, of_members, target))
    both = made.ensemble_loss(of_members, target, torch.ones(7, 4)) + plain.auxiliary
    torch.testing.assert_close(plain.total, both)
    torch.testing.assert_close(losses.scores, made(support, query))
    assert made.embed(query).shape == (1, 3, 96, 1, 1)


def test_members_start_apart_and_the_student_teaches_none_of_them() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    for backbone, options in (("conv4", {"width": 4}), (nn.Sequential(*layers), {})):
        made = RobustDist(backbone, classes=5, backbone_options=options, members=2)
        first = [next(network.parameters()) for network in (made.backbone, *made.networks)]
        assert not any(torch.equal(a, b) for i, a in enumerate(first) for b in first[:i])
        made.classification_loss(torch.randn(4, 3, 24, 24), torch.arange(4)).auxiliary.backward()
        assert all(p.grad is None for p in made.networks.parameters())


def test_unknown_names_are_refused() -> None:
    for name in ("relation", "targets", "read", "distance"):
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            model(**{name: "other"})
