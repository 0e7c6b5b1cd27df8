"""miniImageNet: every layout gives the pictures that were put in, as asked for, or says what it looked for."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.common.errors import DataError
from labkit.common.safe_pickle import load_pickle
from labkit.data import miniimagenet
from labkit.data.cache import digest_of
from labkit.data.real import load_real
from tests.helpers.real_files import (
    WNIDS,
    encoded,
    some_pixels,
    write_folders,
    write_mini_cache,
    write_mini_csv,
    write_mini_pickle,
)
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


def test_a_second_read_uses_the_cache_until_the_content_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("pickle", root)
    first = load(root)
    file.touch()
    with monkeypatch.context() as patched:
        patched.setattr(miniimagenet, "load_pickle", lambda file: pytest.fail("read again"))
        assert np.array_equal(load(root).pixels, first.pixels)
    written = file.stat()
    file.write_bytes(b"x" * written.st_size)
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns))
    with pytest.raises(DataError, match="truncated or not a pickle"):
        load(root)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_data_sets_of_the_same_names_sizes_and_times_share_nothing(
    tmp_path: Path, own_cache: Path, layout: str
) -> None:
    roots = [tmp_path / name for name in "AB"]
    for root in roots:
        root.mkdir()
        file = write(layout, root)
    first = load(roots[0])
    for file in (file for file in roots[1].rglob("*") if file.is_file() and file.suffix not in (".csv", ".json")):
        content = bytearray(file.read_bytes())
        if layout in ("images+csv", "folders"):
            content = bytearray(encoded(some_pixels(1, 84, seed=9)[0], "JPEG" if layout == "images+csv" else "PNG"))
        else:
            place = content.index(PIXELS[0].tobytes()[:40])
            content[place : place + 40] = PIXELS[0].tobytes()[:40][::-1]
        file.write_bytes(content)
        os.utime(file, (1, 1))
        os.utime(roots[0] / file.relative_to(roots[1]), (1, 1))
    assert not np.array_equal(load(roots[1]).pixels, first.pixels)
    assert np.array_equal(load(roots[0]).pixels, first.pixels)


@pytest.mark.parametrize("layout", ["pickle", "images+csv", "cache-pkl", "folders"])
def test_another_data_set_at_the_same_path_is_noticed_and_read(root: Path, own_cache: Path, layout: str) -> None:
    """Names, lengths and times are the same. The earlier set is recognised when it returns, and damage still found."""
    write(layout, root)
    files = [file for file in root.rglob("*") if file.is_file() and file.suffix != ".csv"]
    longest = max(file.stat().st_size for file in files)
    for file in files:
        file.write_bytes(file.read_bytes().ljust(longest, b"\0"))  # no reader minds what follows a picture
        os.utime(file, (1, 1))
    first = load(root)
    before = {file: file.read_bytes() for file in files}
    for i, file in enumerate(files):
        content = before[file]
        if layout in ("images+csv", "folders"):
            content = before[files[(i + 1) % len(files)]]
        else:
            start = content.index(PIXELS[0].tobytes()[:40])
            end = start + PIXELS.nbytes
            content = content[:start] + (255 - np.frombuffer(content[start:end], np.uint8)).tobytes() + content[end:]
        file.write_bytes(content)
        os.utime(file, (1, 1))
    with pytest.warns(UserWarning, match="not what was first read from there, but another data set"):
        second = load(root)
    assert not np.array_equal(second.pixels, first.pixels)
    after = {file: file.read_bytes() for file in files}
    for file, content in before.items():
        file.write_bytes(content)
    assert np.array_equal(load(root).pixels, first.pixels)
    for content in (before[files[0]], after[files[0]]):
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 1
        files[0].write_bytes(damaged)
        for file in files[1:]:
            file.write_bytes((after if content == after[files[0]] else before)[file])
        with pytest.raises(DataError, match=files[0].name):  # it may not even decode
            load(root, size=30)


def test_pictures_in_subfolders_that_a_table_names(root: Path) -> None:
    table = write("images+csv", root)
    names = [line.split(",")[0] for line in table.read_text().splitlines()[1:]]
    (root / "images" / "sub").mkdir()
    for name in names:
        (root / "images" / name).rename(root / "images" / "sub" / name)
    table.write_text(re.sub(r"(?m)^n0", "sub/n0", table.read_text()))
    table = root / "split" / "val.csv"
    first = load(root)
    file = root / "images" / "sub" / names[0]
    whole, status = file.read_bytes(), file.stat()
    other = (root / "images" / "sub" / names[3]).read_bytes()
    file.write_bytes(other[: len(whole)].ljust(len(whole), b"\0"))  # JPEG readers ignore what follows
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=f"{names[0]}.*the content has changed|{names[0]} .*truncated"):
        load(root)
    file.write_bytes(other)
    assert not np.array_equal(load(root).pixels[0], first.pixels[0])
    file.write_bytes(b"")
    with pytest.raises(DataError, match=rf"1 of 6 images cannot be read: images/sub/{names[0]}"):
        load(root)
    file.unlink()
    with pytest.raises(DataError, match=f"1 of its 6 images are not in .*images: sub/{names[0]}"):
        load(root)
    file.write_bytes(whole)
    assert np.array_equal(load(root).pixels, first.pixels)


def test_a_corrected_label_of_the_same_length_is_a_correction(root: Path) -> None:
    table = write("images+csv", root)
    load(root)
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(f",{WNIDS[0]}", f",{WNIDS[2]}")
    table.write_text("\n".join(lines) + "\n")
    assert sorted(load(root).labels.tolist()) == [0, 1, 1, 2, 2, 2]


def test_files_that_change_while_they_are_read(root: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    file = write("pickle", root)

    def read_and_touch(path: Path) -> Any:
        value = load_pickle(path)
        path.write_bytes(path.read_bytes() + b"x")
        return value

    monkeypatch.setattr(miniimagenet, "load_pickle", read_and_touch)
    with pytest.raises(DataError, match="files changed while they were read"):
        load(root)
    assert not list(own_cache.glob("*/pixels.npy"))
    assert file.exists()


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
