"""DSN against its authors' numbers, in both forms, and its mirror images."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from labkit.data.imageset import ImageSet
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.feature_set import FeatureSet, embed_all
from labkit.evaluation.protocol import evaluate
from labkit.methods.dsn import DSN
from labkit.own_images.classify import classify
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden
from tests.helpers.toys import toy_images


class Given(DSN):
    """Takes mirror images as given with the support."""

    def shows_mirrored(self, shots: int) -> bool:
        return False


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("form", ["conv4", "resnet12"])
def test_it_is_the_released_code(form: str, shots: int) -> None:
    arrays, k = golden(f"dsn_{form}"), f"k{shots}/"
    model = Given(Features(16), form=form).double()
    if model.gamma is not None:
        model.gamma.data.copy_(arrays[k + "weights/scale"][0])
    names = ["support", "support_flipped"] if shots == 1 else ["support"]
    parts = [arrays[k + name][None].clone().requires_grad_() for name in names]
    query, labels = arrays[k + "query"][None].clone().requires_grad_(), arrays[k + "query_labels"][None]
    with torch.no_grad():
        check("scores", model.eval().score(torch.cat(parts, 2), query)[0], arrays[k + "scores"], SCORES)
    losses = model.train().loss(torch.cat(parts, 2), query, labels, labels)
    losses.total.backward()
    check("loss", losses.total, arrays[k + "loss"], SCORES)
    if form == "conv4":
        check("few-shot loss", losses.few_shot, arrays[k + "loss_few_shot"], SCORES)
        check("overlap", losses.auxiliary, arrays[k + "loss_discriminative"], SCORES)
    for name, part in zip(["query", *names], [query, *parts], strict=True):
        check(f"gradient of {name}", part.grad[0], arrays[f"{k}grad_{name}"], GRADIENTS)


class Sum(torch.nn.Module):
    """A map of one cell, of which left and right can be told apart."""

    channels = 3

    def forward(self, images: Tensor) -> Tensor:
        weights = torch.linspace(0, 1, images.shape[-1], dtype=images.dtype)
        return (images * weights).sum((-2, -1), keepdim=True)


@pytest.mark.parametrize("form", ["conv4", "resnet12"])
def test_a_single_shot_comes_with_its_mirror_image(form: str) -> None:
    torch.manual_seed(0)
    model = DSN(Sum(), form=form).double().eval()
    support, query = torch.randn(1, 2, 1, 3, 4, 4).double(), torch.randn(1, 3, 3, 4, 4).double()
    pair = model.embed(torch.cat([support, support.flip(-1)], 2))
    with torch.no_grad():
        scores = model(support, query)
        torch.testing.assert_close(scores, model.score(pair, model.embed(query)))
        there = torch.ones(1, 2, 1, dtype=torch.bool)
        torch.testing.assert_close(model(support, query, there), scores)


def test_evaluation_on_features_embeds_the_mirror_images_too() -> None:
    images = toy_images(per_class=6)
    model = DSN("conv4", backbone_options={"width": 4}).eval()
    model.preprocessing = Preprocessing.of(images)
    asked = []

    def score(support: Tensor, query: Tensor) -> Tensor:
        asked.append(support)
        return DSN.score(model, support, query)

    model.score = score  # type: ignore[method-assign]
    evaluate(model, images, 3, 1, 2, episodes=2, seed=1)
    first = images.pixels[evaluated_support(images)]
    with torch.no_grad():
        for i, pixels in enumerate((first, first[:, :, ::-1])):
            unit = model.preprocessing.to_unit(torch.from_numpy(np.ascontiguousarray(pixels)))
            torch.testing.assert_close(asked[0][0, :, i], model.embed(model.preprocessing.normalise(unit)))


def evaluated_support(images: ImageSet) -> np.ndarray:
    """The pictures that the first episode of that evaluation shows."""
    return EpisodeSampler(images, 3, 1, 2, 1).indices(0)[1][:, 0]


def test_on_maps_computed_before_it_sees_the_features_of_mirror_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    images = toy_images(per_class=6)
    torch.manual_seed(0)
    model = DSN("conv4", backbone_options={"width": 4}).eval()
    model.preprocessing = Preprocessing.of(images)

    def head_on(maps: FeatureSet) -> DSN:
        head = DSN("features", backbone_options=maps.backbone_options).eval()
        head.preprocessing = Preprocessing.of(maps)
        return head

    maps = embed_all(model, images, dtype="float32", progress=False, mirrored=True)
    of_pictures = evaluate(model, images, 3, 1, 2, episodes=30)
    np.testing.assert_array_equal(
        evaluate(head_on(maps), maps, 3, 1, 2, episodes=30).per_episode, of_pictures.per_episode
    )
    shown, read = (EpisodeSampler(i, 3, 1, 2, seed=1)[0] for i in (images, maps))
    with torch.no_grad():  # and in training, where pictures and not features are given
        torch.testing.assert_close(
            head_on(maps)(read.support[None], read.query[None]), model(shown.support[None], shown.query[None])
        )
    alone = embed_all(model, images, dtype="float32", progress=False)
    with pytest.raises(ValueError, match=r"shown mirror images too, .* embed_all\(\.\.\., mirrored=True\)"):
        evaluate(head_on(alone), alone, 3, 1, 2, episodes=2)
    assert evaluate(head_on(alone), alone, 3, 2, 2, episodes=2).accuracy  # of two shots none is shown


def test_one_picture_of_ones_own_is_shown_with_its_mirror_image() -> None:
    images = toy_images(per_class=6)
    torch.manual_seed(0)
    model = DSN("conv4", backbone_options={"width": 4}).eval()
    model.preprocessing = Preprocessing.of(images)
    first = {name: images.pixels[images.labels == i][:1] for i, name in enumerate(images.class_names[:3])}
    asked = images.pixels[images.labels < 3][1::6]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no calibration, by intent
        found = classify(model, {name: list(own) for name, own in first.items()}, list(asked))
    unit = [
        model.preprocessing.to_unit(torch.from_numpy(part)) for part in (np.concatenate(list(first.values())), asked)
    ]
    support, query = (model.preprocessing.normalise(each) for each in unit)
    with torch.no_grad():
        scores = model(support[None, :, None], query[None])[0]
    np.testing.assert_allclose(found.scores, scores.numpy(), rtol=1e-4)


@pytest.mark.parametrize("form", ["conv4", "resnet12"])
def test_equal_shots_give_finite_gradients(form: str) -> None:
    torch.manual_seed(0)
    model = DSN("conv4", backbone_options={"width": 8}, form=form).train()
    support, query = torch.randn(1, 3, 3, 3, 24, 24), torch.randn(1, 4, 3, 24, 24)
    support[:, 0, 1] = support[:, 0, 0]
    labels = torch.tensor([[0, 1, 2, 0]])
    model.loss(support, query, labels, labels).total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_equal_pictures_span_nothing_and_break_nothing() -> None:
    torch.manual_seed(0)
    model = Given(Features(2), form="conv4").double().train()
    support = torch.randn(1, 3, 1, 2, 2, 2).double().expand(-1, -1, 2, -1, -1, -1).clone().requires_grad_()
    query, labels = torch.randn(1, 3, 2, 2, 2).double(), torch.tensor([[0, 1, 2]])
    losses = model.loss(support, query, labels, labels)
    losses.total.backward()
    distance = (query.flatten(2).unsqueeze(2) - support[:, :, 0].flatten(2).unsqueeze(1)).norm(dim=-1)
    torch.testing.assert_close(losses.scores, -distance)
    assert torch.isfinite(support.grad).all()
    assert losses.auxiliary.item() == pytest.approx(0, abs=1e-6)


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"form must be one of .*'resnet12', 'conv4'.*, got 'x'"):
        DSN(Features(2), form="x")
