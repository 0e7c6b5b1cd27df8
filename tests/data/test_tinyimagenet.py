"""Tiny ImageNet's classes that miniImageNet has not, from files as the archive holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labkit.common.errors import DataError
from labkit.data import load_images, tinyimagenet
from labkit.data.wordnet import word_of, words, words_of_tinyimagenet
from tests.helpers.tiny_files import BOX, write_tiny

NOVEL = tinyimagenet.novel_classes()
SHARED = "n04146614"  # school bus, a novel class of miniImageNet


def test_the_classes_are_174_and_none_is_of_miniimagenet() -> None:
    assert len(NOVEL) == len(set(NOVEL)) == 174
    assert not set(NOVEL) & words().keys()
    assert "n04008634" not in NOVEL  # a missile, of which miniImageNet's validation class has the same photographs
    assert SHARED in words_of_tinyimagenet()
    assert len(words_of_tinyimagenet()) == 200
    assert word_of("n01443537") == "goldfish"
    assert {number: word for number, word in words_of_tinyimagenet().items() if number in words()} == {
        number: word for number, word in words().items() if number in words_of_tinyimagenet()
    }


def test_pictures_of_novel_classes_alone_are_read(root: Path) -> None:
    write_tiny(root / "tiny-imagenet-200", [*NOVEL, SHARED])
    images = load_images("tinyimagenet", "test", root=root, progress=False)
    assert images.class_names == NOVEL
    assert (len(images), images.size, images.provenance.source_size) == (348, 64, "64x64")
    file = root / "tiny-imagenet-200" / "train" / NOVEL[3] / "images" / f"{NOVEL[3]}_1.JPEG"
    assert np.array_equal(images.pixels[images.class_indices[3][1]], np.asarray(Image.open(file)))
    inner = load_images("tinyimagenet", "test", root=root / "tiny-imagenet-200", progress=False)
    assert inner.digest == images.digest


def test_what_is_lacking_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"expected Tiny ImageNet as it was published.*unpack tiny-imagenet-200\.zip"):
        load_images("tinyimagenet", "test", root=root)
    write_tiny(root, NOVEL[:3])
    with pytest.raises(DataError, match=r"has novel classes alone.*no train split: pass split=\"test\""):
        load_images("tinyimagenet", "train", root=root)
    with pytest.raises(DataError, match=r"has 3 classes, expected 174"):
        load_images("tinyimagenet", "test", root=root, progress=False)
    assert len(load_images("tinyimagenet", "test", root=root, check_counts=False, progress=False).class_names) == 3
    for file in (root / "train" / NOVEL[1] / "images").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=f"{NOVEL[1]}: expected its pictures in images/, there are none"):
        load_images("tinyimagenet", "test", root=root, check_counts=False)


def test_a_link_out_of_the_folder_is_not_followed(root: Path, tmp_path: Path) -> None:
    write_tiny(root, NOVEL[:2])
    (tmp_path / "elsewhere").mkdir()
    images = root / "train" / NOVEL[0] / "images"
    for file in images.iterdir():
        file.rename(tmp_path / "elsewhere" / file.name)
    images.rmdir()
    images.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="lies or links outside"):
        load_images("tinyimagenet", "test", root=root, check_counts=False)


def test_the_objects_boxes_are_the_masks_in_any_size(root: Path) -> None:
    write_tiny(root, NOVEL[:2])
    left, top, right, bottom = BOX
    for size in (64, 32, 84, 13):
        images = load_images("tinyimagenet", "test", root=root, size=size, check_counts=False, progress=False)
        masks = images.masks(slice(None))
        assert masks.shape == (4, size, size)
        centres = (np.arange(size) + 0.5) * 64 / size
        across, down = (left <= centres) & (centres < right + 1), (top <= centres) & (centres < bottom + 1)
        assert (masks.numpy() == (down[:, None] & across)).all()
    assert images.digest == images.provenance.digest


def test_a_box_narrower_than_a_pixel_still_marks_one() -> None:
    boxes = np.array([[40, 9, 40, 9], [63, 63, 63, 63], [0, 0, 0, 63]])
    marked = np.unpackbits(tinyimagenet.packed(boxes, 13), axis=2, count=13)
    assert marked.sum((1, 2)).tolist() == [1, 1, 13]
    assert [np.argwhere(mask)[0].tolist() for mask in marked] == [[1, 8], [12, 12], [0, 0]]


def test_boxes_may_begin_with_a_mark_of_their_encoding_and_end_with_an_empty_line(root: Path) -> None:
    write_tiny(root, NOVEL[:1])
    plain = load_images("tinyimagenet", "test", root=root, check_counts=False, progress=False).packed_masks
    listed = root / "train" / NOVEL[0] / f"{NOVEL[0]}_boxes.txt"
    listed.write_bytes(b"\xef\xbb\xbf" + listed.read_bytes() + b"\n")
    again = load_images("tinyimagenet", "test", root=root, check_counts=False, progress=False).packed_masks
    assert plain is not None
    assert np.array_equal(again, plain)


def test_pictures_without_boxes_have_no_masks_and_broken_boxes_are_named(root: Path) -> None:
    write_tiny(root, NOVEL[:2])
    boxes = root / "train" / NOVEL[1] / f"{NOVEL[1]}_boxes.txt"
    name = f"{NOVEL[1]}_0.JPEG"
    for lines, said in (
        (f"{name}\t0\t0\t64\t3\n", r"boxes\.txt, line 1: expected .* from 0 to 63, .* got"),
        (f"{name}\t9\t0\t3\t3\n", "line 1: expected"),
        (f"{name}\t0\t0\t-1\tx\n", "line 1: expected"),
        (f"{name}\t0\t0\t3\n", "line 1: expected"),
        (f"{name}\t0\t0\t3\t3\n", f"expected a box for each picture, there is none for {NOVEL[1]}_1"),
    ):
        boxes.write_text(lines)
        with pytest.raises(DataError, match=said):
            load_images("tinyimagenet", "test", root=root, check_counts=False, progress=False)
    boxes.unlink()
    with pytest.raises(DataError, match=f"a file of boxes in the folder of each class, there is none for {NOVEL[1]}"):
        load_images("tinyimagenet", "test", root=root, check_counts=False, progress=False)
    (root / "train" / NOVEL[0] / f"{NOVEL[0]}_boxes.txt").unlink()
    assert load_images("tinyimagenet", "test", root=root, check_counts=False, progress=False).packed_masks is None
