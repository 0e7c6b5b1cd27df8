"""Which characters are classes of `glyphs`: those of matplotlib's fonts that nobody could take for one another.

They are the committed table ``classes.csv``, which `tests.helpers.glyph_table` makes again.
"""

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labkit.data.glyphs.likeness import FACES, face_path

TABLE = Path(__file__).with_name("classes.csv")


@dataclass(frozen=True)
class GlyphClass:
    """A row of the table.

    Attributes:
        codepoint: the character.
        name: its Unicode name.
        category: its Unicode block or script, or a part of a large one.
        tiered_split: ``"train"``, ``"val"``, ``"test"`` or ``"clutter"``.
        mini_split: likewise for the 100 classes of `glyphs-mini`; empty elsewhere.
        faces: the `FACES` that have it.
    """

    codepoint: int
    name: str
    category: str
    tiered_split: str
    mini_split: str
    faces: tuple[str, ...]


def font_digests() -> dict[str, str]:
    """sha256 of the TrueType file of each face, as installed."""
    return {face: hashlib.sha256(face_path(face).read_bytes()).hexdigest() for face in FACES}


@cache
def read_table(file: Path = TABLE) -> tuple[tuple[GlyphClass, ...], dict[str, str]]:
    """The rows of the committed table, in order of code point, and the sha256 of each face it was made from."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = [line.split() for line in lines if line.startswith("#")][1:]
    digests = {face: digest for _, _, face, digest in comments}
    faces = tuple(digests)
    rows = tuple(
        GlyphClass(
            int(row["codepoint"], 16),
            row["name"],
            row["category"],
            row["tiered_split"],
            row["mini_split"],
            tuple(faces[int(number)] for number in row["faces"].split()),
        )
        for row in csv.DictReader(line for line in lines if not line.startswith("#"))
    )
    return rows, digests
