"""How alike two characters look: the measure by which `glyphs` keeps look-alikes apart, and the ink that it reads."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageFont

FACES = tuple(
    [f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + [f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")]
)
COMPARED_FACES = tuple(face for face in FACES if "Oblique" not in face)  # an oblique is a shear of its upright
SAME_DRAWING = 0.98  # cosine from which two faces draw a character alike
EM = 64  # pixels of an em of the drawings that are compared
TURNS = tuple(range(-52, 53, 13))  # degrees; two images, each turned by up to 20, differ by up to 40; and some margin


@cache
def face_path(face: str) -> Path:
    """The TrueType file of `face` inside matplotlib."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


@cache
def covered(face: str) -> frozenset[int]:
    """Code points for which `face` has a glyph of its own, be it an empty one."""
    return frozenset(code for code, glyph in FT2Font(str(face_path(face))).get_charmap().items() if glyph)


@cache
def _font(face: str, em: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(face_path(face), em, layout_engine=ImageFont.Layout.BASIC)


def ink(codepoint: int, face: str, em: int = EM) -> Image.Image | None:
    """The character's ink, mode L, cropped to its bounding box, at `em` pixels an em; None if it leaves no ink."""
    bitmap, _ = _font(face, em).getmask2(chr(codepoint), mode="L")
    if 0 in bitmap.size:
        return None
    image = Image.frombytes("L", bitmap.size, bytes(bitmap))
    box = image.getbbox()
    return image.crop(box) if box else None


@cache
def drawing(codepoint: int) -> Image.Image | None:
    """The character in the first of `FACES` that has it; None if there is none, or no ink."""
    return next((ink(codepoint, face) for face in FACES if codepoint in covered(face)), None)


def _views(image: Image.Image, turns: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    """The glyph centred on its ink, its root-mean-square radius made 18 pixels of 64, turned, slightly blurred."""
    side, radius = 64, 18.0
    weight = np.asarray(image, dtype=np.float64)
    total, across, down = weight.sum(), weight.sum(axis=0), weight.sum(axis=1)
    x, y = np.arange(len(across)) + 0.5, np.arange(len(down)) + 0.5
    cx, cy = (across * x).sum() / total, (down * y).sum() / total
    scale = np.sqrt(((across * (x - cx) ** 2).sum() + (down * (y - cy) ** 2).sum()) / total) / radius
    views = []
    for degrees in turns:
        cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
        affine = (cos, -sin, cx - (cos - sin) * side / 2, sin, cos, cy - (sin + cos) * side / 2)
        placed = image.transform((side, side), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        views.append(np.asarray(placed.filter(ImageFilter.GaussianBlur(1.2))))
    return views


def describe(images: list[Image.Image], turns: tuple[int, ...] = (0,)) -> NDArray[np.float32]:
    """What the outlines of glyphs look like, whatever their size, place and weight.

    The strength of the edges, in 4 orientations, is pooled over overlapping cells of a 16 x 16 grid, and its root
    taken, lest a few long strokes outweigh what tells one character from another.

    Returns:
        float32 [n, turns, 4, 16, 16], of unit length.
    """
    canvas = np.array([view for image in images for view in _views(image, turns)], dtype=np.float32)
    gx, gy = np.zeros_like(canvas), np.zeros_like(canvas)
    gx[:, :, 1:-1] = canvas[:, :, 2:] - canvas[:, :, :-2]
    gy[:, 1:-1] = canvas[:, 2:] - canvas[:, :-2]
    strength = np.sqrt(gx * gx + gy * gy) + 1e-6
    even, odd = (gx * gx - gy * gy) / strength, 2 * gx * gy / strength  # strength x cos and sin of twice the angle
    window = np.array([1, 7, 21, 35, 35, 21, 7, 1], np.float32) / 128
    channels = []
    for edges in (even, -even, odd, -odd):
        shares = np.maximum(edges, 0) ** 2 / strength  # the four add up to the strength
        cells = np.pad(shares, ((0, 0), (2, 2), (2, 2)))
        cells = np.sum([window[i] * cells[:, i : i + 61 : 4] for i in range(8)], axis=0)
        channels.append(np.sum([window[i] * cells[:, :, i : i + 61 : 4] for i in range(8)], axis=0))
    roots = np.sqrt(np.stack(channels, axis=1))
    roots /= np.sqrt((roots * roots).sum(axis=(1, 2, 3), keepdims=True))
    return np.asarray(roots.reshape(len(images), len(turns), 4, 16, 16))


@cache
def _drawings(codepoint: int) -> tuple[tuple[Image.Image, ...], NDArray[np.float32]]:
    """The drawings of a character that differ, the first `drawing` first, and their descriptions, float32 [n, 1024]."""
    faces = [face for face in COMPARED_FACES if codepoint in covered(face)]
    images = [image for image in (drawing(codepoint), *(ink(codepoint, face) for face in faces)) if image is not None]
    described = describe(images).reshape(len(images), -1)
    kept: list[int] = []
    for k in range(len(images)):
        if (described[kept] @ described[k]).max(initial=0) < SAME_DRAWING:
            kept.append(k)
    return tuple(images[k] for k in kept), described[kept]


def turned(codepoint: int) -> NDArray[np.float32]:
    """The drawings of a character in every turn, and mirrored: float32 [views, 1024]."""
    views = describe(list(_drawings(codepoint)[0]), TURNS)
    mirrored = views[:, :, [0, 1, 3, 2], :, ::-1]  # left is right, and one diagonal the other
    return np.concatenate([views, mirrored]).reshape(-1, 1024)


def nearest(views: NDArray[np.float32], codepoints: list[int]) -> NDArray[np.float32]:
    """Greatest cosine between any of `views` and any drawing of each character, float32 [n]."""
    upright = [_drawings(codepoint)[1] for codepoint in codepoints]
    if not upright:
        return np.zeros(0, np.float32)
    starts = np.cumsum([0] + [len(drawings) for drawings in upright[:-1]])
    return np.asarray(np.maximum.reduceat((np.concatenate(upright) @ views.T).max(axis=1), starts))


def likeness(codepoints: list[int]) -> NDArray[np.float32]:
    """How alike each two characters can look, float32 [n, n]: 1 for the same outline, about 0.4 for unrelated ones.

    It is the cosine between their descriptions, at its greatest over the drawings that their faces give, mirror
    images, and turns of either by up to 52 degrees.
    """
    best = np.stack([nearest(turned(codepoint), codepoints) for codepoint in codepoints])
    np.fill_diagonal(best, 1)
    return np.asarray(np.maximum(best, best.T))
