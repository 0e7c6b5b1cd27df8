"""Every method refuses what cannot be, in the same words, before its own lines run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from labkit.models.registry import METHODS, Method
from labkit.models.small import CLASSES, E, K, N, small_batch, small_model
from tests.methods.test_contract import features


@pytest.fixture(params=METHODS)
def model(request: pytest.FixtureRequest) -> Method:
    torch.manual_seed(0)
    return small_model(request.param)


SCORES: dict[str, tuple[Callable[[Tensor, Tensor], tuple[Any, ...]], str]] = {
    "other episodes": (lambda s, q: (s[:1], q), "features must be floating point"),
    "other channels": (lambda s, q: (s[:, :, :, :-1], q[:, :, :-1]), "with c = "),
    "other maps": (lambda s, q: (s[..., :-1], q), "features must be floating point"),
    "no shots": (lambda s, q: (s[:, :, :0], q), "features must be floating point"),
    "no queries": (lambda s, q: (s, q[:, :0]), "features must be floating point"),
    "whole numbers": (lambda s, q: (s.long(), q.long()), "features must be floating point"),
    "another mask": (lambda s, q: (s, q, torch.ones(1, N, dtype=torch.bool)), "support_mask must be bool"),
    "a mask of numbers": (lambda s, q: (s, q, torch.ones(E, N, K)), "support_mask must be bool"),
    "a class without a shot": (lambda s, q: (s, q, torch.zeros(E, N, K, dtype=torch.bool)), "at least one shot"),
}


@pytest.mark.parametrize("case", SCORES)
def test_scores_of_impossible_features_are_refused(model: Method, case: str) -> None:
    change, said = SCORES[case]
    with pytest.raises(ValueError, match=said):
        model.score(*change(*features(model)))


def test_a_list_is_no_tensor(model: Method) -> None:
    support, query = features(model)
    with pytest.raises(TypeError, match="query must be a tensor"):
        model.score(support, query.tolist())  # type: ignore[arg-type]


def test_features_are_cast_to_the_type_of_the_weights(model: Method) -> None:
    support, query = features(model)
    with torch.no_grad():
        scores = model.score(support, query)
        torch.testing.assert_close(model.score(support.double(), query.double()).to(scores.dtype), scores)


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], str]] = {
    "a class that is not there": (lambda own, base: (own + N, base), f"labels must be from 0 to {N - 1}"),
    "a label of -100": (lambda own, base: (torch.full_like(own, -100), base), f"labels must be from 0 to {N - 1}"),
    "labels of other episodes": (lambda own, base: (own.view(-1, E), base), "labels must be int64"),
    "a base class that is not there": (
        lambda own, base: (own, base + CLASSES),
        f"base_labels must be from 0 to {CLASSES - 1}",
    ),
    "base labels of another type": (lambda own, base: (own, base.int()), "base_labels must be int64"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_losses_of_impossible_labels_are_refused(model: Method, case: str) -> None:
    change, said = LOSSES[case]
    support, query, own, base = small_batch()
    with pytest.raises(ValueError, match=said):
        model.train().loss(support, query, *change(own, base))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("can", {"reduction": 0}, "reduction must be from 1"),
        ("can", {"transductive": 3}, "transductive must be a list"),
        ("can", {"temperature": 0.0}, "temperature must be a finite number above 0"),
        ("e3bm", {"steps": 0}, "steps must be from 1 to 1000"),
        ("feat", {"contrast_temperature": 0.0}, "contrast_temperature must be a finite number above 0"),
        ("feat", {"drop": 1}, "drop must be a finite number at least 0 and below 1, got 1"),
        ("feat", {"drop_attention": 1.0}, "drop_attention must be a finite number at least 0 and below 1"),
        ("leo", {"drop": 1.0}, "drop must be a finite number at least 0 and below 1"),
        ("leo", {"latents": 0}, "latents must be from 1"),
        ("metaoptnet", {"label_smoothing": 1e30}, "label_smoothing must be a finite number at least 0 and at most 1"),
        ("ppa", {"single": 7.0}, "single must be a finite number at least 0 and at most 1"),
        ("relationnet", {"width": 0}, "width must be from 1"),
        ("robust_dist", {"relation_temperature": 0.0}, "relation_temperature must be a finite number above 0"),
        ("snail", {"keys": 3}, "keys must be three sizes"),
        ("snail", {"keys": (1, 2)}, "keys and values must be as many, got 2 and 3"),
        ("wdae", {"drop": 1.0}, "drop must be a finite number at least 0 and below 1"),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        METHODS[name]("conv4", backbone_options={"width": 8}, **options)
