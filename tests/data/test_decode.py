"""Pictures: every kind becomes RGB of the asked size, or says what it is."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from labkit.data.decode import MAX_PIXELS, decode, explain, read_rgb
from tests.helpers.real_files import encoded, some_pixels


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


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_grey_of_more_than_8_bits_is_scaled_by_its_range(bits: int, kind: str) -> None:
    ramp = np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16).reshape(16, 16)
    grey = np.asarray(read_rgb(encoded(ramp, kind)))[..., 0].ravel()
    assert np.abs(grey.astype(int) - np.arange(256)).max() <= 1


def test_a_tiff_may_say_its_largest_value() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    content = encoded(np.full((4, 4), 1000, np.uint16), "TIFF", tiffinfo=tags)
    assert np.asarray(read_rgb(content))[0, 0].tolist() == [62, 62, 62]  # 1000 / 4095


def tiff(pixels: np.ndarray[Any, Any], photometric: int, **more: Any) -> bytes:
    """An uncompressed TIFF, one strip, with the entry 262 as given."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"MM" if pixels.dtype.byteorder == ">" else b"II")
    colours = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = (8 * pixels.itemsize,) * colours
    tags = {256: pixels.shape[1], 257: pixels.shape[0], 258: bits, 259: 1, 262: photometric, 277: colours, 278: 4}
    for tag, value in (tags | {279: pixels.nbytes} | {int(name[1:]): value for name, value in more.items()}).items():
        ifd[tag] = value
    ifd[273] = 0  # the pixels lie right behind the table
    big = pixels.dtype.byteorder == ">"
    head = b"MM\0*" + (8).to_bytes(4, "big") if big else b"II*\0" + (8).to_bytes(4, "little")
    return head + ifd.tobytes(8) + pixels.tobytes()


def test_colours_of_12_bits_in_16_are_refused_and_not_black() -> None:
    with pytest.raises(ValueError, match="its 16-bit colours use 12 bits or fewer and would be nearly black"):
        read_rgb(tiff(np.full((4, 4, 3), 4095, "<u2"), 2))


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])  # of PNG: RGB, grey and RGB with transparency
def test_a_png_of_12_bits_in_16_is_refused_too(kind: int, channels: int) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    for most in (4095, 65535):
        pixels = np.full((4, 4, channels), most, ">u2")
        if channels != 3:
            pixels[..., -1] = 65535
        rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
        head = chunk(b"IHDR", bytes((0, 0, 0, 4, 0, 0, 0, 4, 16, kind, 0, 0, 0)))
        content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        if most == 65535:
            assert np.asarray(read_rgb(content)).min() == 255
            continue
        with pytest.raises(ValueError, match="would be nearly black"):
            read_rgb(content)


@pytest.mark.parametrize("dtype", ["u1", "<u2"])  # Pillow reads no others in which white is zero
def test_a_tiff_in_which_white_is_zero_is_no_negative(dtype: str) -> None:
    most = 255 if dtype == "u1" else 4095
    ramp = np.linspace(0, most, 16).round().astype(dtype).reshape(4, 4)
    for photometric, expected in ((1, np.linspace(0, 255, 16)), (0, np.linspace(255, 0, 16))):
        grey = np.asarray(read_rgb(tiff(ramp, photometric)))[..., 0].ravel()
        assert np.abs(grey - expected).max() <= 1


def test_the_largest_value_that_is_said_by_default_says_nothing() -> None:
    grey = np.asarray(read_rgb(tiff(np.full((4, 4), 4095, "<u2"), 1, t281=65535)))
    assert grey.min() == 255  # and not nearly black


@pytest.mark.parametrize("most", [255, 1023, 4095, 65535])
@pytest.mark.parametrize("magic", [b"P2", b"P5"])
def test_pgm_of_every_depth(magic: bytes, most: int) -> None:
    ramp = np.linspace(0, most, 8).round().astype(int)
    binary = ramp.astype(">u2" if most > 255 else "u1").tobytes()
    body = binary if magic == b"P5" else b" ".join(b"%d" % value for value in ramp)
    grey = np.asarray(read_rgb(magic + b"\n4 2\n%d\n" % most + body))[..., 0].ravel()
    assert np.abs(grey - np.linspace(0, 255, 8)).max() <= 1


BROKEN_EXIF = [
    b"Exif\0\0",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12",
    b"Exif\0\0nonsense of some length, no TIFF header at all",
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\0\0\xff\0\0\0",
]


@pytest.mark.parametrize("exif", BROKEN_EXIF)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])  # of a TIFF, the entries are the file
@pytest.mark.filterwarnings("ignore")
def test_a_broken_exif_block_does_not_cost_the_picture(kind: str, exif: bytes) -> None:
    pixels = some_pixels(1, 16)[0]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    broken = encoded(pixels, kind, exif=exif, **options)
    assert np.array_equal(np.asarray(read_rgb(broken)), np.asarray(read_rgb(encoded(pixels, kind, **options))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_orientation(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = some_pixels(1, 6)[0][:4]
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270"}
    turns |= {7: "TRANSVERSE", 8: "ROTATE_90"}
    image = Image.fromarray(pixels)
    expected = image.transpose(Image.Transpose[turns[orientation]]) if orientation > 1 else image
    assert np.array_equal(np.asarray(read_rgb(encoded(pixels, kind, exif=exif))), np.asarray(expected))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(20), "none of JPEG, .*; it is HEIC"),
        (b"\0\0\0\x1cftypavif" + bytes(20), "none of JPEG, .*; it is AVIF"),
        (gzip.compress(b"x"), "none of JPEG, .*; it is packed with gzip"),
        (b"<!DOCTYPE html><html>", "none of JPEG, .*; it is a web page, not the file"),
        (b"version https://git-lfs.github.com/spec/v1", "none of JPEG, .*; it is a pointer of Git LFS"),
        (b"nothing at all", "none of JPEG, .*, PPM$"),
    ],
)
def test_what_is_no_picture_says_what_it_is(content: bytes, said: str) -> None:
    with pytest.raises(OSError, match="cannot identify") as raised:
        read_rgb(content)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(explain(raised.value))
