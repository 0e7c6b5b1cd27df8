"""miniImageNet: every layout gives the pictures that were put in, as asked for, or says what it looked for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.common.errors import DataError
from labkit.data.cache import digest_of
from labkit.data.real import load_real
from tests.helpers.real_files import WNIDS, write_folders, write_mini_cache, write_mini_csv, write_mini_pickle
from tests.helpers.small_mini import BY_CLASS, PIXELS, load, write

LAYOUTS = ("pickle", "images+csv", "cache-pkl", "hdf5", "folders")


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_its_images(root: Path, layout: str, split: str, own_cache: Path) -> None:
    write(layout, root, split)
    images = load(root, split)
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.class_names == (("64", "65", "79") if layout == "pickle" else WNIDS)
    assert images.categories is None
    if layout != "images+csv":  # JPEG loses a little
        assert np.array_equal(images.pixels, PIXELS)
    about = images.provenance
    assert (about.dataset, about.split, about.layout) == ("miniimagenet", split, layout)
    assert (about.source_size, about.resampling) == ("84x84", "none")
    (pixels,) = own_cache.glob("*/pixels.npy")
    assert about.digest == digest_of(pixels)


@pytest.mark.parametrize("protocol", [0, 2])
def test_the_pickle_may_be_of_either_python2_protocol(root: Path, protocol: int) -> None:
    write_mini_pickle(root, "train", PIXELS, [7, 5, 5, 7, 38, 38], protocol)
    images = load(root, "train")
    assert images.class_names == ("5", "7", "38")  # in the order of the numbers, not of their digits
    assert images.labels.tolist() == [1, 0, 0, 1, 2, 2]
    assert np.array_equal(images.pixels, PIXELS)


def test_other_names_of_the_same_files(root: Path) -> None:
    table = write_mini_csv(root, "val", 2, folder="")
    assert table == root / "val.csv"
    assert load(root).provenance.layout == "images+csv"
    table.unlink()
    write_mini_cache(root, "validation", PIXELS, {"n1": [0, 1, 2, 3, 4, 5]})
    assert load(root).provenance.layout == "cache-pkl"


def test_jpeg_folders_of_imagenet(root: Path) -> None:
    write_folders(root / "val", BY_CLASS, suffix=".JPEG")
    assert len(load(root)) == 6


def test_images_are_resized_once_and_it_is_recorded(root: Path) -> None:
    write("pickle", root)
    images = load(root, size=32, resampling="bicubic")
    assert images.pixels.shape == (6, 32, 32, 3)
    assert (images.provenance.source_size, images.provenance.resampling) == ("84x84", "bicubic")
    assert not np.array_equal(images.pixels, load(root, size=32, resampling="nearest").pixels)


def test_channel_order(root: Path) -> None:
    write("pickle", root)
    assert np.array_equal(load(root, channel_order="bgr").pixels, PIXELS[..., ::-1])


def test_a_second_read_uses_the_cache_until_the_file_changes(root: Path, own_cache: Path) -> None:
    file = write("pickle", root)
    first = load(root)
    written = file.stat()
    file.write_bytes(b"x" * written.st_size)
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert np.array_equal(load(root).pixels, first.pixels)
    file.touch()
    with pytest.raises(DataError, match="truncated or not a pickle"):
        load(root)


def test_wrong_number_of_classes(root: Path) -> None:
    write("pickle", root)
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"miniimagenet val \(pickle\) has 3 classes, expected 16; .*check_counts=False"
        ):
            load(root, check_counts=True)
        load(root)  # and again, when the cache holds it


def test_no_layout_and_several(root: Path) -> None:
    with pytest.raises(DataError) as none:
        load(root)
    for part in (
        "pickle: miniImageNet_category_split_val.pickle",
        "images+csv: images/ + split/val.csv or images/ + val.csv",
        "cache-pkl: mini-imagenet-cache-val.pkl or mini-imagenet-cache-validation.pkl",
        "hdf5: val_data.hdf5 + val_labels.json",
        "folders: val/",
    ):
        assert part in str(none.value)
    write("pickle", root)
    write("hdf5", root)
    with pytest.raises(
        DataError, match=r"pass layout= .*pickle: miniImageNet_category_split_val\.pickle; hdf5: val_data"
    ):
        load(root)
    assert load(root, layout="hdf5").provenance.layout == "hdf5"
    with pytest.raises(DataError, match=r"looked for folders: val/$"):
        load(root, layout="folders")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split": "valid"}, "split must be one of 'train', 'val', 'test', got 'valid'"),
        ({"layout": "lmdb"}, "layout must be one of 'pickle', .*, got 'lmdb'"),
        ({"resampling": "cubic"}, "resampling must be one of 'nearest', .*, got 'cubic'"),
        ({"channel_order": "grb"}, "channel_order must be one of 'rgb', 'bgr', got 'grb'"),
        ({"size": 0}, "size must be a whole number from 1 to 1024 pixels, got 0"),
        ({"size": 84.0}, "size must be a whole number"),
    ],
)
def test_bad_arguments(root: Path, options: dict[str, Any], reason: str) -> None:
    write("pickle", root)
    with pytest.raises(ValueError, match=reason):
        load(root, **options)


def test_bad_name_and_root(root: Path) -> None:
    with pytest.raises(ValueError, match="name must be one of 'miniimagenet', 'tieredimagenet', got 'cub'"):
        load_real("cub", "test", root)
    with pytest.raises(DataError, match="nowhere: expected a folder with the data set in it"):
        load(root / "nowhere")


def test_python3_copies_of_the_pickle(root: Path) -> None:
    file = root / "miniImageNet_category_split_val.pickle"
    file.write_bytes(pickle.dumps({b"data": PIXELS, b"labels": np.repeat([3, 1, 2], 2)}))
    assert load(root).labels.tolist() == [2, 2, 0, 0, 1, 1]
