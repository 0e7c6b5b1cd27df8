"""``python labkit/own_images/examples/draw.py``: draws the pictures on which `labkit.classify` is shown.

Five classes of signs with one to three pictures each, and queries of every awkward kind: wide, tall, grey, with a
palette, transparent, turned by EXIF, and one of no class. A sign is a few strokes in the unit square, drawn by an
unsteady hand. The pictures were drawn before any model saw them, and were not changed afterwards.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

HERE = Path(__file__).parent
Strokes = list[NDArray[np.float64]]  # polylines [n, 2] of (x, y), each 0 to 1, y down
FINE = 4  # drawn so many times larger and then reduced: Pillow's lines have no smooth edges
ORIENTATION, QUARTER_TURN = 0x0112, 6  # EXIF: shown turned clockwise by 90 degrees


def line(*points: tuple[float, float]) -> NDArray[np.float64]:
    """A polyline with a point every few hundredths, so that a hand can tremble along it."""
    corners = np.array(points)
    along = np.linspace(0, len(corners) - 1, 12 * (len(corners) - 1) + 1)
    return np.stack([np.interp(along, range(len(corners)), corners[:, k]) for k in (0, 1)], axis=1)


def arc(centre: tuple[float, float], radii: tuple[float, float], turns: tuple[float, float]) -> NDArray[np.float64]:
    """Part of a circle, or of a spiral where the two radii differ; `turns` in full turns, clockwise from the right."""
    t = 2 * np.pi * np.linspace(*turns, 90)
    curve: NDArray[np.float64] = np.linspace(*radii, 90)[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
    return curve + centre


def star() -> Strokes:
    """Five points."""
    angles = np.pi * (np.arange(11) / 5 - 0.5)
    radii = np.where(np.arange(11) % 2, 0.2, 0.5)
    return [line(*zip(0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles), strict=True))]


SIGNS: dict[str, Strokes] = {
    "arrow": [line((0.02, 0.5), (0.98, 0.5)), line((0.62, 0.15), (0.98, 0.5), (0.62, 0.85))],
    "fish": [
        arc((0.4, 0.95), (0.6, 0.6), (0.62, 0.9)),
        arc((0.4, 0.05), (0.6, 0.6), (0.1, 0.38)),
        line((0.75, 0.5), (1.0, 0.2), (1.0, 0.8), (0.75, 0.5)),
        arc((0.2, 0.44), (0.02, 0.02), (0, 1)),
    ],
    "house": [
        line((0.15, 0.45), (0.15, 1), (0.85, 1), (0.85, 0.45)),
        line((0, 0.52), (0.5, 0.02), (1, 0.52)),
        line((0.42, 1), (0.42, 0.68), (0.6, 0.68), (0.6, 1)),
    ],
    "spiral": [arc((0.5, 0.5), (0.03, 0.5), (0, 2.75))],
    "star": star(),
    "cup": [
        line((0.1, 0.1), (0.2, 0.95), (0.65, 0.95), (0.75, 0.1), (0.1, 0.1)),
        arc((0.75, 0.45), (0.2, 0.2), (-0.3, 0.3)),
    ],
}


def draw(
    sign: str, size: tuple[int, int], seed: int, ink: str, ground: str | None, share: float = 0.72, turn: float = 0
) -> Image.Image:
    """One picture.

    Args:
        sign: of `SIGNS`.
        size: width and height in pixels.
        seed: of the trembling, the place and what else lies about.
        ink, ground: colours; a ground of None is transparent.
        share: side of the sign as a share of the picture's shorter side.
        turn: degrees, clockwise.

    Returns:
        mode RGB, or RGBA without a ground.
    """
    rng = np.random.default_rng(seed)
    large = np.array(size) * FINE
    image = Image.new("RGBA", tuple(large), ground or (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    if ground is not None:
        _scribble(pen, large, rng, ImageColor.getrgb(ground))
    side = share * large.min()
    shift = (large - side) * (0.5 + rng.uniform(-0.25, 0.25, 2))
    angle = np.deg2rad(turn)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for stroke in SIGNS[sign]:
        trembling = np.cumsum(rng.normal(0, 0.004, stroke.shape), axis=0)
        placed = ((stroke + trembling - 0.5) @ matrix + 0.5) * side + shift
        pen.line([tuple(p) for p in placed], fill=ink, width=round(0.09 * side), joint="curve")
    reduced = image.resize(size, Image.Resampling.LANCZOS)
    return reduced if ground is None else reduced.convert("RGB")


def _scribble(
    pen: ImageDraw.ImageDraw, size: NDArray[np.int64], rng: np.random.Generator, ground: Sequence[int]
) -> None:
    """Thin lines in a shade near the ground's, as on a page that was used before."""
    for _ in range(7):
        shade = tuple(int(c) for c in np.clip(np.array(ground) + rng.integers(-50, 50, 3), 0, 255))
        ends = rng.uniform(-0.1, 1.1, (3, 2)) * size
        pen.line([tuple(p) for p in ends], fill=shade, width=int(0.03 * size.min()), joint="curve")


SUPPORT: dict[str, tuple[Any, ...]] = {
    "arrow/1.png": ("arrow", (96, 96), 1, "#7a1f1f", "#e8dcc0"),
    "arrow/2.png": ("arrow", (120, 90), 2, "#1d3f8a", "#f2f2f2"),
    "arrow/3.png": ("arrow", (90, 110), 3, "#ffe27a", "#35513a"),
    "fish/1.png": ("fish", (128, 96), 4, "#14606e", "#f5e3d0"),
    "house/1.png": ("house", (96, 96), 5, "#3a3a3a", "#d8e6f0"),
    "house/2.png": ("house", (80, 120), 6, "#f4f0e0", "#8a4b2a"),
    "spiral/1.png": ("spiral", (100, 100), 7, "#5b2a86", "#efe9f4"),
    "spiral/2.png": ("spiral", (140, 100), 8, "#f0a030", "#24344d"),
    "star/1.png": ("star", (96, 96), 9, "#c0392b", "#f7f3e8"),
}
QUERY: dict[str, tuple[Any, ...]] = {
    "arrow_wide.png": ("arrow", (260, 90), 11, "#1f6f43", "#f0ead8"),
    "fish_turned_by_exif.jpg": ("fish", (150, 110), 12, "#8a2c5b", "#e3ecd9"),
    "house_transparent.png": ("house", (110, 110), 13, "#204a87", None),
    "spiral_palette.png": ("spiral", (120, 120), 14, "#b5452c", "#dfe8e8"),
    "star_grey.png": ("star", (100, 100), 15, "#303030", "#cfcfcf"),
    "star_tall.png": ("star", (90, 220), 16, "#f6d743", "#4a2f5c"),
    "house_tilted.png": ("house", (96, 96), 17, "#0f5257", "#f3d9c4", 0.7, 12),
    "cup_no_class.png": ("cup", (110, 110), 18, "#2b4c2f", "#f1e4ee"),
}


def main() -> None:
    """Write all pictures beside this file."""
    for name, arguments in SUPPORT.items():
        file = HERE / "support" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(*arguments).save(file, optimize=True)
    (HERE / "query").mkdir(exist_ok=True)
    for name, arguments in QUERY.items():
        image, file = draw(*arguments), HERE / "query" / name
        if "grey" in name:
            image = image.convert("L")
        elif "palette" in name:
            image = image.quantize(16)
        if "exif" in name:  # stored lying on its side, with the note that turns it upright
            exif = Image.Exif()
            exif[ORIENTATION] = QUARTER_TURN
            image.transpose(Image.Transpose.ROTATE_90).save(file, quality=90, exif=exif)
        else:
            image.save(file, optimize=True)


if __name__ == "__main__":
    main()
