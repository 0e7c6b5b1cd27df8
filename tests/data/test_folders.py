"""Images of one's own: folders and tables, what is left out, splits that never share a class."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.common.errors import DataError
from labkit.common.names import composed
from labkit.data import load_images
from labkit.data.check import check_data
from labkit.data.imageset import ImageSet
from labkit.data.own_folder import load_folder, share_out
from tests.helpers.real_files import some_pixels, write_folders

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
    with pytest.raises(
        DataError, match="the val split is empty; of 10 classes the argument classes= names no class for 'val'"
    ):
        load(ten, "val", classes=classes)
    with pytest.raises(DataError, match="class 'cat' of the train split is not there; there are class a, class b"):
        load(ten, classes={"train": ["cat"]})
    with pytest.raises(ValueError, match="class 'class a' is listed for 'train' and for 'test'; list it once"):
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
    with pytest.raises(ValueError, match=r"three numbers from 0 that add up to 1|a share must be a finite"):
        load(ten, shares=shares)


def test_a_share_that_leaves_nothing(ten: Path) -> None:
    with pytest.raises(
        DataError, match=r"the val split is empty; of 10 classes shares \(1.0, 0.0, 0.0\) leave no class"
    ):
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


def test_sharing_out_knows_no_spelling() -> None:
    names = ["bee", "cat", "dog", "école", "élan", "fox", "gnu", "hen", "ibis", "yak"]
    of_a_mac = [unicodedata.normalize("NFD", name) for name in names]
    splits, others = (share_out(each, (0.64, 0.16, 0.2), 0) for each in (names, of_a_mac))
    assert {split: sorted(map(composed, part)) for split, part in others.items()} == {
        split: sorted(part) for split, part in splits.items()
    }


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


SPLITS = (
    ("train", "val", "test"),
    ("Train", "validation", "TEST"),
    ("meta_train", "meta_val", "meta_test"),
    ("base", "valid", "novel"),
)


@pytest.mark.parametrize("names", SPLITS)
def test_folders_that_are_split_already(root: Path, names: tuple[str, str, str]) -> None:
    for i, name in enumerate(names):
        write_folders(root / name, {f"c{i}": some_pixels(2, 8, i), f"d{i}": some_pixels(1, 8, i)})
    (root / "__MACOSX").mkdir()
    (root / "labels.csv").touch()
    for i, split in enumerate(("train", "val", "test")):
        images = load(root, split)
        assert images.class_names == (f"c{i}", f"d{i}")
        assert np.array_equal(images.pixels[:2], some_pixels(2, 8, i))
        assert images.provenance.layout == "split folders"
    for options in ({"shares": (1, 0, 0)}, {"classes": {"train": ["c0"]}}):
        with pytest.raises(ValueError, match=r"is split already, .* pass neither classes= nor shares="):
            load(root, **options)


def test_a_split_that_is_not_there(root: Path) -> None:
    write_folders(root / "train", {"a": some_pixels(1, 8)})
    write_folders(root / "test", {"b": some_pixels(1, 8)})
    with pytest.raises(DataError, match=r"the val split is not there; there are train/ \(train\), test/ \(test\)"):
        load(root, "val")
    write_folders(root / "novel", {"c": some_pixels(1, 8)})
    with pytest.raises(DataError, match="novel and test are both the test split"):
        load(root, "test")


def test_a_class_may_be_called_as_a_split_is(root: Path) -> None:
    write_folders(root, {name: some_pixels(2, 8) for name in ("train", "bus", "test")})
    assert load(root, shares=(1, 0, 0)).class_names == ("bus", "test", "train")
    write_folders(root / "val", {"a": some_pixels(1, 8)})
    with pytest.raises(DataError, match="val look like splits, bus, test, train like classes"):
        load(root)


def test_a_class_in_two_splits_is_said(root: Path) -> None:
    for split in ("train", "test"):
        write_folders(root / split, {"a": some_pixels(1, 8), split: some_pixels(1, 8)})
    with pytest.warns(UserWarning, match=r"a in test/ and in train/: a class that was trained on is not new"):
        assert load(root, "test").class_names == ("a", "test")


@pytest.mark.parametrize("place", ["class", "file", "root", "split"])
def test_names_that_are_not_utf8(root: Path, place: str) -> None:
    odd = os.fsdecode(b"caf\xe9")
    if place == "class":
        write_folders(root, {"a": some_pixels(1, 8), odd: some_pixels(1, 8)})
        with pytest.raises(DataError, match=r"caf\\udce9.* is not valid text in UTF-8; rename it") as raised:
            load(root, shares=(1, 0, 0))
        str(raised.value).encode()  # whoever prints or keeps it can
        return
    if place == "root":
        root = root / odd
    write_folders(root / odd if place == "split" else root, {"a": some_pixels(1, 8)})
    if place == "split":
        write_folders(root / "train", {"a": some_pixels(1, 8)})
        shutil.rmtree(root / odd)
    if place == "file":
        (root / "a" / "a_0.png").rename(root / "a" / f"{odd}.png")
    images = load(root, shares=None if place == "split" else (1, 0, 0))
    assert np.array_equal(images.pixels, some_pixels(1, 8))
    json.dumps(vars(images.provenance), ensure_ascii=False).encode()


def test_a_broken_picture_whose_name_is_not_utf8_is_named(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"caf\\udce9\.png \(none of JPEG") as raised:
        load(root, shares=(1, 0, 0))
    str(raised.value).encode()


def test_accents_may_be_written_in_either_way(root: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write_folders(root, {decomposed: some_pixels(1, 8), "b": some_pixels(1, 8)})
    assert load(root, classes={"train": [composed]}).class_names == (decomposed,)
    (root / "t.csv").write_text(f"path,class\n{composed}/{composed}_0.png,x\n")
    assert len(load(root, csv="t.csv", shares=(1, 0, 0))) == 1


def test_numbers_of_numpy_and_a_home_folder(ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(ten.parent))
    monkeypatch.setenv("LABKIT_CACHE", "~/own cache")
    images = load_images("folder", "train", root=f"~/{ten.name}", size=np.int64(8), seed=np.int32(0), progress=False)
    assert images.class_names == load(ten).class_names
    assert list((ten.parent / "own cache").glob("*/pixels.npy"))
    assert load(ten, size=np.int16(8), seed=np.uint8(3), shares=np.float32([0.5, 0.25, 0.25])).size == 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": ["a"]}, "classes must be the class names of each split"),
        ({"classes": {"train": "cat"}}, "classes must be .* got 'cat' for 'train'"),
        ({"classes": {"train": [1, 2]}}, r"classes must be .* got \[1, 2\] for 'train'; quote the names"),
        ({"classes": {"train": 5}}, "classes must be .* got 5 for 'train'"),
        ({"shares": "abc"}, "shares must be three numbers"),
        ({"shares": 5}, "shares must be three numbers"),
        ({"shares": ("a", 0, 1)}, "a share must be a number"),
        ({"csv": 5}, "csv must be the path of a CSV table"),
        ({"seed": "x"}, "seed must be a whole number"),
    ],
)
def test_arguments_of_another_kind(ten: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        load(ten, **options)


def test_two_spellings_of_one_class_are_refused(root: Path) -> None:
    """``caf\u00e9`` as one letter and as two: nobody could tell the classes apart, in a table or in a figure."""
    write_folders(root, {"caf\u00e9": some_pixels(1, 8), "cafe\u0301": some_pixels(1, 8), "b": some_pixels(1, 8)})
    said = r"read alike: .*\\xe9"
    with pytest.raises(DataError, match=said):
        load_folder(root, "train", shares=(1, 0, 0), size=8, progress=False)
    assert r"\u0301" in check_data(root)[0].splits[0].problems[0]
    with pytest.raises(ValueError, match=said):
        ImageSet.from_arrays(some_pixels(2, 8), ["caf\u00e9", "cafe\u0301"])


def test_two_spellings_in_two_splits_are_one_class(root: Path) -> None:
    write_folders(root / "train", {"caf\u00e9": some_pixels(1, 8)})
    write_folders(root / "test", {"cafe\u0301": some_pixels(1, 8)})
    with pytest.warns(UserWarning, match="caf.* in train/ and in test/: a class that was trained on is not new"):
        load_folder(root, "train", size=8, progress=False)
