"""Normalisation, and the refusal of images that were prepared otherwise."""

from dataclasses import replace

import pytest
import torch

from labkit.episodes.preprocessing import Preprocessing
from tests.helpers.toys import toy_images

IMAGES = toy_images(size=24)


def test_normalised_images_have_the_constants_taken_off() -> None:
    preparation = Preprocessing(24, "none", mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    pixels = torch.tensor([[[[255, 0, 128]]]], dtype=torch.uint8)
    out = preparation.normalise(preparation.to_unit(pixels))
    assert list(out.shape) == [1, 3, 1, 1]
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, -0.25, 128 / 255 / 2]))


def test_any_leading_dimensions() -> None:
    preparation = Preprocessing.of(IMAGES)
    pixels = torch.zeros(2, 5, 24, 24, 3, dtype=torch.uint8)
    assert list(preparation.to_unit(pixels).shape) == [2, 5, 3, 24, 24]


def test_a_mismatch_names_both_sides() -> None:
    Preprocessing(24, "none").check(IMAGES)
    with pytest.raises(ValueError, match=r"trained on 84 px.*24 px.*size=84"):
        Preprocessing(84, "none").check(IMAGES)
    resized = replace(IMAGES, provenance=replace(IMAGES.provenance, resampling="bilinear"))
    with pytest.raises(ValueError, match="resampling 'none'"):
        Preprocessing(24, "none").check(resized)


def test_where_nobody_knows_the_resampling_the_size_alone_must_fit() -> None:
    resized = replace(IMAGES, provenance=replace(IMAGES.provenance, resampling="bilinear"))
    for images in (IMAGES, resized):
        Preprocessing(24, None).check(images)
    with pytest.raises(ValueError, match=r"trained on 84 px images \(resampling unknown\).*24 px"):
        Preprocessing(84, None).check(resized)
