"""Writes CIFAR-100 as Python 2 and torchvision keep it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def write_cifar(root: Path) -> NDArray[np.uint8]:
    """``cifar-100-python`` as Python 2 wrote it, three pictures a class: two in ``train`` and one in ``test``.

    Returns:
        uint8 [300, 32, 32, 3], those of ``train`` first; picture i is of class i modulo 100.
    """
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True, exist_ok=True)
    pixels = some_pixels(300, 32)
    for name, part in (("train", pixels[:200]), ("test", pixels[200:])):
        fine = [i % 100 for i in range(len(part))]
        table = {
            "filenames": [f"{CIFAR_NAMES[label]}_s_{i:06d}.png" for i, label in enumerate(fine)],
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
