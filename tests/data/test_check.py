"""What lies in a folder, whether it is whole, and whether it is the copy that the numbers come from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labkit
from labkit.__main__ import main
from labkit.common.errors import DataError
from labkit.data import check, prints, tinyimagenet
from labkit.data.check import CheckedData, check_data
from labkit.data.miniimagenet import read_csv
from labkit.data.prints import digest_of_rows, print_of
from tests.helpers.cifar_files import write_cifar, write_cifar_folders
from tests.helpers.real_files import (
    WNIDS,
    by_class,
    some_pixels,
    write_folders,
    write_mini_cache,
    write_mini_csv,
    write_tiered_png,
)
from tests.helpers.tiny_files import write_tiny

SPLITS = ("train", "val", "test")


def the(root: Path) -> CheckedData:
    (found,) = check_data(root)
    return found


@pytest.fixture
def small(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small miniImageNet of JPEG files, as if the lab's numbers came from it."""
    for split in SPLITS:
        write_mini_csv(root, split, per_class=2, folder="")
    found = {split: print_of(read_csv(root, root / "images", root / f"{split}.csv"), decoded=True) for split in SPLITS}
    known: dict[str, Any] = {"digest": digest_of_rows(found.values())}
    known["splits"] = {split: each.classes for split, each in found.items()}
    for module in (check, prints):
        monkeypatch.setattr(module, "reference", lambda: known)
    monkeypatch.setitem(check.CLASS_COUNTS, "miniimagenet", dict.fromkeys(SPLITS, 3))
    monkeypatch.setitem(check.IMAGE_COUNTS, "miniimagenet", dict.fromkeys(SPLITS, 6))
    return root


def test_the_very_copy(small: Path, tmp_path: Path) -> None:
    found = the(small)
    assert (found.dataset, found.layout) == ("miniimagenet", "images+csv")
    assert found.is_reference
    assert found.is_whole
    assert found.differences == ()
    assert [(split.split, split.images, split.per_class) for split in found.splits] == [
        (name, 6, dict.fromkeys(WNIDS, 2)) for name in SPLITS
    ]
    assert "train       6 pictures of 3 classes, 2 a class, 84x84 px" in str(found)
    assert str(found).endswith("the copy that the lab's numbers come from")
    shutil.copytree(small, tmp_path / "copied")  # other times, and another order of the rows
    table = tmp_path / "copied" / "val.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *reversed(rows)]))
    assert the(tmp_path / "copied").is_reference


def test_the_same_files_in_class_folders(small: Path, tmp_path: Path) -> None:
    for split in SPLITS:
        for line in (small / f"{split}.csv").read_text().splitlines()[1:]:
            name, wnid = line.split(",")
            (tmp_path / "other" / split / wnid).mkdir(parents=True, exist_ok=True)
            shutil.copy(small / "images" / name, tmp_path / "other" / split / wnid / name)
    assert (the(tmp_path / "other").layout, the(tmp_path / "other").is_reference) == ("folders", True)


def test_in_what_another_copy_differs(small: Path) -> None:
    first, second = sorted((small / "images").glob(f"{WNIDS[0]}*"))
    second.write_bytes(second.read_bytes() + b"\0")
    found = the(small)
    assert not found.is_reference
    assert "files of the same names hold other bytes in 1 classes" in str(found)
    first.rename(first.with_name("renamed.jpg"))
    for split in SPLITS:
        table = small / f"{split}.csv"
        table.write_text(table.read_text().replace(first.name, "renamed.jpg"))
    assert f"train: files have other names in 1 classes: {WNIDS[0]}" in the(small).differences
    table = small / "val.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-2]))
    assert f"val: lacks 1 classes: {WNIDS[2]}" in the(small).differences
    assert "val: expected 6 pictures of 3 classes, found 4 of 2" in the(small).differences
    table.unlink()
    found = the(small)
    assert "the val split is not there" in found.differences
    assert not found.is_whole


def test_a_copy_of_pixels_is_compared_by_its_colours(root: Path, small: Path, tmp_path: Path) -> None:
    pixels = {wnid: some_pixels(2, 84, seed=c) for c, wnid in enumerate(WNIDS)}
    other = tmp_path / "other"
    other.mkdir()
    for split, shift in (("train", 0), ("val", 0), ("test", 9)):
        whole = [image // 2 + 60 + shift if shift else image for images in pixels.values() for image in images]
        write_mini_cache(
            other, split, np.stack(whole).astype(np.uint8), {w: [2 * i, 2 * i + 1] for i, w in enumerate(WNIDS)}
        )
    found = the(other)
    assert not found.is_reference
    (difference,) = found.differences
    assert difference.startswith("test: mean colours differ by more than 1 of 255, other photographs, in 3")


def test_other_data_sets(root: Path, tmp_path: Path) -> None:
    write_cifar(root)
    found = the(root)
    assert (found.dataset, found.is_reference, found.is_whole) == ("cifar-fs", None, True)
    assert "train is not the file that was published, by its MD5" in found.differences
    assert "train: expected 38400 pictures of 64 classes, found 192 of 64" in found.differences
    write_cifar_folders(tmp_path / "files")
    assert (the(tmp_path / "files").dataset, the(tmp_path / "files").layout) == ("cifar-fs", "folders")
    assert [split.images for split in the(tmp_path / "files").splits] == [192, 48, 60]
    for split in SPLITS:
        write_tiered_png(root, split, some_pixels(6, 20))
    names = {each.dataset: each for each in check_data(root)}
    assert set(names) == {"cifar-fs", "tieredimagenet"}
    assert names["tieredimagenet"].splits[0].sizes == {(20, 20): 6}
    own = write_folders(tmp_path / "own", by_class(some_pixels(6, 20)))
    (own / "__MACOSX").mkdir()
    assert (the(own).dataset, the(own).layout, the(own).is_whole) == ("folder", "folders", True)
    assert "__MACOSX" in str(the(own))
    for split in SPLITS:
        write_folders(tmp_path / "split" / split, by_class(some_pixels(6, 20)))
    assert (the(tmp_path / "split").layout, len(the(tmp_path / "split").splits)) == ("split folders", 3)


def test_tiny_imagenet(root: Path) -> None:
    write_tiny(root, [*tinyimagenet.novel_classes()[:4], "n04146614"])
    found = the(root)
    assert (found.dataset, found.is_reference, found.is_whole) == ("tinyimagenet", False, True)
    assert found.differences == ("test: expected 87000 pictures of 174 classes, found 8 of 4",)
    for file in (root / "train" / tinyimagenet.novel_classes()[0] / "images").iterdir():
        file.unlink()
    assert not the(root).is_whole
    assert "there are none; unpack the archive anew" in str(the(root))


def test_what_cannot_be_read_is_said(root: Path, small: Path) -> None:
    (small / "val.csv").write_text('filename,label\nx.jpg,"a\n')
    (small / "images" / f"{WNIDS[0]}00000000.jpg").write_bytes(b"")
    found = the(small)
    assert not found.is_whole
    assert "val.csv, line 2: a double quote opens and is not closed" in str(found)
    assert "1 pictures cannot be opened" in str(found)


def test_a_picture_that_is_cut_short_cannot_be_opened(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", by_class(some_pixels(6, 40)))
    file = next(path for path in sorted(own.rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert not the(own).is_whole
    assert "1 pictures cannot be opened" in str(the(own))


def test_a_data_set_is_known_by_all_of_its_splits(root: Path, small: Path, tmp_path: Path) -> None:
    for split, classes in zip(SPLITS, (2, 2, 3), strict=True):  # as FC100 has 20 test classes, too
        names = WNIDS[:classes]
        write_folders(tmp_path / "other" / split, {name: list(some_pixels(2, 20)) for name in names})
    assert {each.dataset for each in check_data(tmp_path / "other")} == {"folder"}
    write_folders(tmp_path / "other" / "val", {WNIDS[2]: list(some_pixels(2, 20))})
    (found,) = check_data(tmp_path / "other")  # a copy of which one split is incomplete
    assert found.dataset == "miniimagenet"
    assert any("train: expected 6 pictures of 3 classes, found 4 of 2" in said for said in found.differences)


def test_the_command(small: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", str(small)]) == 0
    assert "the copy that the lab's numbers come from" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["check-data", str(tmp_path / "empty")]) == 1
    assert "no known data set; expected one of the layouts" in capsys.readouterr().err
    with pytest.raises(DataError, match="there is none"):
        labkit.check_data(tmp_path / "nowhere")


def test_a_folder_above_the_data_set_names_it(small: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    small.rename(tmp_path / "above" / "mini")
    with pytest.raises(DataError, match=r"no data set in this folder itself, but in .*above/mini; give that"):
        labkit.check_data(tmp_path / "above")


def test_the_record_of_the_real_copy() -> None:
    known = prints.reference()
    assert known["digest"] == "18fb40f37b1bdb06a11afc76d666b7bd74c82c26f734c7f5913f263752c3d429"
    assert {split: len(classes) for split, classes in known["splits"].items()} == {"train": 64, "val": 16, "test": 20}
    classes = [each for split in known["splits"].values() for each in split.values()]
    assert all(each.images == 600 and each.colour and max(each.colour) < 255 for each in classes)
