"""An image of `glyphs`: a character over a texture and among clutter, as a pure function of a few numbers.

A scene is composed in unit coordinates, x to the right and y down from the top left corner of the image; the size only
sets the resolution that it is drawn at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from labkit.common import checks
from labkit.data.glyphs.classes import GlyphClass, read_table
from labkit.data.glyphs.likeness import ink

MASTER = 96  # pixels, at least, of the larger side of the drawing of a glyph that its images are resampled from
ROOM = 64  # pixels by which a sheet of noise is larger than the image whose grain is cut from it
# Of the uniform numbers that make a scene: so many for the object, for the background, for each glyph of clutter.
OBJECT, BACKGROUND, CLUTTER = 32, 128, 32
COLOURS = 8  # tried for each glyph


@dataclass(frozen=True)
class Difficulty:
    """What makes an image hard, each by a number of its own.

    Attributes:
        clutter: number of glyphs, of characters that are no class, under and around the object; 0 to 64.
        contrast: 0 to 1; the least distance between the object's colour and the background around it, as a share of
            the distance from that background to the farthest colour there is. Clutter keeps the same distance.
        object_size: least and greatest larger side of the object's bounding box, as shares of the image's side.
        displacement: 0 to 1; share of the room left around the object over which it is placed: 0 centres its bounding
            box, 1 puts it anywhere inside the image.
        rotation: degrees; the object turns by up to so much either way.
        shear: horizontal shift per unit of height, up to so much either way.
        position: (y, x), each 0 to 1; where in the room left around it the object's bounding box is placed, (0, 0) top
            left and (1, 1) bottom right. None draws it for every image, over the share `displacement`.
    """

    clutter: int = 2
    contrast: float = 0.4
    object_size: tuple[float, float] = (0.5, 0.8)
    displacement: float = 0.5
    rotation: float = 20.0
    shear: float = 0.15
    position: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, checks.plain(value))
        share = self.object_size
        if not (isinstance(share, (tuple, list)) and len(share) == 2 and 0 < share[0] <= share[1] <= 1):
            raise ValueError(f"object_size must be two numbers, 0 < least <= greatest <= 1, got {share}")
        object.__setattr__(self, "object_size", tuple(share))  # a list, from a notebook's parameters, will do
        at = self.position
        if at is not None:
            if not (isinstance(at, (tuple, list)) and len(at) == 2 and all(0 <= part <= 1 for part in at)):
                raise ValueError(f"position must be None or two numbers (y, x) from 0 to 1, got {at}")
            object.__setattr__(self, "position", tuple(at))
        if not (isinstance(self.clutter, int) and 0 <= self.clutter <= 64):
            raise ValueError(f"clutter must be a whole number from 0 to 64, got {self.clutter}")
        limits = {"contrast": 1.0, "displacement": 1.0, "rotation": 180.0, "shear": 1.0}
        for name, greatest in limits.items():
            if not 0 <= getattr(self, name) <= greatest:
                raise ValueError(f"{name} must be from 0 to {greatest:g}, got {getattr(self, name)}")


# Chosen once, on validation classes, with the no-alignment baseline alone, before DMF was first trained on them; see
# results/difficulty.json. Never retuned.
DEFAULT = Difficulty()


@cache
def clutter_pool() -> tuple[GlyphClass, ...]:
    """The characters that clutter is made of; no class of any split looks like one of them."""
    return tuple(row for row in read_table()[0] if row.tiered_split == "clutter")


@lru_cache(maxsize=4096)
def _master(codepoint: int, face: str) -> tuple[tuple[Image.Image, ...], NDArray[np.float64]]:
    """A glyph with `MASTER` pixels or more on its larger side, then halved and halved again; and its outermost points.

    The points, float64 [2, n], are where its ink reaches farthest in 48 directions, from the middle of its box and in
    units of the box's larger side: by them the box of a turned and sheared glyph is known before it is drawn.
    """
    image, em = ink(codepoint, face, MASTER), MASTER
    while image is not None and max(image.size) < MASTER and em < 16 * MASTER:
        em *= 2
        image = ink(codepoint, face, em)
    assert image is not None  # the table names only faces that have ink for the character
    coverage = np.asarray(image)
    inked = 2 * coverage.astype(int) >= coverage.max()
    rows = np.flatnonzero(inked.any(axis=1))
    left, right = inked[rows].argmax(axis=1), image.size[0] - inked[rows, ::-1].argmax(axis=1)
    corners = np.array([[left, left, right, right], [rows, rows + 1, rows, rows + 1]]).reshape(2, -1)
    points = (corners - np.array(image.size)[:, None] / 2) / max(image.size)
    angles = np.arange(48)[:, None] * (2 * np.pi / 48)
    outermost = np.unique((np.cos(angles) * points[0] + np.sin(angles) * points[1]).argmax(axis=1))
    levels = [image]
    while max(levels[-1].size) > 12:
        levels.append(levels[-1].reduce(2))
    return tuple(levels), points[:, outermost]


@cache
def _grain(size: int) -> tuple[Image.Image, ...]:
    """RGB sheets of noise about 128, from faint to strong, to cut the grain of an image from."""
    side = size + ROOM
    noise = np.random.Generator(np.random.Philox(key=0)).random((3, side, side, 3)).sum(axis=0) - 1.5
    return tuple(Image.fromarray((128.5 + noise * strength).astype(np.uint8)) for strength in (4, 8, 16, 28))


@dataclass(frozen=True)
class _Glyph:
    """A glyph in its place.

    Attributes:
        box: left, top, right and bottom of its ink, in unit coordinates.
        scale: larger side of the upright glyph's box, as a share of the image's side.
        middle: where the middle of the upright glyph's box comes to lie.
        upright: the 2 x 2 matrix, by rows, that undoes its rotation and shear.
        levels: the glyph at falling resolutions, mode L.
    """

    box: tuple[float, float, float, float]
    scale: float
    middle: tuple[float, float]
    upright: tuple[float, float, float, float]
    levels: tuple[Image.Image, ...]

    def coverage(self, size: int) -> tuple[Image.Image, tuple[int, int, int, int]]:
        """How far the glyph covers each pixel, mode L, and the box of pixels, in an image of side `size`."""
        x0, y0 = math.floor(self.box[0] * size), math.floor(self.box[1] * size)
        x1, y1 = max(x0 + 1, math.ceil(self.box[2] * size)), max(y0 + 1, math.ceil(self.box[3] * size))
        width, height = self.levels[0].size
        ratio = max(width, height) / (self.scale * size)
        level = min(len(self.levels) - 1, max(0, round(math.log2(ratio))))
        step = ratio / (1 << level)  # pixels of the level for one of the image: 0.7 to 1.4, so that nothing aliases
        # Rounded, so that a last bit of sine or cosine, in which machines may differ, does not change a pixel.
        a, b, c, d = (round(step * value, 7) for value in self.upright)
        dx, dy = x0 - self.middle[0] * size, y0 - self.middle[1] * size
        e, f = width / (2 << level) + a * dx + b * dy, height / (2 << level) + c * dx + d * dy
        affine = (a, b, round(e, 6), c, d, round(f, 6))
        glyph = self.levels[level]
        placed = glyph.transform((x1 - x0, y1 - y0), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        return placed, (x0, y0, x1, y1)


def _place(row: GlyphClass, u: Sequence[float], difficulty: Difficulty, is_object: bool) -> _Glyph:
    """A glyph's face, rotation, shear, size and place, from the first six of the uniform numbers `u`."""
    levels, points = _master(row.codepoint, row.faces[int(u[0] * len(row.faces))])
    turn, shear = math.radians((2 * u[1] - 1) * difficulty.rotation), (2 * u[2] - 1) * difficulty.shear
    cos, sin = math.cos(turn), math.sin(turn)
    xs = cos * points[0] + (cos * shear - sin) * points[1]
    ys = sin * points[0] + (sin * shear + cos) * points[1]
    x_low, x_high, y_low, y_high = float(xs.min()), float(xs.max()), float(ys.min()), float(ys.max())
    least, greatest = difficulty.object_size
    least = least if is_object else least / 2
    scale = (least + u[3] * (greatest - least)) / max(x_high - x_low, y_high - y_low)
    width, height = scale * (x_high - x_low), scale * (y_high - y_low)
    if is_object:
        x, y = (0.5 + difficulty.displacement * (number - 0.5) for number in u[4:6])
        if difficulty.position is not None:
            y, x = difficulty.position
        left, top = (1 - width) * x, (1 - height) * y
    else:  # its middle is anywhere in the image, so that the edge may cut it
        left, top = u[4] - width / 2, u[5] - height / 2
    return _Glyph(
        box=(left, top, left + width, top + height),
        scale=scale,
        middle=(left - scale * x_low, top - scale * y_low),
        upright=(sin * shear + cos, sin - cos * shear, -sin, cos),
        levels=levels,
    )


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Squared distance of two colours, 1 between black and white; green counts most and blue least, as to the eye."""
    return 0.3 * (a[0] - b[0]) ** 2 + 0.5 * (a[1] - b[1]) ** 2 + 0.2 * (a[2] - b[2]) ** 2


def _colour(
    u: Sequence[float], contrast: float, behind: Sequence[float], others: Sequence[Sequence[float]] = ()
) -> list[float]:
    """The first colour in `u` that is far enough from the one behind it, and half as far from the others."""
    farthest = [0.0 if value > 0.5 else 1.0 for value in behind]
    need = contrast * contrast * _distance(farthest, behind)
    for k in range(0, 3 * COLOURS, 3):
        colour = list(u[k : k + 3])
        if _distance(colour, behind) >= need and all(4 * _distance(colour, other) >= need for other in others):
            return colour
    return [b + contrast * (f - b) for f, b in zip(farthest, behind, strict=True)]


def _rgb(colour: Sequence[float]) -> tuple[int, int, int]:
    return round(255 * colour[0]), round(255 * colour[1]), round(255 * colour[2])


def _behind(small: Image.Image, glyph: _Glyph) -> list[float]:
    """Mean colour, 0 to 1, of the part of the background that is behind the glyph's box; `small` is all of it."""
    side = small.size[0]
    left, top = (min(side - 1.0, max(0.0, edge * side)) for edge in glyph.box[:2])
    right, bottom = (min(float(side), edge * side) for edge in glyph.box[2:])
    box = (left, top, max(left + 1, right), max(top + 1, bottom))
    return [value / 255 for value in small.resize((1, 1), Image.Resampling.BOX, box=box).tobytes()]


def render(
    cls_row: GlyphClass, index: int, *, size: int, seed: int, difficulty: Difficulty = DEFAULT
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Image `index` of a class: a pure function of its arguments, on any machine with the same fonts and Pillow.

    Args:
        cls_row: the class; nothing but its character and its faces matters.
        index: from 0 to 2^32 - 1.
        size: pixels of the image's side.
        seed: from 0 to 2^64 - 1.
        difficulty: see `Difficulty`. Changing one number keeps all of the scene that does not hang on it.

    Returns:
        pixels uint8 [size, size, 3], and the object's mask bool [size, size]: where it covers half a pixel or more (of
        a stroke that nowhere does, half of what it covers at best).
    """
    key = int(seed) << 64 | cls_row.codepoint << 32 | int(index)  # of NumPy's integers `seed << 64` would be 0
    u = np.random.Generator(np.random.Philox(key=key)).random(OBJECT + BACKGROUND + CLUTTER * difficulty.clutter)
    numbers = u.tolist()

    ground = numbers[OBJECT : OBJECT + BACKGROUND]  # background: a few random colours about a mean one, interpolated
    columns, rows, spread = 2 + int(ground[0] * 5), 2 + int(ground[1] * 5), 20 + 140 * ground[2] * ground[2]
    mean, around = u[OBJECT + 3 : OBJECT + 6], u[OBJECT + 20 : OBJECT + 20 + columns * rows * 3]
    grid = 255 * mean + spread * (around.reshape(rows, columns, 3) - 0.5)
    coarse = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
    small = coarse.resize((16, 16), Image.Resampling.BICUBIC)  # colours are chosen by it, whatever the size
    image = coarse.resize((size, size), Image.Resampling.BICUBIC)

    pool, painted = clutter_pool(), []
    for start in range(OBJECT + BACKGROUND, len(numbers), CLUTTER):
        mine = numbers[start : start + CLUTTER]
        glyph = _place(pool[int(mine[6] * len(pool))], mine, difficulty, is_object=False)
        painted.append(_colour(mine[8:], difficulty.contrast, _behind(small, glyph)))
        coverage, box = glyph.coverage(size)
        image.paste(_rgb(painted[-1]), box, coverage)

    glyph = _place(cls_row, numbers, difficulty, is_object=True)
    coverage, box = glyph.coverage(size)
    image.paste(_rgb(_colour(numbers[8:], difficulty.contrast, _behind(small, glyph), painted)), box, coverage)

    x, y = int(ground[6] * ROOM), int(ground[7] * ROOM)
    grain = _grain(size)[int(ground[8] * 4)].crop((x, y, x + size, y + size))
    image = ImageChops.add(image, grain, offset=-128)

    mask = np.zeros((size, size), dtype=np.bool_)
    alpha = np.asarray(coverage)
    mask[box[1] : box[3], box[0] : box[2]] = alpha >= min(128, (int(alpha.max()) + 1) // 2)
    return np.asarray(image), mask
