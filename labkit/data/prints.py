"""What is known of a copy of pictures, to say whether another is the same: digests and mean colours, class by class."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labkit.common.errors import few
from labkit.data.decode import FORMATS, Picture
from labkit.data.source import SPLITS, Source
from labkit.data.sums import sum_of

REFERENCE = Path(__file__).with_name("miniimagenet.json")


@dataclass(frozen=True)
class ClassPrint:
    """One class of a copy.

    Attributes:
        images: how many there are.
        names: first 12 hex digits of the sha256 of the sorted file names; None where pictures are no files.
        contents: the same of names and contents.
        colour: mean R, G and B of all pixels, 0 to 255; None where pictures are not decoded yet.
    """

    images: int
    names: str | None = None
    contents: str | None = None
    colour: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class SplitPrint:
    """One split of a copy: its classes by name, the sizes of its pictures, and rows for the digest of the whole."""

    classes: dict[str, ClassPrint]
    sizes: dict[tuple[int, int], int]
    rows: bytes


@cache
def reference() -> dict[str, Any]:
    """The copy of miniImageNet that the lab's numbers come from: its digest, and its classes in each split."""
    known: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))
    for classes in known["splits"].values():
        for name, (images, names, contents, *colour) in classes.items():
            classes[name] = ClassPrint(images, names, contents, tuple(colour))
    return known


def print_of(source: Source, decoded: bool = False) -> SplitPrint:
    """What a split is made of; pictures that cannot be opened count as of 0 x 0 pixels.

    Args:
        source: a split, not yet decoded; its pictures are gone through once.
        decoded: take the mean colour of encoded pictures too, which decodes them all.
    """
    count = len(source.class_names)
    images, colours = np.bincount(source.labels, minlength=count), np.full((count, 3), np.nan)
    sums = np.zeros((count, 3))
    files: list[list[Path]] = [[] for _ in range(count)]
    with_colour = np.zeros(count, int)
    sizes: dict[tuple[int, int], int] = {}
    for label, picture in zip(source.labels, source.pictures, strict=False):
        if isinstance(picture, Path):
            files[label].append(picture)
        size, colour = _looked_at(picture, decoded)
        sizes[size] = sizes.get(size, 0) + 1
        if colour is not None:
            sums[label] += colour
            with_colour[label] += 1
    full = (with_colour == images) & (images > 0)
    colours[full] = sums[full] / images[full, None]
    classes, rows = {}, b""
    for label, name in enumerate(source.class_names):
        named, contents, more = _digests(files[label])
        rows += more
        mean = (float(colours[label, 0]), float(colours[label, 1]), float(colours[label, 2]))
        classes[name] = ClassPrint(int(images[label]), named, contents, mean if full[label] else None)
    return SplitPrint(dict(sorted(classes.items())), sizes, rows)


def digest_of_rows(splits: Iterable[SplitPrint]) -> str:
    """SHA-256 over the splits in order, of every file in order of class and name: its name, and its own SHA-256."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.rows)
    return digest.hexdigest()


def differences(split: str, found: SplitPrint) -> list[str]:
    """In what a split of miniImageNet differs from the copy that the lab's numbers come from; sentences."""
    known: dict[str, ClassPrint] = reference()["splits"][split]
    elsewhere = {name: other for other in SPLITS for name in reference()["splits"][other] if other != split}
    said = []
    if sizes := [f"{count} of {w}x{h}" for (w, h), count in sorted(found.sizes.items()) if (w, h) != (84, 84)]:
        said.append(f"pictures are not all of 84x84 pixels: {few(sizes)}")
    if not set(found.classes) & (set(known) | set(elsewhere)):
        return [*said, f"classes are called otherwise ({few(list(found.classes))}), so that none can be compared"]
    if missing := sorted(set(known) - set(found.classes)):
        said.append(f"lacks {len(missing)} classes: {few(missing)}")
    if foreign := sorted(set(found.classes) - set(known)):
        homes = [f"{name} (of {elsewhere.get(name, 'no split')})" for name in foreign]
        said.append(f"has {len(foreign)} classes that belong elsewhere: {few(homes)}")
    both = sorted(set(known) & set(found.classes))
    pairs = [(name, found.classes[name], known[name]) for name in both]
    if counts := [f"{name} {mine.images}" for name, mine, theirs in pairs if mine.images != theirs.images]:
        said.append(f"{len(counts)} classes have another number of pictures than 600: {few(counts)}")
    if names := [name for name, mine, theirs in pairs if mine.names not in (None, theirs.names)]:
        said.append(f"files have other names in {len(names)} classes: {few(names)}")
    same_names = [(name, mine, theirs) for name, mine, theirs in pairs if mine.names == theirs.names]
    if contents := [name for name, mine, theirs in same_names if mine.contents != theirs.contents]:
        said.append(
            f"files of the same names hold other bytes in {len(contents)} classes (resized or compressed otherwise, or "
            f"damaged): {few(contents)}"
        )
    shifts = {
        name: max(abs(a - b) for a, b in zip(mine.colour, theirs.colour, strict=True))
        for name, mine, theirs in pairs
        if mine.colour and theirs.colour
    }
    if other := [f"{name} by {shift:.1f}" for name, shift in shifts.items() if shift > 1]:
        said.append(f"mean colours differ by more than 1 of 255, other photographs, in {len(other)}: {few(other)}")
    return said


def _looked_at(picture: Picture, decoded: bool) -> tuple[tuple[int, int], NDArray[np.float64] | None]:
    """Width and height of a picture, and its mean colour if it is decoded."""
    if isinstance(picture, np.ndarray):
        return (picture.shape[1], picture.shape[0]), picture.reshape(-1, 3).mean(axis=0)
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS) as opened:
            size = opened.size
            if not decoded:
                opened.draft("RGB", (8, 8))  # a damaged file shows in an eighth of its pixels too
                opened.load()
                return size, None
            return size, np.asarray(opened.convert("RGB")).reshape(-1, 3).mean(axis=0)
    except Exception:  # decoders of broken files raise nearly anything
        return (0, 0), None


def _digests(files: Sequence[Path]) -> tuple[str | None, str | None, bytes]:
    if not files:
        return None, None, b""
    names = hashlib.sha256()
    rows = b""
    for file in sorted(files, key=lambda file: file.name):
        name = file.name.encode(errors="surrogateescape")
        names.update(name + b"\0")
        rows += name + bytes.fromhex(sum_of(file))
    return names.hexdigest()[:12], hashlib.sha256(rows).hexdigest()[:12], rows
