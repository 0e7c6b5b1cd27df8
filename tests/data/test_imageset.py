"""ImageSet: what it holds, and what it refuses to hold."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.data.cache import digest_of
from labkit.data.imageset import ImageSet, read_arrays, write_arrays
from tests.helpers.toys import toy_images

IMAGES = toy_images(classes=4, per_class=5, size=21)


def test_indices_of_classes_and_masks() -> None:
    assert [i.tolist() for i in IMAGES.class_indices] == [list(range(5 * c, 5 * c + 5)) for c in range(4)]
    assert IMAGES.size == 21
    masks = IMAGES.masks([0, 7])
    assert masks.dtype == torch.bool
    assert list(masks.shape) == [2, 21, 21]
    assert masks.sum((1, 2)).tolist() == [49, 49]
    assert (IMAGES.tensor()[0][masks[0]].min() >= 80) & (IMAGES.tensor()[0][~masks[0]].max() < 60)


def test_written_and_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", IMAGES.pixels)
    np.save(tmp_path / "masks.npy", IMAGES.packed_masks)
    write_arrays(tmp_path, IMAGES.labels, IMAGES.class_names, ["a", "a", "b", "b"], IMAGES.provenance)
    back = read_arrays(tmp_path)
    assert isinstance(back.pixels, np.memmap)
    assert np.array_equal(back.pixels, IMAGES.pixels)
    assert (back.class_names, back.categories) == (IMAGES.class_names, ("a", "a", "b", "b"))
    assert back.provenance == IMAGES.provenance
    assert back.digest == IMAGES.provenance.digest  # the cache has hashed it
    assert torch.equal(back.masks(slice(None)), IMAGES.masks(slice(None)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pixels": IMAGES.pixels.astype(float)}, "must be uint8"),
        ({"pixels": IMAGES.pixels[:, :, :, :1]}, "must be uint8"),
        ({"pixels": IMAGES.pixels[:-1]}, "19 images but 20 labels"),
        ({"pixels": IMAGES.pixels[:0], "labels": IMAGES.labels[:0]}, "train split of toy holds no image"),
        ({"class_names": ("a", "b")}, "label 3 but only 2 class names"),
        ({"class_names": tuple("abcde")}, "class 'e' holds no image"),
        ({"categories": ("a",)}, "1 categories for 4 classes"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(IMAGES, **changes)


def test_a_category_is_a_text() -> None:
    with pytest.raises(TypeError, match="a category must be a text, got 5"):
        replace(IMAGES, categories=("a", "b", "c", 5))


@pytest.mark.parametrize("index", ["x", 1.5, 20, [0, "x"]])
def test_masks_of_no_images_are_refused(index: object) -> None:
    with pytest.raises(IndexError, match="index must be images from 0 to 19: a number, a slice or an array, got"):
        IMAGES.masks(index)


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'cuda:1', got 'tpu'"):
        IMAGES.tensor("tpu")


def test_the_digest_is_of_the_pixels_whatever_the_provenance_says(tmp_path: Path) -> None:
    given = ImageSet.from_arrays(IMAGES.pixels, IMAGES.labels)
    np.save(tmp_path / "pixels.npy", IMAGES.pixels)
    kept = digest_of(tmp_path / "pixels.npy")
    write_arrays(tmp_path, given.labels, given.class_names, None, replace(given.provenance, digest=kept))
    for source in (given, read_arrays(tmp_path)):
        assert source.digest == source.provenance.digest  # recorded in results: it must stay what it is
        assert replace(source, categories=("a", "a", "b", "b")).digest == source.digest
        inverted = replace(source, pixels=255 - source.pixels)
        assert inverted.provenance.digest == source.digest  # which is why nobody asks it
        assert inverted.digest == ImageSet.from_arrays(255 - IMAGES.pixels, IMAGES.labels).digest
        part = replace(source, pixels=source.pixels[::2], labels=source.labels[::2])
        assert len({source.digest, inverted.digest, part.digest}) == 3
        assert pickle.loads(pickle.dumps(source)).digest == source.digest


def test_no_masks_says_so() -> None:
    bare: ImageSet = replace(IMAGES, packed_masks=None)
    with pytest.raises(ValueError, match="no object masks"):
        bare.masks(0)
