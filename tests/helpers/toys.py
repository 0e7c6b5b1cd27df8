"""A tiny set of images that anything can learn: a bright square on noise, its place and colour given by the class."""

from __future__ import annotations

import numpy as np

from labkit.data.imageset import ImageSet, Provenance


def toy_images(classes: int = 6, per_class: int = 30, size: int = 24, seed: int = 0, split: str = "train") -> ImageSet:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    pixels = rng.integers(0, 60, (len(labels), size, size, 3), dtype=np.uint8)
    masks = np.zeros((len(labels), size, size), dtype=bool)
    third = size // 3
    for i, label in enumerate(labels):
        row, column = third * (label // 3 % 3), third * (label % 3)
        pixels[i, row : row + third, column : column + third] += np.uint8([80, 120, 190])[np.roll(range(3), label // 9)]
        masks[i, row : row + third, column : column + third] = True
    names = tuple(f"class {c}" for c in range(classes))
    where = Provenance("toy", split, "made", f"{size}x{size}", "none", f"seed{seed}", {})
    return ImageSet(pixels, labels, names, None, where, np.packbits(masks, axis=-1))
