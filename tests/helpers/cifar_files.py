"""Writes CIFAR-100 as Python 2 and torchvision keep it, and as picture files."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.helpers.real_files import python2_pickle, some_pixels

# The hundred classes as CIFAR-100's file `meta` lists them, in order of their numbers.
_LISTED = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR_NAMES = _LISTED.split()


def _called(label: int, row: int) -> str:
    return f"{CIFAR_NAMES[label]}_s_{row:06d}.png"


def write_cifar_folders(root: Path) -> None:
    """The pictures of `write_cifar` as PNG files, ``train/CLASS/NAME.png`` and ``test/CLASS/NAME.png``."""
    pixels = some_pixels(300, 32)
    for part, of_part in (("train", pixels[:200]), ("test", pixels[200:])):
        for row, picture in enumerate(of_part):
            file = root / part / CIFAR_NAMES[row % 100] / _called(row % 100, row)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)


def write_cifar(root: Path, order: int | None = None) -> NDArray[np.uint8]:
    """``cifar-100-python`` as Python 2 wrote it, three pictures a class: two in ``train`` and one in ``test``.

    Args:
        order: shuffles the rows, as the published files' are; None leaves them in order.

    Returns:
        uint8 [300, 32, 32, 3], those of ``train`` first; before they are shuffled, picture i is of class i modulo 100.
    """
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True, exist_ok=True)
    pixels = some_pixels(300, 32)
    for name, of_part in (("train", pixels[:200]), ("test", pixels[200:])):
        rows = list(range(len(of_part)))
        if order is not None:
            random.Random(order).shuffle(rows)
        part, fine = of_part[rows], [row % 100 for row in rows]
        table = {
            "filenames": [_called(row % 100, row) for row in rows],
            "batch_label": f"{name}ing batch 1 of 1",
            "fine_labels": fine,
            "coarse_labels": [label // 5 for label in fine],
            "data": part.transpose(0, 3, 1, 2).reshape(len(part), -1),
        }
        (folder / name).write_bytes(python2_pickle(table, 2))
    (folder / "meta").write_bytes(
        python2_pickle({"fine_label_names": CIFAR_NAMES, "coarse_label_names": ["x"] * 20}, 2)
    )
    return pixels
