"""One image: purity, masks, and what each number of the difficulty does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from labkit.data.glyphs.classes import GlyphClass, read_table
from labkit.data.glyphs.load import DEFAULT, Difficulty, classes_of, render
from labkit.data.glyphs.scene import _colour, _distance

CLASSES = [row for split in ("train", "val", "test") for row in classes_of("glyphs-mini", split)]
PLAIN = replace(DEFAULT, clutter=0)


def sides(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is True, right and bottom exclusive."""
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


# Purity


def test_an_image_does_not_depend_on_what_was_rendered_before():
    jobs = [(row, index) for row in CLASSES[::9] for index in (0, 7)]
    forward = [render(row, index, size=40, seed=3) for row, index in jobs]
    backward = [render(row, index, size=40, seed=3) for row, index in jobs[::-1]][::-1]
    for (a, a_mask), (b, b_mask) in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a_mask, b_mask)


def test_an_image_depends_on_seed_index_and_class_but_not_on_the_split():
    row = CLASSES[0]
    pixels, _ = render(row, 0, size=40, seed=0)
    for other in (
        render(row, 1, size=40, seed=0),
        render(row, 0, size=40, seed=1),
        render(CLASSES[1], 0, size=40, seed=0),
    ):
        assert np.abs(pixels.astype(int) - other[0]).mean() > 10
    moved = replace(row, tiered_split="test", mini_split="", category="", name="")
    np.testing.assert_array_equal(render(moved, 0, size=40, seed=0)[0], pixels)


# Masks and scenes


def test_the_mask_is_where_the_object_is():
    """Inside, away from the soft edge, one colour and grain; outside, at least as far from it as the contrast asks."""
    shares = []
    for index, row in enumerate(CLASSES):
        pixels, mask = render(row, index, size=84, seed=0, difficulty=replace(PLAIN, contrast=0.5))
        assert pixels.shape == (84, 84, 3)
        assert pixels.dtype == np.uint8
        assert mask.shape == (84, 84)
        assert mask.dtype == np.bool_
        assert mask.any()
        left, top, right, bottom = sides(mask)
        around = np.zeros_like(mask)
        around[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = True
        inside, outside = pixels[mask].mean(axis=0) / 255, pixels[around & ~mask].mean(axis=0) / 255
        farthest = np.where(outside > 0.5, 0, 1)
        shares.append((_distance(inside, outside) / _distance(farthest, outside)) ** 0.5)
    assert np.min(shares) > 0.25  # soft edges and a background that varies take their part
    assert np.mean(np.array(shares) > 0.45) > 0.9


@pytest.mark.integration
def test_even_hairlines_leave_a_mask_in_small_images():
    hard = replace(DEFAULT, object_size=(0.3, 0.3))
    for row in read_table()[0]:
        assert render(row, 0, size=16, seed=0, difficulty=hard)[1].any(), row.name


def test_clutter_lies_under_the_object():
    for row in CLASSES[::7]:
        few, many = (render(row, 0, size=84, seed=0, difficulty=replace(DEFAULT, clutter=n)) for n in (0, 20))
        np.testing.assert_array_equal(few[1], many[1])
        assert np.abs(many[0].astype(int) - few[0])[~few[1]].mean() > 20
        inside = np.asarray(Image.fromarray(few[1]).convert("L").filter(ImageFilter.MinFilter(3))) > 0
        if inside.sum() > 30:  # one colour and grain, with and without clutter beneath
            assert many[0][inside].std(axis=0).max() < 16


@pytest.mark.parametrize("difficulty", [DEFAULT, PLAIN, replace(DEFAULT, displacement=1.0, rotation=45.0)])
def test_size_only_sets_the_resolution(difficulty):
    for index, row in enumerate(CLASSES[::5]):
        big, big_mask = render(row, index, size=168, seed=0, difficulty=difficulty)
        small, small_mask = render(row, index, size=42, seed=0, difficulty=difficulty)
        reduced = np.asarray(Image.fromarray(big).reduce(4)).astype(float)
        assert np.corrcoef(reduced.ravel(), small.ravel())[0, 1] > 0.85, row.name
        covered = big_mask.reshape(42, 4, 42, 4).mean(axis=(1, 3))
        assert np.corrcoef(covered.ravel(), small_mask.ravel())[0, 1] > 0.6, row.name  # thin strokes


# What each number of the difficulty does


def test_displacement_0_centres_the_object_and_1_keeps_it_inside():
    centres = []
    for index, row in enumerate(CLASSES):
        low, high = (render(row, index, size=100, seed=0, difficulty=replace(PLAIN, displacement=d))[1] for d in (0, 1))
        left, top, right, bottom = sides(low)
        assert abs(left + right - 100) <= 4
        assert abs(top + bottom - 100) <= 4
        left, top, right, bottom = sides(high)
        centres.append(((left + right) / 200, (top + bottom) / 200))
        assert abs(int(high.sum()) - int(low.sum())) <= 0.12 * low.sum() + 12  # nothing cut off
    assert np.std(centres) > 0.1


@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 0.25), (1.0, 1.0)])
def test_position_says_where_in_its_room_the_box_lies(y, x):
    for index, row in enumerate(CLASSES[::3]):
        placed = replace(DEFAULT, object_size=(0.4, 0.5), position=(y, x))
        left, top, right, bottom = sides(render(row, index, size=200, seed=0, difficulty=placed)[1])
        assert left == pytest.approx(x * (200 - (right - left)), abs=3), row.name  # faint edges are not in the mask
        assert top == pytest.approx(y * (200 - (bottom - top)), abs=3), row.name


def test_position_moves_the_object_and_leaves_everything_else():
    """Object, background, clutter and grain stay; its colour may change, since it must stand out where it now is."""
    same_colour = 0
    for index, row in enumerate(CLASSES[::2]):
        small = replace(DEFAULT, object_size=(0.35, 0.35), clutter=3)
        (a, a_mask), (b, b_mask) = (
            render(row, index, size=80, seed=0, difficulty=replace(small, position=(s, s))) for s in (0.0, 1.0)
        )
        left, top, right, bottom = sides(a_mask)
        moved_left, moved_top, moved_right, moved_bottom = sides(b_mask)
        assert abs((right - left) - (moved_right - moved_left)) <= 2  # the same glyph, up to the raster
        assert abs((bottom - top) - (moved_bottom - moved_top)) <= 2
        away = np.ones_like(a_mask)  # from both boxes, faint edges included
        for x0, y0, x1, y1 in (sides(a_mask), sides(b_mask)):
            away[max(0, y0 - 5) : y1 + 5, max(0, x0 - 5) : x1 + 5] = False
        assert away.mean() > 0.2
        np.testing.assert_array_equal(a[away], b[away])
        same_colour += bool(np.abs(a[a_mask].mean(axis=0) - b[b_mask].mean(axis=0)).max() < 12)
    assert same_colour > 0.6 * len(CLASSES[::2])


def test_without_a_position_the_share_decides_and_with_one_it_says_nothing():
    row = CLASSES[5]
    near, far = (
        render(row, 0, size=40, seed=0, difficulty=replace(DEFAULT, displacement=d, position=(0.2, 0.9)))[0]
        for d in (0.0, 1.0)
    )
    np.testing.assert_array_equal(near, far)
    centred = replace(DEFAULT, displacement=0.0)
    np.testing.assert_array_equal(
        render(row, 0, size=40, seed=0, difficulty=centred)[0],
        render(row, 0, size=40, seed=0, difficulty=replace(centred, position=(0.5, 0.5)))[0],
    )


def test_object_size_is_the_larger_side_of_the_box():
    for index, row in enumerate(CLASSES):
        for share in (0.3, 0.8):
            mask = render(row, index, size=100, seed=0, difficulty=replace(PLAIN, object_size=(share, share)))[1]
            left, top, right, bottom = sides(mask)
            assert max(right - left, bottom - top) == pytest.approx(100 * share, abs=3.1)


def test_rotation_and_shear_0_leave_the_glyph_upright():
    """The box of a character that only one face has then always has the same proportions."""

    def spread(row: GlyphClass, **changes: float) -> float:
        boxes = [sides(render(row, i, size=84, seed=0, difficulty=replace(PLAIN, **changes))[1]) for i in range(6)]
        return float(np.ptp([np.log((right - left) / (bottom - top)) for left, top, right, bottom in boxes]))

    rows = [row for row in CLASSES if len(row.faces) == 1]
    still = np.median([spread(row, rotation=0.0, shear=0.0) for row in rows])
    assert still < 0.1
    assert np.median([spread(row, rotation=0.0, shear=0.5) for row in rows]) > 2 * still
    assert np.median([spread(row, rotation=30.0, shear=0.0) for row in rows]) > 2 * still


@pytest.mark.parametrize("contrast", [0.0, 0.3, 0.8, 1.0])
def test_contrast_is_held_for_any_background(contrast):
    numbers = np.random.default_rng(0)
    for _ in range(300):
        behind = numbers.random(3).tolist()
        colour = _colour(numbers.random(24).tolist(), contrast, behind)
        farthest = [0.0 if value > 0.5 else 1.0 for value in behind]
        assert _distance(colour, behind) >= contrast**2 * _distance(farthest, behind) - 1e-9
        assert all(0 <= value <= 1 for value in colour)


def test_colour_says_nothing_about_the_class():
    """Mean colours of the objects of two classes differ by no more than chance."""
    means = np.array(
        [[(p := render(row, i, size=32, seed=0))[0][p[1]].mean(axis=0) for i in range(60)] for row in CLASSES[:8]]
    )
    error = means.std(axis=1).mean() / np.sqrt(60)
    assert means.mean(axis=1).std(axis=0).max() < 2 * error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("clutter", value) for value in (-1, 65, 1.5)],
        *[("contrast", value) for value in (-0.1, 1.2)],
        *[("displacement", value) for value in (2, float("nan"))],
        *[("object_size", value) for value in ((0.7, 0.4), (0.0, 0.4), (0.4, 1.1), (0.4,), 0.4)],
        *[("rotation", -1.0), ("shear", 3.0)],
        *[("position", value) for value in ((-0.1, 0.5), (0.5, 1.1), (0.5,), 0.5, (float("nan"), 0.0))],
    ],
)
def test_a_difficulty_out_of_range_names_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        replace(DEFAULT, **{field: value})


def test_a_list_from_a_notebook_is_as_good_as_a_tuple():
    assert replace(DEFAULT, object_size=[0.4, 0.7]) == replace(DEFAULT, object_size=(0.4, 0.7))
    assert replace(DEFAULT, position=[0, 1]) == replace(DEFAULT, position=(0, 1))
    assert hash(replace(DEFAULT, position=[0, 1])) == hash(replace(DEFAULT, position=(0, 1)))
    assert Difficulty() == DEFAULT
