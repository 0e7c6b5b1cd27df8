"""What lies among pictures and is not read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.common.errors import DataError
from tests.helpers.real_files import encoded, load_all, some_pixels, write_folders


def test_pictures_that_are_not_read_are_named(root: Path) -> None:
    write_folders(root, {"a": some_pixels(2, 8), "b": some_pixels(1, 8)})
    (root / "a" / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "a" / "no suffix").write_bytes(encoded(some_pixels(1, 8)[0], "JPEG"))
    (root / "a" / "odd.dat").write_bytes(b"\0\0\0\x1cftypavif")
    (root / "a" / "notes.txt").write_text("BMW and P5 are no pictures")
    (root / "a" / "more").mkdir()
    (root / "a" / "more" / "x.png").write_bytes(b"")
    (root / "beside.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="left out") as warned:
        assert len(load_all(root)) == 3
    (said,) = (str(each.message) for each in warned)
    for part in (
        "5 that may be pictures",
        "phone.HEIC (HEIC",
        "no suffix (JPEG",
        "odd.dat (AVIF",
        "a/more/",
        "beside.png",
    ):
        assert part in said
    assert "notes" not in said


def test_links_are_named_like_what_they_lead_to(root: Path, tmp_path: Path) -> None:
    write_folders(root, {"a": some_pixels(1, 8), "b": some_pixels(1, 8)})
    outside = write_folders(tmp_path / "outside", {"more": some_pixels(1, 8)})
    (root / "b" / "folder.png").mkdir()
    (root / "b" / "folder.png" / "x.png").write_bytes(b"")
    links = {"folder": "../b", "sub.png": "../b/folder.png", "bare": "../b/b_0.png", "far": outside / "more"}
    nothing = {"loop": "loop", "gone": "nowhere", "secret": outside / "more" / "more_0.png"}
    for name, target in (links | nothing).items():
        (root / "a" / name).symlink_to(target)
    with pytest.warns(UserWarning, match="left out 5 that may be pictures") as warned:
        assert len(load_all(root)) == 2
    (said,) = (str(each.message) for each in warned)
    for part in ("a/folder/ (a folder inside", "a/sub.png/ (a folder", "a/bare (PNG", "a/far/ (a link to a folder out"):
        assert part in said


def test_pictures_beside_the_class_folders_are_named_whatever_they_are_called(root: Path) -> None:
    write_folders(root, {"a": some_pixels(1, 8), "b": some_pixels(1, 8)})
    (root / "beside.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "beside").write_bytes(encoded(some_pixels(1, 8)[0], "JPEG"))
    (root / "notes.txt").write_text("no picture")
    with pytest.warns(UserWarning, match=r"left out 2 that .* beside \(beside the .*, beside\.heic \(beside the class"):
        assert len(load_all(root)) == 2


def test_a_class_of_nothing_but_other_pictures_says_what_it_holds(root: Path) -> None:
    write_folders(root, {"a": some_pixels(2, 8)})
    (root / "b").mkdir()
    (root / "b" / "x.avif").write_bytes(b"")
    with pytest.raises(DataError, match=r"class 'b' is empty, .* found b/x\.avif \(AVIF, a format that is not read\)"):
        load_all(root)


LITTER = ("__MACOSX", "lost+found", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN", "System Volume Information")


def test_litter_is_left_out_and_named(root: Path) -> None:
    write_folders(root, {"a": some_pixels(1, 8), "b": some_pixels(1, 8)})
    for name in LITTER:
        for folder in (root, root / "a"):
            write_folders(folder / name, {"a": some_pixels(1, 8)})
            (folder / name / "a.png").write_bytes(b"x")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png"):
        (root / "a" / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out") as warned:
        images = load_all(root)
    assert images.class_names == ("a", "b")
    assert len(images) == 2
    (said,) = (str(each.message) for each in warned)
    for name in (*LITTER, ".DS_Store", "Thumbs.db", "desktop.ini", "._*"):
        assert name in said
