"""Rendered pictures are shown in more pixels, and are the same scenes."""

from dataclasses import replace

import numpy as np
from PIL import Image

from labkit.data import load_images
from labkit.data.glyphs.sharp import SHOWN, sharp
from tests.helpers.toys import toy_images


def test_a_rendered_picture_is_the_same_scene_in_more_pixels() -> None:
    images = load_images("glyphs-mini", "val", size=40, per_class=4, progress=False)
    shown = [sharp(images, i) for i in (0, 5, 63)]
    assert {picture.shape for picture in shown} == {(SHOWN, SHOWN, 3)}
    small = [np.asarray(Image.fromarray(p).resize((40, 40), Image.Resampling.BOX), float) for p in shown]
    own = [[abs(images.pixels[i] - s).mean() for i in (0, 5, 63)] for s in small]
    assert [int(np.argmin(row)) for row in own] == [0, 1, 2]
    assert all(row[k] < 20 for k, row in enumerate(own)), own  # the grain of the pixels differs


def test_other_pictures_stay_as_they_are() -> None:
    images = toy_images()
    np.testing.assert_array_equal(sharp(images, 3), images.pixels[3])


def test_pictures_of_a_set_that_was_cut_out_by_hand_are_its_own() -> None:
    images = load_images("glyphs-mini", "val", size=40, per_class=4, progress=False)
    kept = np.flatnonzero(np.arange(len(images.labels)) % 4 != 0)
    own = replace(images, pixels=images.pixels[kept], labels=images.labels[kept], packed_masks=None)
    np.testing.assert_array_equal(sharp(own, 3), own.pixels[3])  # by number it would be another scene
