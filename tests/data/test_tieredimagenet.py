"""tieredImageNet: every layout gives the pictures that were put in, and every damaged file one clear error."""

from __future__ import annotations

import contextlib
import pickle
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.common.errors import DataError
from labkit.data.imageset import ImageSet
from labkit.data.real import load_real
from tests.helpers.real_files import (
    damage,
    encoded,
    python2_pickle,
    some_pixels,
    write_folders,
    write_tiered_hdf5,
    write_tiered_npz,
    write_tiered_png,
)

PIXELS = some_pixels(6)
LABELS = [0, 1, 2, 0, 1, 2]


def load(root: Path, split: str = "train", **options: Any) -> ImageSet:
    return load_real("tieredimagenet", split, root, **{"check_counts": False, "progress": False, **options})


@pytest.mark.parametrize("protocol", [0, 2])
def test_png_pickles(root: Path, protocol: int) -> None:
    write_tiered_png(root, "train", PIXELS, protocol)
    images = load(root)
    assert np.array_equal(images.pixels, PIXELS)
    assert images.labels.tolist() == LABELS
    assert images.class_names == ("limpkin", "otterhound", "barracouta")
    assert images.categories == ("aquatic bird, fish", "working dog", "aquatic bird, fish")
    assert images.provenance.layout == "png-pkl"


def test_a_category_without_a_name_goes_by_its_number(root: Path) -> None:
    write_tiered_png(root, "train", PIXELS, label_general_str=["working dog"])
    assert load(root).categories == ("1", "working dog", "1")


def test_pngs_may_be_of_other_sizes(root: Path) -> None:
    images_file, _ = write_tiered_png(root, "train", PIXELS)
    pngs = [encoded(image) for image in PIXELS[:5]] + [encoded(some_pixels(1, 100)[0])]
    images_file.write_bytes(pickle.dumps(pngs))
    images = load(root)
    assert (images.provenance.source_size, images.provenance.resampling) == ("84x84 .. 100x100", "bilinear")
    assert np.array_equal(images.pixels[:5], PIXELS[:5])


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_npz_is_read_in_the_channel_order_that_is_given(root: Path, order: str) -> None:
    write_tiered_npz(root, "test", PIXELS if order == "rgb" else PIXELS[..., ::-1], [30, 1, 200, 30, 1, 200])
    images = load(root, "test", channel_order=order)
    assert np.array_equal(images.pixels, PIXELS)
    assert images.class_names == ("1", "30", "200")
    assert images.labels.tolist() == [1, 0, 2, 1, 0, 2]
    assert images.categories is None
    assert images.provenance.details["channel_order"] == order


def test_npz_needs_a_channel_order(root: Path) -> None:
    write_tiered_npz(root, "train", PIXELS, LABELS)
    with pytest.raises(
        DataError, match=r'train_images.npz: copies .* differ in the order .* channel_order="rgb" or "bgr"'
    ):
        load(root)


def test_labels_without_names_in_the_png_layout(root: Path) -> None:
    _, labels = write_tiered_png(root, "train", PIXELS)
    for written in ({"labels": [30, 1, 200] * 2}, {"labels": np.array([30, 1, 200] * 2)}, [30, 1, 200] * 2):
        labels.write_bytes(pickle.dumps(written))
        images = load(root)
        assert (images.class_names, images.categories) == (("1", "30", "200"), None)
        assert images.labels.tolist() == [1, 0, 2] * 2
        assert np.array_equal(images.pixels, PIXELS)


@pytest.mark.parametrize("key", ["labels", "label_specific"])
def test_labels_that_are_names(root: Path, key: str) -> None:
    names = ["n02", "n01", "n03"] * 2
    _, labels = write_tiered_png(root, "train", PIXELS)
    for written in (names, np.array(names), np.array(names, dtype="S")):
        labels.write_bytes(pickle.dumps({key: written, "label_general": ["cat", "dog", "cat"] * 2}))
        images = load(root)
        assert images.class_names == ("n01", "n02", "n03")
        assert images.categories == ("dog", "cat", "cat")
        assert images.labels.tolist() == [1, 0, 2] * 2
    _, labels = write_tiered_npz(root, "test", PIXELS, [])
    labels.write_bytes(python2_pickle({"labels": names}, 2))
    assert load(root, "test", channel_order="rgb").class_names == ("n01", "n02", "n03")


def test_torchmetas_hdf5(root: Path) -> None:
    classes = {"owl": PIXELS[:2], "cat, a small one": PIXELS[2:]}
    write_tiered_hdf5(root, "val", classes, {"owl": "bird", "cat, a small one": ""})
    images = load(root, "val")
    assert images.class_names == ("cat, a small one", "owl")
    assert images.categories == ("unnamed", "bird")
    assert images.labels.tolist() == [0] * 4 + [1] * 2
    assert np.array_equal(images.pixels, PIXELS[[2, 3, 4, 5, 0, 1]])
    assert images.provenance.layout == "hdf5"


def test_a_picture_that_many_rows_of_an_hdf5_share_is_not_copied_without_end(root: Path) -> None:
    file, _ = write_tiered_hdf5(root, "val", {"owl": PIXELS[:1]}, {})
    with h5py.File(file, "r+") as whole:
        picture = whole["datasets"]["owl"][0]
        del whole["datasets"]["owl"]
        rows = whole["datasets"].create_dataset("owl", (50,), dtype=h5py.vlen_dtype(np.uint8))
        rows[0] = picture
        whole.flush()
        offset = rows.id.get_offset()
    content = bytearray(file.read_bytes())
    content[offset : offset + 50 * 16] = content[offset : offset + 16] * 50
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"val_data\.hdf5: promises more bytes of pictures than it holds"):
        load(root, "val")


OTHER_NAMES = (("val", "validation"), ("val", "valid"), ("train", "meta_train"), ("test", "novel"))


@pytest.mark.parametrize(("split", "name"), OTHER_NAMES)
def test_other_names_of_the_splits(root: Path, split: str, name: str) -> None:
    write_folders(root / name, {"n1": PIXELS[:2]})
    assert len(load(root, split)) == 2
    shutil.rmtree(root / name)
    write_tiered_png(root, name, PIXELS)
    assert len(load(root, split)) == 6


def test_folders(root: Path) -> None:
    write_folders(root / "train", {"n02": PIXELS[:2], "n01": PIXELS[2:]}, suffix=".PNG")
    images = load(root)
    assert images.class_names == ("n01", "n02")
    assert np.array_equal(images.pixels, PIXELS[[2, 3, 4, 5, 0, 1]])


def test_class_count_and_several_layouts(root: Path) -> None:
    write_tiered_png(root, "test", PIXELS)
    with pytest.raises(DataError, match=r"tieredimagenet test \(png-pkl\) has 3 classes, expected 160"):
        load(root, "test", check_counts=True)
    with pytest.raises(
        DataError, match=r"looked for png-pkl: val_images_png.pkl \+ val_labels.pkl; npz: val_images.npz"
    ):
        load(root, "val")
    write_folders(root / "test", {"n1": PIXELS})
    with pytest.raises(DataError, match=r"several layouts .* pass layout= .*\(png-pkl: .*; folders: test\)"):
        load(root, "test")


def broken_png(**changed: Any) -> Callable[[Path], object]:
    return lambda root: write_tiered_png(root, "train", PIXELS, **changed)


def pictures(value: Any) -> Callable[[Path], object]:
    return lambda root: write_tiered_png(root, "train", PIXELS)[0].write_bytes(python2_pickle(value, 2))


def npz(write: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: write(write_tiered_npz(root, "train", PIXELS, LABELS)[0])


def npz_header(
    shape: tuple[int, ...], descr: str = "|u1", fortran: bool = False, body: int = 0
) -> Callable[[Path], object]:
    """An .npz whose header is free to lie; `body` zeros, which pack a thousandfold."""

    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
            header = {"descr": descr, "fortran_order": fortran, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(body // 10**6):
                member.write(bytes(10**6))

    return npz(write)


def flip_a_pixel(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "images missing": (pictures([]), "train_labels.pkl: .* found 0 images, 6 classes, 6 categories"),
    "labels too few": (broken_png(label_specific=np.arange(3)), "found 6 images, 3 classes, 6 categories"),
    "categories too few": (broken_png(label_general=np.arange(3)), "found 6 images, 6 classes, 3 categories"),
    "no list": (pictures({"a": 1}), "train_images_png.pkl: expected a list of PNG byte arrays, got dict of 1"),
    "no bytes": (pictures([1] * 6), "train_images_png.pkl: expected a list of PNG byte arrays, got list of 6"),
    "no png": (
        pictures([b"GIF"] * 6),
        r"6 of 6 images cannot be read: train_images_png\.pkl, image 0 \(none of JPEG",
    ),
    "EPS": (pictures([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"] * 6), "none of JPEG, PNG"),
    "PNG bomb": (
        pictures([encoded(np.zeros((9000, 9000, 3), np.uint8))] * 6),
        "9000 x 9000 pixels, more than the 67108864",
    ),
    "class without a name": (
        broken_png(label_specific_str=["a", "b"]),
        "2 names in 'label_specific_str' but classes from 0 to 2",
    ),
    "one name for two": (broken_png(label_specific_str=["a", "b", "a"]), "'label_specific_str' repeats some"),
    "names no strings": (broken_png(label_specific_str=[1, 2, 3]), "'label_specific_str': expected a list of strings"),
    "class in two categories": (
        broken_png(label_general=np.arange(6) // 3),
        r"'limpkin': expected one category, got \[0, 1\]",
    ),
    "key missing": (
        lambda root: write_tiered_png(root, "train", PIXELS)[1].write_bytes(python2_pickle({"y": [1]}, 0)),
        "train_labels.pkl: expected 'label_specific' in its dictionary, it has y",
    ),
    "npz unequal": (
        lambda root: write_tiered_npz(root, "train", PIXELS, [1] * 5),
        "npz and .*: .* found 6 images, 5 labels",
    ),
    "npz without images": (
        npz(lambda file: np.savez(file, x=PIXELS)),
        "train_images.npz: truncated, or no .npz with 'images'",
    ),
    "npz no zip": (npz(lambda file: file.write_bytes(b"x")), "train_images.npz: truncated, or no .npz with 'images'"),
    "npz of a pickle": (npz(lambda file: np.savez(file, images=np.array([{}]))), r"'images': .* got object \[1\]"),
    "npz dtype": (npz(lambda file: np.savez(file, images=PIXELS / 1)), r"'images': .* got float64 \[6, 84, 84, 3\]"),
    "npz Fortran": (npz_header((6, 84, 84, 3), fortran=True), "expected 'images' in C order"),
    "npz flipped": (npz(flip_a_pixel), "train_images.npz: truncated, .*CRC"),
    "npz rows without data": (npz_header((10**8, 84, 84, 3)), "expected at most 2000000 images"),
    "npz of other length": (npz_header((10**6, 84, 84, 3)), "found 1000000 images, 6 labels"),
    "npz too short": (npz_header((6, 84, 84, 3)), "train_images.npz: truncated"),
    "npz giant images": (npz_header((6, 10**5, 10**5, 3)), "sides of 1 to 1024 pixels, got"),
    "npz bomb": (npz_header((6, 84, 84, 3), body=3 * 10**8), "'images' goes on after its 6 images"),
    "npz header of code": (npz_header((6, 84, 84, 3), descr="exit()"), "train_images.npz: truncated"),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_sets(root: Path, name: str, own_cache: Path) -> None:
    damage, reason = BROKEN[name]
    damage(root)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=reason) as error:
        load(root, channel_order="rgb")
    assert len(str(error.value)) < 800
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # kB
    assert not list(own_cache.glob("*/pixels.npy"))


@pytest.mark.integration
@pytest.mark.parametrize("layout", ["png images", "png labels", "npz images", "npz labels"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_an_error_or_images(root: Path, own_cache: Path, layout: str, data: st.DataObject) -> None:
    shutil.rmtree(own_cache, ignore_errors=True)
    if layout.startswith("png"):
        files = write_tiered_png(root, "train", some_pixels(6, 20), protocol=data.draw(st.sampled_from([0, 2])))
    else:
        files = write_tiered_npz(root, "train", some_pixels(6, 20), LABELS)
    file = files[layout.endswith("labels")]
    damage(file, data)
    with contextlib.suppress(DataError):
        images = load(root, size=20, channel_order="rgb")
        assert images.pixels.shape == (6, 20, 20, 3)
        assert set(images.labels) == set(range(len(images.class_names)))
        if layout == "npz images":  # a zip file knows its checksum
            assert np.array_equal(images.pixels, some_pixels(6, 20))
