"""CIFAR-FS out of CIFAR-100's files, as torchvision keeps them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision
from torchvision.datasets import CIFAR100

from labkit.__main__ import main
from labkit.common.errors import DataError
from labkit.data import cifar_fs, load_images
from labkit.data.cifar_fs import CLASSES, load_cifar_fs
from tests.helpers.cifar_files import CIFAR_NAMES, write_cifar, write_cifar_folders
from tests.helpers.real_files import python2_pickle, some_pixels


def test_each_class_of_cifar_100_is_in_one_split() -> None:
    assert {split: len(names) for split, names in CLASSES.items()} == {"train": 64, "val": 16, "test": 20}
    assert sorted(name for names in CLASSES.values() for name in names) == CIFAR_NAMES


def test_the_splits_of_files_in_torchvisions_format(root: Path) -> None:
    pixels = write_cifar(root)
    for split, names in CLASSES.items():
        images = load_images("cifar-fs", split, root=root, progress=False)
        assert images.class_names == tuple(names)
        assert (images.size, len(images)) == (32, 3 * len(names))
        for name, of_class in zip(names, images.class_indices, strict=True):
            number = CIFAR_NAMES.index(name)
            # Row i of a file is of class i modulo 100: two rows of the training file, then one of the test file.
            expected = pixels[[number, 100 + number, 200 + number]]
            assert np.array_equal(images.pixels[of_class], expected)
        assert (images.provenance.dataset, images.provenance.layout) == ("cifar-fs", "cifar-100-python")


def test_a_split_is_the_same_whatever_the_order_of_rows_and_from_picture_files(root: Path) -> None:
    write_cifar(root / "pickles")
    write_cifar(root / "shuffled", order=1)
    write_cifar_folders(root / "files")
    for split in CLASSES:
        ours, shuffled, files = (
            load_images("cifar-fs", split, root=root / name, progress=False)
            for name in ("pickles", "shuffled", "files")
        )
        assert ours.provenance.digest == shuffled.provenance.digest == files.provenance.digest
        assert ours.labels_digest == shuffled.labels_digest == files.labels_digest
        assert files.provenance.layout == "folders"


def test_folders_of_other_classes_are_not_cifar_100(root: Path) -> None:
    write_cifar_folders(root)
    (root / "train" / "unicorn").mkdir()
    with pytest.raises(DataError, match=r"or train/ and test/ with a folder for each class"):
        load_images("cifar-fs", "val", root=root)


def test_torchvision_reads_the_same_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar(root)
    monkeypatch.setattr(CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    theirs = CIFAR100(str(root), train=True)
    assert theirs.classes == CIFAR_NAMES
    assert np.array_equal(theirs.data, pixels[:200])


def test_the_folder_itself_and_another_size(root: Path) -> None:
    write_cifar(root)
    images = load_cifar_fs("val", root / "cifar-100-python", size=np.int64(16), progress=False)
    assert images.pixels.shape == (48, 16, 16, 3)
    assert images.provenance.source_size == "32x32"


def test_nothing_is_fetched_unless_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str, folder: Path, filename: str, md5: str) -> None:
        asked.append((url, filename, md5))
        write_cifar(folder)

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
    monkeypatch.setattr(cifar_fs, "not_as_published", lambda _: [])
    with pytest.raises(DataError, match=r"expected cifar-100-python/ with train, test, meta .* pass download=True"):
        load_images("cifar-fs", "val", root=root)
    assert asked == []
    for _ in range(2):  # and not again where it is there
        assert len(load_images("cifar-fs", "val", root=root, download=True, progress=False)) == 48
    assert asked == [(CIFAR100.url, CIFAR100.filename, CIFAR100.tgz_md5)]
    assert main(["check-data", str(root / "new"), "--download", "cifar-fs"]) == 0
    assert len(asked) == 2


def test_what_was_cut_short_is_named_and_not_taken_for_a_download(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(root)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", None)  # nothing is overwritten
    with pytest.raises(DataError, match="train, test, meta is not as published, perhaps cut short; delete it to have"):
        load_images("cifar-fs", "val", root=root, download=True)
    assert len(load_images("cifar-fs", "val", root=root, progress=False)) == 48


def test_a_download_that_fails_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
    with pytest.raises(DataError, match=r"CIFAR-100 cannot be fetched from https://.* \(no route to host\)"):
        load_images("cifar-fs", "val", root=root, download=True)


def test_broken_files(root: Path) -> None:
    write_cifar(root)
    file = root / "cifar-100-python" / "train"
    whole = file.read_bytes()
    table = {"data": some_pixels(4, 32).reshape(4, -1), "fine_labels": [0, 1, 2, 3], "filenames": list("abcd")}
    for content, said in (
        (b"cos\nsystem\n(S'x'\ntR.", "train: refused, this pickle asks for os.system"),
        (whole[:1000], "train: truncated or not a pickle"),
        (pickle.dumps({"data": table["data"]}), "train: expected 'fine_labels' in its dictionary, it has data"),
        (pickle.dumps({**table, "fine_labels": [0, 1, 2, 100]}), "train: expected labels from 0 to 99, got 0 to 100"),
        (pickle.dumps({**table, "fine_labels": [0]}), "train: .* found 4 images, 1 labels"),
        (pickle.dumps({**table, "filenames": [1, 2, 3, 4]}), "train, 'filenames': expected a list of strings"),
        (pickle.dumps({**table, "data": some_pixels(4, 32)}), r"train, 'data': expected uint8 \[n, 3072\]"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=said):
            load_images("cifar-fs", "train", root=root, progress=False)
    (root / "cifar-100-python" / "meta").write_bytes(python2_pickle({"fine_label_names": CIFAR_NAMES[:40]}, 2))
    file.write_bytes(python2_pickle(table, 2))
    (root / "cifar-100-python" / "test").write_bytes(file.read_bytes())
    message = r"cifar-fs train \(cifar-100-python\) has 3 classes, expected 64; .*check_counts=False"
    with pytest.raises(DataError, match=message):
        load_images("cifar-fs", "train", root=root, progress=False)
    assert len(load_images("cifar-fs", "train", root=root, progress=False, check_counts=False)) == 6
