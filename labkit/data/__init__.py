"""Images: `load_images` finds, renders or decodes them; every source gives an `ImageSet`."""

import os
from pathlib import Path
from typing import Any

from labkit.common import checks
from labkit.common.errors import DataError
from labkit.data.glyphs import load as glyphs
from labkit.data.imageset import ImageSet, Provenance
from labkit.data.source import MAX_SIZE

__all__ = ["DataError", "ImageSet", "Provenance", "load_images"]

REAL = ("miniimagenet", "tieredimagenet")
FLAGS = ("progress", "check_counts", "download")  # options of several sources
SIZE = 84  # pixels; of the papers' miniImageNet and tieredImageNet


def load_images(
    name: str, split: str, *, root: Path | str | None = None, size: int | None = None, seed: int = 0, **options: Any
) -> ImageSet:
    """The images of one split, decoded, resized once and cached.

    Args:
        name: ``"glyphs-mini"`` or ``"glyphs-tiered"``, rendered here; ``"miniimagenet"`` or ``"tieredimagenet"``, in
            whichever known layout lies under `root`; ``"cifar-fs"``, classes of CIFAR-100 as torchvision keeps it;
            ``"folder"``, your own images.
        split: ``"train"``, ``"val"`` or ``"test"``: base, validation and novel classes.
        root: folder of the files; ``$LABKIT_DATA`` where None. Not for glyphs.
        size: side of the images in pixels; None for 84, of ``"cifar-fs"`` for 32.
        seed: of rendered images, and of the split of your own classes.
        options: of the source: `labkit.data.glyphs.load.load_glyphs`, `labkit.data.real.load_real`,
            `labkit.data.cifar_fs.load_cifar_fs` or `labkit.data.own_folder.load_folder`.

    Raises:
        ValueError: an unknown name, or an argument the source cannot take.
        TypeError: an option that the source does not have, or a number that is none.
        DataError: files that are missing, damaged or not what they should be, named.
    """
    name, split, options = checks.text("name", name), checks.text("split", split), checks.plain(options)
    side = (32 if name == "cifar-fs" else SIZE) if size is None else checks.check_int("size", size, most=MAX_SIZE)
    seed = checks.check_seed(seed)
    options |= {option: checks.flag(option, options[option]) for option in FLAGS if option in options}
    if name in glyphs.DATASETS:
        if root is not None:
            raise ValueError(f"{name} is rendered here and read from no folder, got root={str(root)!r}")
        checks.options(name, glyphs.load_glyphs, options)
        return glyphs.load_glyphs(name, split, size=side, seed=seed, **options)
    if name not in (*REAL, "cifar-fs", "folder"):
        there = ", ".join((*glyphs.DATASETS, *REAL, "cifar-fs", "folder"))
        raise ValueError(f"no dataset {name!r}; there are {there}")
    checks.kind("root", root, (str, Path, type(None)), "the path of a folder")
    place = root or os.environ.get("LABKIT_DATA")
    if not place:
        raise DataError(f"{name} needs the folder its files lie in: pass root=... or set $LABKIT_DATA")
    # Imported here: whoever trains on glyphs needs no reader of HDF5.
    if name == "folder":
        from labkit.data.own_folder import load_folder

        checks.options(name, load_folder, options)
        return load_folder(Path(place), split, size=side, seed=seed, **options)
    if name == "cifar-fs":
        from labkit.data.cifar_fs import load_cifar_fs

        checks.options(name, load_cifar_fs, options)
        return load_cifar_fs(split, Path(place), size=side, **options)
    from labkit.data.real import load_real

    checks.options(name, load_real, options)
    return load_real(name, split, Path(place), size=side, **options)
