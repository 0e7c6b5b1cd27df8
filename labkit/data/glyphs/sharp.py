"""Pictures to be looked at: rendered ones in more pixels than a network reads, photographs as they are."""

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

    A rendered one is rendered anew in `SHOWN` pixels a side, the same scene with less grain; a file's is as it is.
    """
    about = images.provenance
    if about.dataset not in DATASETS or images.size >= SHOWN:
        found: NDArray[np.uint8] = np.asarray(images.pixels[index])
        return found
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about.details["difficulty"].items()}
    label = int(images.labels[index])
    row, number = classes_of(about.dataset, about.split)[label], index - int(images.class_indices[label][0])
    fine, _ = render(row, number, size=FINER * SHOWN, seed=about.details["seed"], difficulty=Difficulty(**given))
    averaged: NDArray[np.uint8] = fine.reshape(SHOWN, FINER, SHOWN, FINER, 3).mean((1, 3)).round().astype(np.uint8)
    return averaged
