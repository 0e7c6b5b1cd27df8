"""How ``labkit/data/glyphs/classes.csv`` was made: ``python -m tests.helpers.glyph_table`` makes it again.

Of the characters of matplotlib's fonts those are classes that nobody could take for one another.
"""

import csv
import hashlib
import unicodedata
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np

from labkit.data.glyphs.classes import TABLE, GlyphClass, font_digests
from labkit.data.glyphs.likeness import FACES, covered, describe, drawing, ink, nearest, turned

ALIKE = 0.74  # `likeness` above which two characters are one class: the most alike ones below it are unlike to the eye
# Characters that the measure lets pass beside another and the eye does not.
BY_EYE = frozenset(
    "\u00aa\u0517\u0e8a\u0ed5\u149a\u14f1\u153d\u1547\u1675\u168b\u1efa\u215e\u215f\u22a2\u22a3\u22a9\u236b"
    "\u2628\u264e\u2720\u27af\u27b1\u27ff\u2813\u2913\u2914\u294e\u2950\u2977\u29e4\u2d22\u2d45\ufb17\ufb23"
    "\u234a\u2827\u2ae5\ufeb8\ufb53\ufb5c\ufb5d\ufba3\ufed3\U0001d4cd\U0001d52d\U0001ee2d\U0001ee39"
)
SPLITS = {"train": (351, 64), "val": (97, 16), "test": (160, 20)}  # classes of tiered and of mini
CLUTTER = 72  # characters of the clutter pool

# category: (tiered split, code point ranges). A category never leaves its split; three only lend clutter.
CATEGORIES: dict[str, tuple[str, tuple[tuple[int, int], ...]]] = {
    "Digits and Punctuation": (
        "train",
        (
            (0x21, 0x40),
            (0x5B, 0x60),
            (0x7B, 0xBF),
            (0x2010, 0x205F),
            (0x2150, 0x218F),
            (0x2460, 0x24FF),
            (0x2E00, 0x2E7F),
        ),
    ),
    "Latin": ("train", ((0x41, 0x5A), (0x61, 0x7A))),
    "Latin Extended": (
        "train",
        ((0xC0, 0x24F), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0xFB00, 0xFB06)),
    ),
    "Phonetic Extensions": ("train", ((0x250, 0x2AF), (0x1D00, 0x1DBF))),
    "Greek and Coptic": ("train", ((0x370, 0x3FF), (0x1F00, 0x1FFF))),
    "Cyrillic": ("train", ((0x400, 0x52F), (0xA640, 0xA69F))),
    "Armenian": ("val", ((0x530, 0x58F), (0xFB13, 0xFB17))),
    "Hebrew": ("train", ((0x590, 0x5FF), (0xFB1D, 0xFB4F), (0x2135, 0x2138))),
    "Arabic": ("test", ((0x600, 0x6FF), (0x750, 0x77F))),
    "Arabic Presentation Forms": ("test", ((0xFB50, 0xFEFF), (0x1EE00, 0x1EEFF))),
    "NKo": ("test", ((0x7C0, 0x7FF),)),
    "Lao": ("train", ((0xE80, 0xEFF),)),
    "Georgian": ("test", ((0x10A0, 0x10FF), (0x2D00, 0x2D2F))),
    "Canadian Aboriginal": ("val", ((0x1400, 0x167F),)),
    "Ogham": ("train", ((0x1680, 0x169F),)),
    "Currency": ("train", ((0xE3F, 0xE3F), (0x20A0, 0x20CF))),
    "Letterlike Symbols": ("train", ((0x2100, 0x2134), (0x2139, 0x214F))),
    "Arrows": ("train", ((0x2190, 0x21FF),)),
    "Supplemental Arrows": ("train", ((0x27F0, 0x27FF), (0x2900, 0x297F), (0x2B00, 0x2BFF))),
    "Mathematical Operators": ("test", ((0x2200, 0x22FF),)),
    "Supplemental Mathematical Operators": ("test", ((0x2A00, 0x2AFF),)),
    "Miscellaneous Mathematical Symbols": ("test", ((0x27C0, 0x27EF), (0x2980, 0x29FF))),
    "Miscellaneous Technical": ("train", ((0x2300, 0x2335), (0x237B, 0x245F))),
    "APL Symbols": ("train", ((0x2336, 0x237A),)),
    "Box Drawing": ("clutter", ((0x2500, 0x257F),)),
    "Geometric Shapes": ("train", ((0x2580, 0x25FF),)),
    "Weather, Religion and Politics": ("train", ((0x2600, 0x2638),)),
    "Astrology and Genealogy": ("val", ((0x263D, 0x2653), (0x26A2, 0x26BF))),
    "Games": ("val", ((0x2654, 0x2667), (0x2680, 0x268F), (0x1F030, 0x1F0FF))),
    "Miscellaneous Symbols": ("val", ((0x2639, 0x263C), (0x2668, 0x267F), (0x2690, 0x26A1), (0x26C0, 0x26FF))),
    "Dingbats": ("train", ((0x2700, 0x27BF),)),
    "Braille": ("train", ((0x2801, 0x283F),)),
    "Tifinagh, Old Italic and Lisu": ("test", ((0x2D30, 0x2D7F), (0x10300, 0x1032F), (0xA4D0, 0xA4FF))),
    "Script": ("train", ((0x1D49C, 0x1D4CF),)),
    "Fraktur": ("val", ((0x1D504, 0x1D537),)),
    "Tai Xuan Jing": ("clutter", ((0x1D300, 0x1D35F), (0x4DC0, 0x4DFF))),
    "Emoticons": ("clutter", ((0x1F400, 0x1F6FF),)),
}


def candidates() -> dict[int, str]:
    """Category of every character worth a comparison, by code point.

    Left out: marks, spaces, modifiers; variants of a letter (accented, hooked, barred); heavy, black or white variants
    of a symbol; dots and bars, whose place and size, which images vary, are all they have.
    """
    found: dict[int, str] = {}
    names: set[str] = set()
    for codepoint, category in sorted(
        (c, n) for n, (_, rs) in CATEGORIES.items() for a, b in rs for c in range(a, b + 1)
    ):
        character, name = chr(codepoint), unicodedata.name(chr(codepoint), "")
        kind = unicodedata.category(character)
        if (
            character in BY_EYE
            or kind[0] not in "LNPS"
            or kind in ("Lm", "Sk", "Pc")
            or unicodedata.normalize("NFD", character) != character
        ):
            continue
        image = drawing(codepoint)
        if image is None or max(image.size) < 24 or min(image.size) < 0.3 * max(image.size):
            continue
        plain = " ".join(word for word in name.split() if word not in ("BLACK", "WHITE", "HEAVY", "LIGHT"))
        if (kind[0] == "L" and " WITH " in name) or plain in names:
            continue
        names.add(plain)
        found[codepoint] = category
    return found


def _spread(items: list[int], n: int) -> list[int]:
    """`n` of `items`, evenly spaced."""
    return [items[(2 * k + 1) * len(items) // (2 * n)] for k in range(n)]


def _shuffled(codepoints: list[int], seed: str) -> list[int]:
    """An order that depends on nothing but `seed` and each character."""
    return sorted(codepoints, key=lambda c: hashlib.sha256(f"{seed} {c}".encode()).digest())


def choose() -> list[GlyphClass]:
    """The table: distinct characters, the largest categories cut to size, shared out over the splits."""
    category_of = candidates()
    members: dict[str, list[int]] = defaultdict(list)
    for codepoint in distinct(list(category_of), ALIKE):
        members[category_of[codepoint]].append(codepoint)
    tiered: dict[int, str] = {}
    for split, (total, _) in SPLITS.items():
        mine = {category: members[category] for category, (of, _) in CATEGORIES.items() if of == split}
        sizes = {category: len(codepoints) for category, codepoints in mine.items()}
        while sum(sizes.values()) > total:
            sizes[max(sizes, key=lambda category: sizes[category])] -= 1
        if sum(sizes.values()) < total or min(sizes.values()) < 5:
            raise ValueError(f"too few distinct characters for {split}: {sizes}, {total} wanted, 5 or more a category")
        tiered |= {c: split for category, codepoints in mine.items() for c in _spread(codepoints, sizes[category])}
    by_category = {category: _shuffled([c for c in members[category] if c in tiered], "mini") for category in members}
    few = [c for rank in range(100) for codepoints in by_category.values() for c in codepoints[rank : rank + 1]]
    mini_order = _shuffled(few[: sum(n for _, n in SPLITS.values())], "mini split")
    mini_splits = [split for split, (_, n) in SPLITS.items() for _ in range(n)]
    mini = dict(zip(mini_order, mini_splits, strict=True))
    lent = [c for category, (of, _) in CATEGORIES.items() if of == "clutter" for c in members[category]]
    spare = sorted(c for codepoints in members.values() for c in codepoints if c not in tiered and c not in lent)
    if len(lent) + len(spare) < CLUTTER:
        raise ValueError(f"{len(lent) + len(spare)} distinct characters are left for clutter, {CLUTTER} wanted")
    tiered |= dict.fromkeys(lent + _spread(spare, CLUTTER - len(lent)), "clutter")
    return [
        GlyphClass(
            codepoint,
            unicodedata.name(chr(codepoint)),
            category_of[codepoint],
            split,
            mini.get(codepoint, ""),
            tuple(face for face in FACES if codepoint in covered(face) and ink(codepoint, face) is not None),
        )
        for codepoint, split in sorted(tiered.items())
    ]


def write_table(rows: list[GlyphClass], file: Path = TABLE) -> None:
    """Write ``glyph_classes.csv``: the fonts it was made from as comments, then a row a character."""
    with file.open("w", encoding="utf-8", newline="") as handle:
        handle.write(f"# matplotlib {matplotlib.__version__}; face number, name, sha256:\n")
        for number, (face, digest) in enumerate(font_digests().items()):
            handle.write(f"# {number} {face} {digest}\n")
        out = csv.writer(handle, lineterminator="\n")
        out.writerow(["codepoint", "name", "category", "tiered_split", "mini_split", "faces"])
        for r in rows:
            numbers = " ".join(str(FACES.index(face)) for face in r.faces)
            out.writerow([f"{r.codepoint:04X}", r.name, r.category, r.tiered_split, r.mini_split, numbers])


def distinct(codepoints: list[int], alike: float, block: int = 256) -> list[int]:
    """Those of `codepoints`, in ascending order, whose `likeness` to each one kept before them is at most `alike`."""
    ordered = sorted(codepoints)
    kept: list[int] = []
    views = np.zeros((0, 1024), np.float32)  # of the kept ones
    for start in range(0, len(ordered), block):
        new = ordered[start : start + block]
        if kept:  # first by one drawing each, which settles most
            near = (describe([image for image in map(drawing, new) if image]).reshape(-1, 1024) @ views.T).max(axis=1)
            new = [c for c, alikeness in zip(new, near, strict=True) if alikeness <= alike]
        if kept and new:
            new = [c for c, alikeness in zip(new, nearest(views, new), strict=True) if alikeness <= alike]
        found = []
        while new:
            first, *new = new
            own = turned(first)
            if kept and nearest(own, kept).max() > alike:
                continue
            kept.append(first)
            found.append(own)
            new = [c for c, alikeness in zip(new, nearest(own, new), strict=True) if alikeness <= alike]
        views = np.concatenate([views, *found])
    return kept


if __name__ == "__main__":
    write_table(choose())
