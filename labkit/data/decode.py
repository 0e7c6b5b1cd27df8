"""One picture, however it is stored, becomes uint8 RGB of the asked size."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

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

RESAMPLINGS = tuple(name.lower() for name in Image.Resampling.__members__)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turned the way its EXIF entry says, transparency laid over white, 16-bit grey cut to 8 bits, mode RGB.

    Raises:
        ValueError: 32-bit pixels, whose range nothing tells.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels have no agreed range; save it with 8 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def read_rgb(file: bytes | Path | str) -> Image.Image:
    """The picture of an image file, or of its bytes, see `to_rgb`; of several in one file the first.

    Raises:
        Exception: nearly anything; decoders of broken files are like that.
    """
    if not isinstance(file, bytes) and not Path(file).is_file():  # reading a pipe would wait for ever
        raise ValueError("not a file")
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as opened:
        pixels = opened.width * opened.height  # only the header is read yet
        if pixels > MAX_PIXELS:
            raise ValueError(f"{opened.width} x {opened.height} pixels, more than the {MAX_PIXELS} allowed")
        with _large if pixels > MANY_PIXELS else nullcontext():
            return to_rgb(opened)


def decode(picture: Picture, size: int, resampling: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode one picture and resize it to a square, if it is none of that size yet.

    The whole picture is squashed into the square, nothing is cropped: miniImageNet's and tieredImageNet's 84 x 84
    copies were made so, and a crop would lose objects at the border.

    Args:
        picture: see `Picture`.
        size: side of the square, in pixels.
        resampling: one of `RESAMPLINGS`.

    Returns:
        uint8 [size, size, 3], and the picture's own width and height (after EXIF rotation).

    Raises:
        Exception: nearly anything; decoders of broken files are like that.
    """
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else read_rgb(picture)
    source_size = image.size
    if source_size != (size, size):
        image = image.resize((size, size), Image.Resampling[resampling.upper()])
    return np.asarray(image), source_size


def explain(error: Exception) -> str:
    """One short reason why a picture could not be decoded."""
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return f"{error}"[:120] or type(error).__name__
