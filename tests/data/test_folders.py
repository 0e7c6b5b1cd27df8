"""Images of one's own: every kind of picture, folders and tables, splits that never share a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labkit.common.errors import DataError
from labkit.data.decode import MAX_PIXELS, decode
from labkit.data.imageset import ImageSet
from labkit.data.own_folder import load_folder, share_out
from tests.helpers.real_files import encoded, some_pixels, write_folders

NAMES = [f"class {letter}" for letter in "abcdefghij"]


def load(root: Path, split: str = "train", **options: Any) -> ImageSet:
    return load_folder(root, split, **{"size": 8, "progress": False, **options})


@pytest.fixture
def ten(root: Path) -> Path:
    """Ten classes of two images, 8 x 8, every class of one value."""
    return write_folders(root, {name: np.full((2, 8, 8, 3), i, np.uint8) for i, name in enumerate(NAMES)})


def test_a_seeded_share_of_the_classes(ten: Path) -> None:
    splits = {split: load(ten, split) for split in ("train", "val", "test")}
    assert [len(images.class_names) for images in splits.values()] == [6, 2, 2]
    assert sorted(name for images in splits.values() for name in images.class_names) == NAMES
    for images in splits.values():
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            assert NAMES[pixels[0, 0, 0]] == images.class_names[label]
    assert splits["test"].class_names == load(ten, "test").class_names != load(ten, "test", seed=1).class_names
    about = splits["test"].provenance
    assert (about.dataset, about.layout, about.details["seed"]) == ("root", "folders", 0)


def test_listed_classes(ten: Path) -> None:
    classes = {"train": NAMES[5:2:-1], "test": NAMES[:2]}
    assert load(ten, "train", classes=classes).class_names == tuple(NAMES[3:6])
    assert load(ten, "test", classes=classes).class_names == tuple(NAMES[:2])
    with pytest.raises(DataError, match="the val split is empty, of 10 classes classes= lists none for 'val'"):
        load(ten, "val", classes=classes)
    with pytest.raises(DataError, match="class 'cat' of the train split is not there; there are class a, class b"):
        load(ten, classes={"train": ["cat"]})
    with pytest.raises(ValueError, match="class 'class a' is listed for 'train' and for 'test'; one split only"):
        load(ten, classes={"train": NAMES[:2], "test": NAMES[:1]})
    with pytest.raises(ValueError, match="a split in classes must be one of 'train', 'val', 'test', got 'novel'"):
        load(ten, classes={"novel": NAMES[:2]})


def test_a_table(ten: Path) -> None:
    table = ten / "table.csv"
    rows = [f'"{name}/{name}_0.png", {i % 2}, x' for i, name in enumerate(NAMES)]
    table.write_text("\n".join(["\ufeffpath,class,note", *rows]))
    images = load(ten, csv="table.csv", classes={"train": ["0", "1"]})
    assert images.labels.tolist() == [0] * 5 + [1] * 5
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    assert images.provenance.layout == "csv"
    with pytest.raises(DataError, match=r"none\.csv: not a readable CSV table"):
        load(ten, csv="none.csv")


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.2, -0.1), (1, 1, 1), (float("nan"), 0.5, 0.5)])
def test_bad_shares(ten: Path, shares: Any) -> None:
    with pytest.raises(ValueError, match="shares must be three numbers from 0 that add up to 1"):
        load(ten, shares=shares)


def test_a_share_that_leaves_nothing(ten: Path) -> None:
    with pytest.raises(DataError, match=r"the val split is empty, of 10 classes shares \(1.0, 0.0, 0.0\) leave none"):
        load(ten, "val", shares=(1.0, 0.0, 0.0))


@given(
    names=st.sets(st.text(min_size=1), min_size=1, max_size=40),
    weights=st.tuples(*[st.integers(0, 9)] * 3).filter(any),
    seed=st.integers(0, 2**32),
    order=st.randoms(),
)
def test_sharing_out_loses_no_class_and_knows_no_order(
    names: set[str], weights: tuple[int, int, int], seed: int, order: Any
) -> None:
    shares = [weight / sum(weights) for weight in weights]
    splits = share_out(sorted(names), shares, seed)
    assert sorted(name for part in splits.values() for name in part) == sorted(names)
    for part, share in zip(splits.values(), shares, strict=True):
        assert abs(len(part) - share * len(names)) <= 1
    shuffled = list(names)
    order.shuffle(shuffled)
    assert share_out(shuffled, shares, seed) == splits


def test_what_is_no_image_is_left_alone(root: Path) -> None:
    write_folders(root, {"a": some_pixels(1, 8)})
    write_folders(root, {"a": some_pixels(2, 8)}, suffix=".JPEG")
    for name in ("Thumbs.db", "notes.txt", "._a_0.png", ".hidden.png"):
        (root / "a" / name).write_bytes(b"x")
    (root / "a" / "folder.png").mkdir()
    os.mkfifo(root / "a" / "pipe.png")  # opening it would wait for ever
    (root / ".git").mkdir()
    assert len(load(root, shares=(1, 0, 0))) == 3


def test_links(root: Path, tmp_path: Path) -> None:
    write_folders(root, {"a": some_pixels(2, 8)})
    (root / "a" / "inside.png").symlink_to("a_0.png")
    assert len(load(root, shares=(1, 0, 0))) == 3
    linked = tmp_path / "link to root"
    linked.symlink_to(root)
    assert len(load(linked, shares=(1, 0, 0))) == 3
    outside = write_folders(tmp_path / "outside", {"b": some_pixels(1, 8)})
    for name, target, reason in (
        ("loop", root / "loop", "loop: cannot be opened"),
        ("b", outside / "b", "b: lies or links outside"),
        ("a/loop.png", root / "a" / "loop.png", "loop.png: cannot be opened"),
        ("a/gone.png", root / "gone", "gone.png: cannot be opened"),
        ("a/out.png", outside / "b" / "b_0.png", "out.png: lies or links outside"),
    ):
        (root / name).symlink_to(target)
        with pytest.raises(DataError, match=reason):
            load(root, shares=(1, 0, 0))
        (root / name).unlink()


def red(mode: str, size: tuple[int, int] = (4, 2)) -> Image.Image:
    return Image.new("RGB", size, (255, 0, 0)).convert(mode)


def decoded(tmp_path: Path, image: Image.Image, kind: str, **options: Any) -> list[int]:
    """The first pixel of an image written as `kind` and decoded."""
    file = tmp_path / f"x.{kind}"
    image.save(file, kind, **options)
    pixels, _ = decode(file, 2, "nearest")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (2, 2, 3)
    return [int(value) for value in pixels[0, 0]]


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    assert decoded(tmp_path, red("RGB"), "png") == [255, 0, 0]
    assert decoded(tmp_path, red("P"), "gif")[0] > 250
    assert decoded(tmp_path, red("L"), "png") == [76, 76, 76]
    assert decoded(tmp_path, red("1"), "bmp") in ([0, 0, 0], [255, 255, 255])
    assert decoded(tmp_path, red("CMYK"), "jpeg", quality=100)[0] > 240
    assert decoded(tmp_path, red("RGB"), "webp", lossless=True) == [255, 0, 0]
    assert decoded(tmp_path, red("RGB"), "tiff") == [255, 0, 0]
    assert decoded(tmp_path, red("RGB"), "ppm") == [255, 0, 0]
    assert decoded(tmp_path, Image.fromarray(np.full((2, 4), 0x8055, np.uint16)), "png") == [128, 128, 128]


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    hidden = Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    assert decoded(tmp_path, hidden, "png") == [255, 255, 255]
    assert decoded(tmp_path, Image.new("LA", (4, 2), (0, 0)), "png") == [255, 255, 255]
    assert decoded(tmp_path, Image.new("P", (4, 2)), "png", transparency=0) == [255, 255, 255]


def test_exif_turns_the_picture() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 4:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    turned, size = decode(encoded(pixels, "JPEG", exif=exif, quality=100), 4, "nearest")
    assert size == (4, 8)
    assert turned[:2].max() < 60
    assert turned[2:].min() > 200


def test_a_wide_picture_is_squashed_not_cropped() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, :3] = 255  # a tenth at the left border
    squashed, size = decode(pixels, 10, "box")
    assert size == (30, 10)
    assert squashed[:, 0].min() == 255
    assert squashed[:, 1:].max() == 0


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (encoded(np.zeros((8200, 8200), np.uint8)), f"8200 x 8200 pixels, more than the {MAX_PIXELS} allowed"),
        (encoded(np.ones((4, 4), np.int32) * 70000, "TIFF"), "32-bit pixels have no agreed range"),
        (encoded(np.ones((4, 4), np.float32), "TIFF"), "32-bit pixels have no agreed range"),
        (encoded(some_pixels(1)[0], "JPEG")[:-900], "truncated"),
        (encoded(some_pixels(1)[0])[:-900], "truncated"),
        (b"", "cannot identify"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "cannot identify"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot identify"),
    ],
)
def test_undecodable_pictures(picture: bytes, reason: str) -> None:
    with pytest.raises((ValueError, OSError), match=reason):
        decode(picture, 4, "bilinear")
