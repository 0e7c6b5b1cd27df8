"""One picture, however it is stored, becomes uint8 RGB of the asked size."""

import io
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from labkit.common.files import first_bytes, instead, is_file
from labkit.data.left_out import picture_kind

Picture: TypeAlias = NDArray[np.uint8] | bytes | Path
"""RGB pixels uint8 [h, w, 3], the bytes of an image file, or the path of one."""

# Pillow also reads formats that start other programs (EPS runs Ghostscript); these decode in-process.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
)
MAX_PIXELS = 2**26  # of one picture before resizing: 67 megapixels
MANY_PIXELS = 2**24  # pictures with more are decoded one at a time: each may take a gigabyte
_large = Lock()

WHITE_IS_ZERO = 0  # what a TIFF's entry 262 says where the largest value is black, as of many scanners
DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners give

# What undoes each orientation of EXIF; 1 is upright.
TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

RESAMPLINGS = tuple(name.lower() for name in Image.Resampling.__members__)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turned the way its EXIF entry says, transparency laid over white, 16-bit grey scaled to 8 bits, mode RGB.

    Grey with more than 8 bits is scaled by its true range, see `grey_range`, and 0 is black, whatever the file says.

    Raises:
        ValueError: pixels whose range nothing tells.
    """
    # Of 16-bit colours, and of grey with transparency, Pillow keeps 8 bits. Pictures made in memory have no tiles.
    kinds = [str(tile[3]) for tile in getattr(image, "tile", ())]
    wide_colour = any("16" in kind and ("RGB" in kind or "LA" in kind) for kind in kinds)
    most = grey_range(image)
    # Pillow turns white and black round of pixels of 8 bits and fewer only.
    wide_and_inverted = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == WHITE_IS_ZERO
    image.load()  # pixels that are damaged raise here, where nothing is forgiven
    image = upright(image)
    if most:
        grey = np.asarray(image).astype(np.int32)
        eight = grey >> 8 if most == 65535 else (grey * 255 + most // 2) // most
        if wide_and_inverted:
            eight = 255 - eight
        return Image.fromarray(eight.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        bits = "signed 16-bit" if getattr(image, "tag_v2", {}).get(258) == (16,) else "32-bit"
        raise ValueError(f"{bits} pixels have no agreed range; save it with 8 bits a channel")
    if wide_colour and 0 < int(np.asarray(image)[..., : 1 if image.mode == "LA" else 3].max(initial=0)) < 16:
        raise ValueError("its 16-bit colours use 12 bits or fewer and would be nearly black; save it with 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """`image` turned the way its EXIF entry says, or as it is where that cannot be read."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block raises nearly anything, and says nothing about the picture
        return image
    return image if turn is None else image.transpose(turn)


def grey_range(image: Image.Image) -> int | None:
    """The value that stands for white in grey pixels of 9 to 16 bits, or None where they have 8, or no known range.

    Formats differ: PGM is stretched to 16 bits as it is read; TIFF may say its bits or its largest value. Where nothing
    is said, cameras' 10, 12 and 14 bits lie in the lower part of 16, so that the fewest of 8, 10, 12, 14 and 16 bits
    that hold all of this picture's pixels are taken: a dark picture comes out brighter than it was, none nearly black.
    """
    if image.mode == "I" and getattr(image, "format", None) in ("PPM", "PNG"):
        return 65535
    if not image.mode.startswith("I;16"):
        return None
    highest = int(np.asarray(image).max(initial=0))
    tags = getattr(image, "tag_v2", {})
    try:
        bits, largest = int(tags.get(258, (16,))[0]), int(np.ravel(tags.get(281, 0))[0])
    except Exception:  # tags of other types than the standard's
        bits, largest = 16, 0
    if 255 <= largest < 65535 and highest <= largest:  # 65535 is what stands there by default
        return largest
    if 8 < bits < 16 and highest < 2**bits:
        return (1 << bits) - 1
    depth = next(depth for depth in DEPTHS if highest < 2**depth)
    return (1 << depth) - 1


def read_rgb(file: bytes | Path | str) -> Image.Image:
    """The picture of an image file, or of its bytes, see `to_rgb`; of several in one file the first.

    Raises:
        Exception: nearly anything; decoders of broken files are like that.
    """
    if not isinstance(file, bytes) and not is_file(Path(file)):  # reading a pipe would wait for ever
        raise ValueError("not a file")
    with _opened(file) as opened:
        pixels = opened.width * opened.height  # only the header is read yet
        if pixels > MAX_PIXELS:
            raise ValueError(f"{opened.width} x {opened.height} pixels, more than the {MAX_PIXELS} allowed")
        with _large if pixels > MANY_PIXELS else nullcontext():
            return to_rgb(opened)


def _opened(file: bytes | Path | str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)
    except UnidentifiedImageError as error:
        content = file[:144] if isinstance(file, bytes) else first_bytes(Path(file), 144)
        other = instead(content) or picture_kind("" if isinstance(file, bytes) else str(file), content)
        if other and other not in FORMATS:
            error.add_note(f"; it is {other}")
        raise


def decode(picture: Picture | Image.Image, size: int, resampling: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode one picture and resize it to a square, if it is none of that size yet.

    The whole picture is squashed into the square, nothing is cropped: miniImageNet's and tieredImageNet's 84 x 84
    copies were made so, and a crop would lose objects at the border.

    Args:
        picture: a Pillow image is in mode RGB.
        size: side of the square, in pixels.
        resampling: one of `RESAMPLINGS`.

    Returns:
        uint8 [size, size, 3], and the picture's own width and height (after EXIF rotation).

    Raises:
        Exception: nearly anything; decoders of broken files are like that.
    """
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image = image if isinstance(image, Image.Image) else read_rgb(image)
    source_size = image.size
    if source_size != (size, size):
        image = image.resize((size, size), Image.Resampling[resampling.upper()])
    return np.asarray(image), source_size


def explain(error: Exception) -> str:
    """One short reason why a picture could not be decoded."""
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}" + "".join(getattr(error, "__notes__", ()))
    return f"{error}"[:120] or type(error).__name__
