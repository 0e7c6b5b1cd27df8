"""The table of classes: its shape, that no two characters look alike, and that it can be made again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from labkit.data.glyphs.classes import font_digests, read_table
from labkit.data.glyphs.likeness import FACES, TURNS, covered, describe, ink, likeness
from tests.helpers.glyph_table import ALIKE, choose, distinct, write_table

ROWS, DIGESTS = read_table()
same_fonts = pytest.mark.skipif(font_digests() != DIGESTS, reason="matplotlib ships other fonts than the table's")


def test_counts_of_classes_and_categories():
    splits = Counter(row.tiered_split for row in ROWS)
    assert (splits["train"], splits["val"], splits["test"]) == (351, 97, 160)
    assert splits["clutter"] >= 60
    assert Counter(row.mini_split for row in ROWS if row.mini_split) == {"train": 64, "val": 16, "test": 20}
    sizes = Counter((row.tiered_split, row.category) for row in ROWS if row.tiered_split != "clutter")
    categories = {split: {c for s, c in sizes if s == split} for split in ("train", "val", "test")}
    assert [len(categories[split]) for split in ("train", "val", "test")] == [20, 6, 8]
    assert len(set().union(*categories.values())) == 34  # so none is in two splits
    assert min(sizes.values()) >= 5


def test_no_character_twice_and_no_class_in_the_clutter_pool():
    assert len({row.codepoint for row in ROWS}) == len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.mini_split == "" for row in ROWS if row.tiered_split == "clutter")


def test_mini_is_drawn_from_many_categories_in_every_split():
    for split, least in (("train", 25), ("val", 8), ("test", 10)):
        assert len({row.category for row in ROWS if row.mini_split == split}) >= least


@pytest.mark.integration
def test_every_listed_face_has_ink_for_the_character():
    for row in ROWS:
        assert row.faces
        for face in row.faces:
            image = ink(row.codepoint, face)
            assert image is not None
            assert image.getextrema()[1] > 128, (row.name, face)
            assert row.codepoint in covered(face)


def test_a_face_without_the_character_is_not_used():
    assert "LastResortHE-Regular" not in FACES
    armenian = next(row for row in ROWS if row.category == "Armenian")
    assert "STIXGeneral" not in armenian.faces


@pytest.mark.integration
@same_fonts
def test_no_two_rows_look_alike():
    alike = np.triu(likeness([row.codepoint for row in ROWS]), 1)
    a, b = np.unravel_index(alike.argmax(), alike.shape)
    assert alike[a, b] <= ALIKE + 1e-4, (ROWS[a].name, ROWS[b].name)


@pytest.mark.integration
@same_fonts
def test_the_table_can_be_made_again(tmp_path):
    rows = choose()
    assert tuple(rows) == ROWS
    write_table(rows, tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv") == (ROWS, DIGESTS)


@pytest.mark.parametrize("pair", ["AΑ", "AА", "oO", "cC", "bd", "pq", "l|", "<>", "/\\", "mт", "→↗", "○◯", "■▪"])
def test_known_look_alikes_are_one_class(pair):
    """Same shapes of other scripts, other sizes, mirror images, turns, and in italics Cyrillic te, which is an m."""
    assert likeness([ord(c) for c in pair])[0, 1] > ALIKE
    assert len(distinct([ord(c) for c in pair], ALIKE)) == 1


@pytest.mark.parametrize("pair", ["AB", "xo", "→↑", "◐★", "Ж&", "ΨΩ"])
def test_plainly_different_characters_are_two(pair):
    assert likeness([ord(c) for c in pair])[0, 1] < ALIKE


def test_likeness_is_symmetric_whatever_the_order():
    codepoints = [row.codepoint for row in ROWS[::97]]
    shuffled = codepoints[::-1]
    forward, backward = likeness(codepoints), likeness(shuffled)
    np.testing.assert_array_equal(forward, forward.T)
    np.testing.assert_allclose(forward, backward[::-1, ::-1], atol=1e-5)
    np.testing.assert_array_equal(np.diag(forward), 1)


def test_a_description_ignores_size_place_and_mirror_comes_from_reordering():
    def drawn(side: int, left: int) -> Image.Image:
        image = Image.new("L", (side + left, side))
        ImageDraw.Draw(image).polygon([(left, 0), (left + side, side), (left, side)], fill=255)
        return image

    one, other = describe([drawn(60, 0), drawn(120, 30)])
    assert float((one * other).sum()) > 0.98
    mirrored = describe([drawn(60, 0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)])[0]
    assert float((mirrored * one[:, [0, 1, 3, 2], :, ::-1]).sum()) > 0.98
    assert describe([drawn(60, 0)], TURNS).shape == (1, len(TURNS), 4, 16, 16)
