"""Hostile pictures, tables and links."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from labkit.data import load_images
from labkit.episodes.preprocessing import Preprocessing
from labkit.own_images.pictures import square
from tests.helpers.hostile.cases import Build, Read, case
from tests.helpers.real_files import (
    encoded,
    python2_pickle,
    some_pixels,
    write_folders,
    write_mini_csv,
    write_tiered_png,
)

# --- Pictures.


def _picture(content: Callable[[Path], bytes], name: str = "bad.png") -> Build:
    def build(folder: Path, canary: Path) -> Read:
        write_folders(folder, {"a": some_pixels(1, 8)})
        (folder / "a" / name).write_bytes(content(canary))
        return lambda: load_images("folder", "train", root=folder, size=8, shares=(1, 0, 0), progress=False)

    return build


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of the given size, with more chunks before its pixels."""
    content = b"\x89PNG\r\n\x1a\n"
    pixels = zlib.compress(bytes((1 + width) * height), 9) if width * height < 10**6 else b""
    first = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    for name, data in (first, *chunks, (b"IDAT", pixels), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return content


def _gif(width: int, height: int) -> bytes:
    """A GIF of one pixel whose frame is larger than it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02L\x01\x00;"


def _tiff(width: int) -> bytes:
    """A TIFF of one row, compressed, whose strip lies beyond its end."""
    tags = ((256, 4, width), (257, 4, 1), (258, 3, 8), (259, 3, 32946), (262, 3, 1), (273, 4, 2**31), (279, 4, 2**31))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8)


_ZEROS = zlib.compress(bytes(3 * 10**8), 9)
_EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch {}) (w) file\nshowpage\n"
for _what, _said, _content, _name in (
    ("PostScript called .jpg, for which Pillow starts Ghostscript", "none of JPEG",
        lambda canary: _EPS.format(canary).encode(), "bad.jpg"),
    ("SVG called .png", "none of JPEG", lambda canary: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "bad.png"),
    ("a PNG of 11 000 x 11 000 pixels in 60 bytes", "more than the 67108864 allowed",
        lambda canary: _png(11_000, 11_000), "bad.png"),
    ("a PNG with a comment of 300 MB, packed", "(?i)too large|too much", lambda canary: _png(
        8, 8, (b"zTXt", b"Comment\0\0" + _ZEROS)), "bad.png"),
    ("a GIF whose frame is larger than its screen", "(?i)decompression bomb|pixels, more than",
        lambda canary: _gif(65_535, 65_535), "bad.gif"),
    ("a TIFF whose pixels lie beyond its end", r"bad\.tif \(", lambda canary: _tiff(1000), "bad.tif"),
):  # fmt: skip
    case(f"picture: {_what}", _name, _said)(_picture(_content, _name))


@case("picture: a pipe, which would be waited for", "pipe.png", "not a file")
def _(folder: Path, canary: Path) -> Read:
    os.mkfifo(folder / "pipe.png")

    def read() -> None:
        try:
            square(folder / "pipe.png", Preprocessing(8, None))
        except ValueError as error:  # whoever reads several pictures says which, see `labkit.own_images.pictures.read`
            raise ValueError(f"pipe.png: {error}") from None

    return read


@case("picture: PNG bombs inside a pickle", "train_images_png.pkl", "more than the 67108864 allowed")
def _(folder: Path, canary: Path) -> Read:
    images, _ = write_tiered_png(folder, "train", some_pixels(6))
    images.write_bytes(python2_pickle([_png(60_000, 1200)] * 6, 2))
    return lambda: load_images("tieredimagenet", "train", root=folder, check_counts=False, progress=False)


# --- Paths.


def _csv(row: Callable[[Path], str], setup: Callable[[Path], object] = lambda folder: None) -> Build:
    """miniImageNet's table of images, with a hostile row."""

    def build(folder: Path, canary: Path) -> Read:
        (folder.parent / "secret.jpg").write_bytes(encoded(some_pixels(1)[0], "JPEG"))
        table = write_mini_csv(folder, "val", per_class=2)
        setup(folder)
        with table.open("a") as file:
            file.write(row(folder))
        return lambda: load_images("miniimagenet", "val", root=folder, check_counts=False, progress=False)

    return build


def _linked_folder(folder: Path) -> None:
    (folder / "images" / "in").symlink_to(folder.parent, target_is_directory=True)


for _what, _named, _said, _row, _setup in (
    ("up with ..", "val.csv", "leaves", lambda f: "../../secret.jpg,x\n", lambda f: None),
    ("up with ..\\", "val.csv", "leaves", lambda f: "..\\..\\secret.jpg,x\n", lambda f: None),
    ("an absolute path", "secret.jpg", "lies or links outside", lambda f: f"{f.parent}/secret.jpg,x\n", lambda f: None),
    (
        "through a linked folder",
        "in/secret.jpg",
        "lies or links outside",
        lambda f: "in/secret.jpg,x\n",
        _linked_folder,
    ),
    (
        "a pipe",
        "val.csv",
        "1 of its 7 images are not in",
        lambda f: "p.jpg,x\n",
        lambda f: os.mkfifo(f / "images/p.jpg"),
    ),
    ("a zero byte", "val.csv", "not in|not a readable", lambda f: "a\0.jpg,x\n", lambda f: None),
    ("a name of 100 000 letters", "val.csv", "not in|not a readable", lambda f: "a" * 10**5 + ",x\n", lambda f: None),
    ("a line of 30 MB", "val.csv", "field larger than field limit", lambda f: "a" * 3 * 10**7 + ",x\n", lambda f: None),
):
    case(f"CSV: {_what}", _named, _said)(_csv(_row, _setup))


@case("CSV: the table itself a pipe", "pipe.csv", "no such file")
def _(folder: Path, canary: Path) -> Read:
    os.mkfifo(folder / "pipe.csv")
    return lambda: load_images("folder", "train", root=folder, csv="pipe.csv", progress=False)


def _link(name: str, target: Callable[[Path], Path]) -> Build:
    def build(folder: Path, canary: Path) -> Read:
        write_folders(folder, {"a": some_pixels(2, 8)})
        write_folders(folder.parent / "outside", {"b": some_pixels(1, 8)})
        (folder / name).symlink_to(target(folder))
        return lambda: load_images("folder", "train", root=folder, shares=(1, 0, 0), progress=False)

    return build


for _what, _name, _said, _target in (
    ("out of the folder", "a/out.png", "lies or links outside", lambda f: f.parent / "outside" / "b" / "b_0.png"),
    ("a class folder out of the folder", "b", "lies or links outside", lambda f: f.parent / "outside" / "b"),
    ("in a circle", "a/loop.png", "cannot be opened", lambda f: f / "a" / "loop.png"),
    ("to a device without end", "a/zero.png", "lies or links outside", lambda f: Path("/dev/zero")),
):
    case(f"link: {_what}", _name, _said)(_link(_name, _target))
