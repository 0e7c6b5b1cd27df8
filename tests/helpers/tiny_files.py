"""Writes a small Tiny ImageNet as its archive holds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.helpers.real_files import some_pixels

BOX = (16, 8, 47, 63)  # left, top, right, bottom


def write_tiny(root: Path, classes: Sequence[str], images: int = 2) -> None:
    """``train/CLASS/images/CLASS_0.JPEG`` and so on, with `BOX` around every object, and ``val/images/``."""
    for c, name in enumerate(classes):
        folder = root / "train" / name / "images"
        folder.mkdir(parents=True)
        sides = "\t".join(map(str, BOX))
        boxes = (f"{name}_{i}.JPEG\t{sides}\n" for i in reversed(range(images)))
        (folder.parent / f"{name}_boxes.txt").write_text("".join(boxes))
        for i, picture in enumerate(some_pixels(images, 64, seed=c)):
            Image.fromarray(picture).save(folder / f"{name}_{i}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    Image.fromarray(some_pixels(1, 64)[0]).save(root / "val" / "images" / "val_0.JPEG")
    (root / "wnids.txt").write_text("\n".join(classes))
