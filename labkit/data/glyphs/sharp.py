"""Pictures to be looked at: rendered ones in more pixels than a network reads, photographs as they are."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.data.glyphs.load import DATASETS, classes_of
from labkit.data.glyphs.scene import Difficulty, render
from labkit.data.imageset import ImageSet

SHOWN = 120  # pixels a side, of a rendered picture that is shown
FINER = 2  # times as many are rendered and averaged: smooth edges, and less grain for a PNG to store


def sharp(images: ImageSet, index: int) -> NDArray[np.uint8]:
    """Picture `index` of a set, to be looked at: uint8 [size, size, 3].

    A rendered one is rendered anew in `SHOWN` pixels a side, the same scene with less grain; a file's is as it is, and
    so is one whose scene is not known: of a set that was cut out of another by hand, or rendered by other fonts.
    """
    own: NDArray[np.uint8] = np.asarray(images.pixels[index])
    about = images.provenance
    if about.dataset not in DATASETS or images.size >= SHOWN:
        return own
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about.details["difficulty"].items()}
    rows, label = classes_of(about.dataset, about.split), int(images.labels[index])
    if label >= len(rows):
        return own
    number = index - int(images.class_indices[label][0])
    drawn = partial(render, rows[label], number, seed=about.details["seed"], difficulty=Difficulty(**given))
    if not np.array_equal(drawn(size=images.size)[0], own):
        return own
    fine = drawn(size=FINER * SHOWN)[0]
    averaged: NDArray[np.uint8] = fine.reshape(SHOWN, FINER, SHOWN, FINER, 3).mean((1, 3)).round().astype(np.uint8)
    return averaged
