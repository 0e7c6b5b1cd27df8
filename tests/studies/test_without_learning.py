"""What the data sheet measures, on images whose answer is known."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from labkit.data.glyphs.classes import read_table
from labkit.data.glyphs.likeness import describe, drawing
from labkit.evaluation.protocol import evaluate
from labkit.studies import without_learning
from labkit.studies.without_learning import PixelNearest, UntrainedLogistic, banded, nearest_pairs, objects_alone
from tests.helpers.toys import toy_images

pytestmark = pytest.mark.integration

IMAGES = toy_images(classes=6, per_class=20, split="val")


@pytest.mark.parametrize("method", [PixelNearest, UntrainedLogistic])
@pytest.mark.parametrize("shot", [1, 3])
def test_what_differs_in_place_or_colour_is_told_apart(method: type[nn.Module], shot: int) -> None:
    assert evaluate(method(), IMAGES, 4, shot, 5, episodes=20).accuracy > 90


@pytest.mark.parametrize("method", [PixelNearest, UntrainedLogistic])
def test_images_of_noise_are_at_chance(method: type[nn.Module]) -> None:
    noise = toy_images(classes=8, per_class=20)
    noise.pixels[:] = np.random.default_rng(0).integers(0, 255, noise.pixels.shape)
    result = evaluate(method(), noise, 4, 1, 10, episodes=100)
    assert abs(result.accuracy - 25) < 2 * result.ci95


def test_pixel_score_is_minus_the_mean_squared_difference_to_the_nearest_shot() -> None:
    support, query = torch.rand(2, 3, 4, 3, 5, 5), torch.rand(2, 6, 3, 5, 5)
    model = PixelNearest()
    scores = model.score(
        model.embed(support.flatten(0, 2)).view(2, 3, 4, -1), model.embed(query.flatten(0, 1)).view(2, 6, -1)
    )
    expected = -((query[:, :, None, None] - support[:, None]) ** 2).double().mean((4, 5, 6)).amin(3)
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("classes", "shots"), [(2, 1), (5, 1), (3, 4)])
def test_logistic_regression_in_the_span_of_the_support_is_that_on_all_features(classes: int, shots: int) -> None:
    rng = np.random.default_rng(classes)
    support, query = rng.normal(3, 2, (2, classes, shots, 40)), rng.normal(3, 2, (2, 7, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a fit that stops before its optimum warns
        scores = UntrainedLogistic().score(torch.from_numpy(support), torch.from_numpy(query))
    labels = np.repeat(np.arange(classes), shots)
    for e in range(2):
        shown = support[e].reshape(-1, 40)
        mean, deviation = shown.mean(0), shown.std(0)
        fit = LogisticRegression(tol=1e-10, max_iter=5000).fit((shown - mean) / deviation, labels)
        expected = fit.predict_log_proba((query[e] - mean) / deviation)
        np.testing.assert_allclose(scores[e].numpy(), expected, atol=1e-4)


def test_the_untrained_network_is_that_of_its_seed_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (UntrainedLogistic(seed=seed).eval() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(first.embed(images), second.embed(images))
    assert not torch.equal(first.embed(images), other.embed(images))


def test_objects_alone_are_the_masks_in_their_places() -> None:
    alone = objects_alone(IMAGES)
    masks = IMAGES.masks(slice(None)).numpy()
    assert np.array_equal(alone.pixels, 255 * np.repeat(masks[..., None], 3, axis=-1))
    assert np.array_equal(alone.labels, IMAGES.labels)
    assert alone.provenance.digest != IMAGES.provenance.digest


@pytest.mark.integration
def test_sheet_has_a_row_for_everything_and_displacement_costs_the_objects(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    sheet = without_learning.data_sheet(displacements=(0, 1), clutters=(0, 2), size=24, per_class=16, episodes=30)
    assert list(sheet.columns) == ["displacement", "sees", "method", "accuracy", "ci95"]
    assert len(sheet) == 2 * 3 * 2
    alone = sheet[(sheet["sees"] == "object alone") & (sheet["method"] == "pixel nearest neighbour")]
    centred, displaced = alone["accuracy"]
    assert centred > displaced + 10
    table = without_learning.as_table(sheet)
    assert list(table.columns) == ["clutter 0", "clutter 2", "object alone"]
    assert table.shape == (4, 3)
    assert table.loc[("pixel nearest neighbour", 0.0), "object alone"].startswith(f"{centred:.1f} ± ")
    again = without_learning.data_sheet(displacements=(0, 1), clutters=(0, 2), size=24, per_class=16, episodes=30)
    pd.testing.assert_frame_equal(sheet, again)


def test_a_number_is_judged_as_it_is_printed() -> None:
    assert banded("accuracy", 61.26, 55, 65) == "accuracy: 61.3, expected 55 to 65: in band"
    assert banded("accuracy", 54.96, 55, 65).endswith("in band")
    assert banded("accuracy", 54.94, 55, 65).endswith("OUT OF BAND")
    assert banded("likeness", 0.741, 0, 0.74, digits=2).endswith("in band")
    assert banded("accuracy", float("nan"), 55, 65).endswith("OUT OF BAND")


def test_nearest_pairs_come_in_order_and_from_the_split_asked_for() -> None:
    pairs = nearest_pairs("glyphs-mini", "val", count=200)
    assert len(pairs) == 16 * 15 / 2
    assert [p.likeness for p in pairs] == sorted((p.likeness for p in pairs), reverse=True)
    assert {row.mini_split for p in pairs for row in (p.first, p.second)} == {"val"}
    everywhere = nearest_pairs(count=3)
    assert len(everywhere) == 3
    assert everywhere[0].likeness >= pairs[0].likeness
    with pytest.raises(ValueError, match="no split 'valid'"):
        nearest_pairs("glyphs-mini", "valid")


def test_a_pair_is_shown_as_alike_as_it_was_measured() -> None:
    for pair in nearest_pairs(count=3):
        shown = [Image.fromarray(255 - p) for p in without_learning.as_alike_as_they_get(pair, 200)]
        first, second = (image.crop(image.getbbox()) for image in shown)
        alike = float((describe([first]) * describe([second])).sum())
        assert alike == pytest.approx(pair.likeness, abs=0.03)


def test_portraits_are_black_on_white_and_fill_their_frame() -> None:
    for row in read_table()[0][::40]:
        glyph = drawing(row.codepoint)
        assert glyph is not None
        black = without_learning.portrait(glyph, 60) < 200
        reach = []
        for axis in (0, 1):
            where = np.flatnonzero(black.any(axis=axis))
            assert abs(where[0] + where[-1] - 59) <= 4  # centred
            reach.append(np.ptp(where))
        assert 40 <= max(reach) <= 50
