"""miniImageNet: every damaged, incomplete or hostile file gives one clear error, and leaves no cache behind."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.common.errors import DataError
from tests.helpers.real_files import (
    WNIDS,
    damage,
    python2_pickle,
    some_pixels,
    write_folders,
    write_mini_cache,
    write_mini_csv,
)
from tests.helpers.small_mini import PIXELS, load, write

pytestmark = pytest.mark.integration


def broken_pickle(value: Any) -> Callable[[Path], object]:
    name = "miniImageNet_category_split_val.pickle"
    return lambda root: (root / name).write_bytes(python2_pickle(value, 2))


def broken_cache(class_dict: Any, pixels: Any = PIXELS) -> Callable[[Path], object]:
    return lambda root: write_mini_cache(root, "val", pixels, class_dict)


def broken_csv(edit: Callable[[str], str]) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        table = write_mini_csv(root, "val", per_class=2)
        table.write_text(edit(table.read_text()))

    return damage


def broken_hdf5(edit: Callable[[h5py.File], None]) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        (root / "secret.hdf5").write_bytes(write("hdf5", root).read_bytes())
        with h5py.File(root / "val_data.hdf5", "r+") as file:
            edit(file)

    return damage


def replace_class(new: Callable[[h5py.Group], Any]) -> Callable[[Path], object]:
    def edit(file: h5py.File) -> None:
        del file["datasets"][WNIDS[0]]
        new(file["datasets"])

    return broken_hdf5(edit)


def labels_json(text: str) -> Callable[[Path], object]:
    return lambda root: (write("hdf5", root), (root / "val_labels.json").write_text(text))


def truncated_jpeg(root: Path) -> None:
    write("images+csv", root)
    file = root / "images" / f"{WNIDS[1]}00000000.jpg"
    file.write_bytes(file.read_bytes()[:1500])


def linked_out(root: Path) -> None:
    write("images+csv", root)
    shutil.copytree(root / "images", root.parent / "elsewhere")
    file = root / "images" / f"{WNIDS[1]}00000000.jpg"
    file.unlink()
    file.symlink_to(root.parent / "elsewhere" / file.name)


def empty_class(root: Path) -> None:
    write("folders", root)
    (root / "val" / "n09999999").mkdir()
    (root / "val" / "n09999999" / "readme.txt").touch()


def external_raw(group: h5py.Group) -> None:
    group.create_dataset(WNIDS[0], (2, 84, 84, 3), "u1", external=[("secret.hdf5", 0, 2 * 84 * 84 * 3)])


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((2, 84, 84, 3), "u1")
    layout[:] = h5py.VirtualSource("secret.hdf5", f"datasets/{WNIDS[0]}", (2, 84, 84, 3))
    group.create_virtual_dataset(WNIDS[0], layout)


EMPTY = np.zeros((0, 84, 84, 3), np.uint8)
FIRST = f"{WNIDS[0]}00000000.jpg,{WNIDS[0]}\n"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no dictionary": (
        broken_pickle([1, 2]),
        "split_val.pickle: expected a dictionary of data and labels, got list of 2",
    ),
    "key missing": (broken_pickle({"data": PIXELS, "y": 1}), "expected 'labels' in its dictionary, it has data, y"),
    "unequal lengths": (broken_pickle({"data": PIXELS, "labels": [1] * 5}), "found 6 images, 5 labels"),
    "wrong shape": (broken_pickle({"data": PIXELS[..., 0], "labels": [1] * 6}), r"'data': .* got uint8 \[6, 84, 84\]"),
    "wrong dtype": (
        broken_pickle({"data": PIXELS / 1.0, "labels": [1] * 6}),
        r"'data': .* got float64 \[6, 84, 84, 3\]",
    ),
    "not an array": (broken_pickle({"data": ["a"], "labels": [1]}), r"'data': expected images .*, got list of 1"),
    "labels of two kinds": (
        broken_pickle({"data": PIXELS, "labels": ["a", 1] * 3}),
        "'labels': expected a list of strings",
    ),
    "labels in lists": (
        broken_pickle({"data": PIXELS, "labels": [[1]] * 6}),
        "'labels': expected a list of whole numbers",
    ),
    "empty split": (
        broken_pickle({"data": EMPTY, "labels": []}),
        r"miniimagenet val \(pickle in .*\): .* the split is empty",
    ),
    "hostile": (
        lambda root: (root / "mini-imagenet-cache-val.pkl").write_bytes(b"cos\nsystem\n(S'x'\ntR."),
        "cache-val.pkl: refused, this pickle asks for os.system; only numpy arrays and built-in types are read",
    ),
    "empty file": (
        lambda root: (root / "mini-imagenet-cache-val.pkl").touch(),
        "cache-val.pkl: truncated or not a pickle",
    ),
    "class dict no dictionary": (broken_cache([0]), "cache-val.pkl: expected a dictionary of classes, got list of 1"),
    "index too large": (broken_cache({"n1": [0, 6]}), "class 'n1': expected indices from 0 to 5, got 0 to 6"),
    "index negative": (broken_cache({"n1": [-1, 3]}), "class 'n1': expected indices from 0 to 5, got -1 to 3"),
    "image in two classes": (
        broken_cache({"n1": [0, 1], "n2": [1, 2]}),
        "class 'n2': expected every image in one class",
    ),
    "image twice": (broken_cache({"n1": [0, 0]}), "class 'n1': expected every image in one class"),
    "image in no class": (broken_cache({"n1": [0, 1, 2]}), "expected every image in one class, 3 of 6 are in none"),
    "class without index": (
        broken_cache({"n1": [], "n2": [0]}),
        "class 'n1': expected indices of images, there are none",
    ),
    "csv header": (broken_csv(lambda t: t.replace("filename,label", "a,b")), "expected a first line filename,label or"),
    "csv without rows": (broken_csv(lambda t: "filename,label\n"), r"miniimagenet val .* the split is empty"),
    "csv empty": (
        broken_csv(lambda t: ""),
        "val.csv: expected a first line filename,label or path,class, with commas, got ''",
    ),
    "csv cell missing": (
        broken_csv(lambda t: t + "x.jpg\n"),
        "val.csv, line 8: expected a path and a class, one is empty",
    ),
    "csv twice": (broken_csv(lambda t: t + FIRST), "val.csv, line 8: .* is listed already in line 2; remove one"),
    "csv missing file": (
        broken_csv(lambda t: t + "gone.jpg,n1\n"),
        "val.csv: 1 of its 7 images are not in .*images: gone.jpg",
    ),
    "csv up and out": (broken_csv(lambda t: t + "../../x.jpg,n1\n"), "val.csv, line 8: '../../x.jpg' leaves .*images"),
    "csv absolute": (broken_csv(lambda t: t + "/etc/hostname,n1\n"), "/etc/hostname: lies or links outside"),
    "csv not text": (
        lambda root: write_mini_csv(root, "val", 1).write_bytes(b"filename,label\n\xff,1"),
        "val.csv: not a readable CSV table in UTF-8",
    ),
    "truncated jpeg": (truncated_jpeg, r"1 of 6 images cannot be read: images/n0155899300000000.jpg \(.*truncated"),
    "link out of root": (linked_out, "n0155899300000000.jpg: lies or links outside .*, which is not followed"),
    "hdf5 missing class": (labels_json(json.dumps(["n0", *WNIDS])), r"only in one of them: \['n0'\]"),
    "hdf5 class twice": (labels_json(json.dumps([WNIDS[0]] * 2)), "val_labels.json: expected every class once"),
    "hdf5 labels no json": (labels_json("[1"), "val_labels.json: expected a JSON list of class names"),
    "hdf5 labels deep": (labels_json("[" * 10**5), "val_labels.json: expected a JSON list of class names"),
    "hdf5 labels no strings": (labels_json("[1]"), "val_labels.json: expected a list of strings, got list of 1"),
    "hdf5 no group": (
        broken_hdf5(lambda f: f.move("datasets", "x")),
        "val_data.hdf5: expected 'datasets' in the file itself",
    ),
    "hdf5 soft link": (
        replace_class(lambda g: g.__setitem__(WNIDS[0], h5py.SoftLink(f"/datasets/{WNIDS[1]}"))),
        "expected 'n01532829' in the file itself, it is missing or a link",
    ),
    "hdf5 external link": (
        replace_class(lambda g: g.__setitem__(WNIDS[0], h5py.ExternalLink("secret.hdf5", f"datasets/{WNIDS[0]}"))),
        "expected 'n01532829' in the file itself, it is missing or a link",
    ),
    "hdf5 external data": (replace_class(external_raw), "class 'n01532829': keeps its images in another file"),
    "hdf5 virtual data": (replace_class(virtual), "class 'n01532829': keeps its images in another file"),
    "hdf5 group for class": (replace_class(lambda g: g.create_group(WNIDS[0])), "to be a Dataset, got a Group"),
    "hdf5 wrong dtype": (replace_class(lambda g: g.create_dataset(WNIDS[0], data=[1.0])), r"got float64 \[1\]"),
    "hdf5 nothing": (replace_class(lambda g: g.create_dataset(WNIDS[0], data=h5py.Empty("u1"))), "got nothing"),
    "hdf5 empty class": (
        replace_class(lambda g: g.create_dataset(WNIDS[0], data=EMPTY)),
        "'n01532829': .* class is empty",
    ),
    "hdf5 rows without data": (
        replace_class(lambda g: g.create_dataset(WNIDS[0], (10**6, 84, 84, 3), "u1", chunks=(1, 84, 84, 3))),
        "promises 1000000 images but does not hold them",
    ),
    "hdf5 rows without data, contiguous": (
        replace_class(lambda g: g.create_dataset(WNIDS[0], (10**6, 84, 84, 3), "u1")),
        "promises 1000000 images but does not hold them",
    ),
    "hdf5 bomb": (
        replace_class(
            lambda g: g.create_dataset(
                WNIDS[0], data=np.zeros((3 * 10**6, 1, 1, 3), "u1"), chunks=(10**6, 1, 1, 3), compression="gzip"
            )
        ),
        r"expected at most 2000000 images with sides of 1 to 1024 pixels, got \[3000000, 1, 1, 3\]",
    ),
    "hdf5 giant chunks": (
        replace_class(
            lambda g: g.create_dataset(WNIDS[0], (2, 9, 9, 3), "u1", chunks=(2**24, 9, 9, 3), maxshape=(None, 9, 9, 3))
        ),
        "stored in chunks of .*, more than 268435456 bytes each",
    ),
    "empty class folder": (
        empty_class,
        "val/n09999999: class 'n09999999' is empty, expected images directly in its folder",
    ),
    "no class folder": (lambda root: (root / "val").mkdir(), "val: expected a folder for each class with images in it"),
    "pickle is a link out": (
        lambda root: (root / "mini-imagenet-cache-val.pkl").symlink_to(write("pickle", root.parent)),
        "mini-imagenet-cache-val.pkl: lies or links outside",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_sets(root: Path, name: str, own_cache: Path) -> None:
    damage, reason = BROKEN[name]
    damage(root)
    with pytest.raises(DataError, match=reason) as error:
        load(root)
    assert len(str(error.value)) < 800
    assert not list(own_cache.glob("*/pixels.npy"))  # nothing is left that looks like a cache


def test_all_unreadable_images_are_counted_and_a_few_named(root: Path) -> None:
    write_folders(root / "val", {"n1": some_pixels(9, 8)})
    for file in sorted((root / "val" / "n1").iterdir())[1:]:
        file.write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"8 of 9 images cannot be read: val/n1/n1_1\.png \(none of JPEG, .* and 3 more"
    ):
        load(root)


@pytest.mark.parametrize("layout", ["pickle", "images+csv", "cache-pkl", "hdf5", "hdf5, packed", "folders"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_an_error_or_images(root: Path, own_cache: Path, layout: str, data: st.DataObject) -> None:
    shutil.rmtree(root)
    shutil.rmtree(own_cache, ignore_errors=True)
    root.mkdir()
    file = write(layout, root)
    if file.is_dir():
        file = sorted(file.rglob("*.png"))[0]
    damage(file, data)
    with contextlib.suppress(DataError):
        images = load(root)
        assert images.pixels.shape == (len(images), 84, 84, 3)
        assert set(images.labels) == set(range(len(images.class_names)))
