"""Images: `load_images` finds, renders or decodes them; every source gives an `ImageSet`."""

import inspect
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from labkit.common import checks
from labkit.common.errors import DataError
from labkit.data.imageset import ImageSet, Provenance
from labkit.data.source import MAX_SIZE

__all__ = ["DataError", "ImageSet", "Provenance", "load_images"]

# Module and function of each reader, imported when it is used: whoever trains on glyphs needs no reader of HDF5. What
# `load_images` hands over is what a reader has parameters for.
READERS = {
    "glyphs-mini": "glyphs.load:load_glyphs",
    "glyphs-tiered": "glyphs.load:load_glyphs",
    "miniimagenet": "real:load_real",
    "tieredimagenet": "real:load_real",
    "cifar-fs": "cifar_fs:load_cifar_fs",
    "tinyimagenet": "tinyimagenet:load_tinyimagenet",
    "folder": "own_folder:load_folder",
}
FLAGS = ("progress", "check_counts", "download")  # options of several sources
SIZE = 84  # pixels; of the papers' miniImageNet and tieredImageNet
OWN_SIZES = {"cifar-fs": 32, "tinyimagenet": 64}  # as published


def load_images(
    name: str, split: str, *, root: Path | str | None = None, size: int | None = None, seed: int = 0, **options: Any
) -> ImageSet:
    """The images of one split, decoded, resized once and cached.

    Args:
        name: ``"glyphs-mini"`` or ``"glyphs-tiered"``, rendered here; ``"miniimagenet"`` or ``"tieredimagenet"``, in
            whichever known layout lies under `root`; ``"cifar-fs"``, classes of CIFAR-100 as torchvision keeps it;
            ``"tinyimagenet"``, further novel classes for what was trained on miniImageNet; ``"folder"``, your own
            images.
        split: ``"train"``, ``"val"`` or ``"test"``: base, validation and novel classes.
        root: folder of the files; ``$LABKIT_DATA`` where None. Not for glyphs.
        size: side of the images in pixels; None for 84, of ``"cifar-fs"`` for 32, of ``"tinyimagenet"`` for 64.
        seed: of rendered images, and of the split of your own classes.
        options: of the source: `labkit.data.glyphs.load.load_glyphs`, `labkit.data.real.load_real`,
            `labkit.data.cifar_fs.load_cifar_fs`, `labkit.data.tinyimagenet.load_tinyimagenet` or
            `labkit.data.own_folder.load_folder`.

    Raises:
        ValueError: an unknown name, or an argument the source cannot take.
        TypeError: an option that the source does not have, or a number that is none.
        DataError: files that are missing, damaged or not what they should be, named.
    """
    name, split, options = checks.text("name", name), checks.text("split", split), checks.plain(options)
    side = OWN_SIZES.get(name, SIZE) if size is None else checks.check_int("size", size, most=MAX_SIZE)
    seed = checks.check_seed(seed)
    options |= {option: checks.flag(option, options[option]) for option in FLAGS if option in options}
    if name not in READERS:
        raise ValueError(f"no dataset {name!r}; there are {', '.join(READERS)}")
    module, function = READERS[name].split(":")
    reader: Callable[..., ImageSet] = getattr(import_module(f"labkit.data.{module}"), function)
    taken = inspect.signature(reader).parameters
    checks.kind("root", root, (str, Path, type(None)), "the path of a folder")
    place = root or os.environ.get("LABKIT_DATA")
    if root is not None and "root" not in taken:
        raise ValueError(f"{name} is rendered here and read from no folder, got root={str(root)!r}")
    if "root" in taken and not place:
        raise DataError(f"{name} needs the folder its files lie in: pass root=... or set $LABKIT_DATA")
    if "per_class" in options and "per_class" not in taken:
        raise TypeError(
            f"{name} has no option 'per_class', which is of rendered pictures: leave it out, of an experiment with "
            'per_class=None, as JSON {"per_class": null}'
        )
    checks.options(name, reader, options)
    given = {"name": name, "split": split, "root": place, "size": side, "seed": seed}
    return reader(**{key: value for key, value in given.items() if key in taken}, **options)
