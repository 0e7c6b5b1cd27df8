"""Tiny ImageNet's classes that miniImageNet has not: 174, with 500 pictures of 64 x 64 pixels each, all of them novel.

Stanford's course CS231n made the set out of 200 classes of ImageNet; it has no published split for few-shot learning.
Twenty novel classes decide little of other classes (`labkit.evaluation.intervals.over_classes`). To a network that was
trained on miniImageNet, whose base, validation and novel classes are among ImageNet's too, these 174 are novel as well.
Of the 200 it has 25 by WordNet's numbers, and one more by its pictures (`SAME_PICTURES`).

Read are the pictures for training, ``train/n01443537/images/*.JPEG``; those for validation lie in one folder, fifty of
a class, and are left alone. Of every picture it is published in which box its object lies,
``train/n01443537/n01443537_boxes.txt``; these boxes are the masks of the `ImageSet`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labkit.common.errors import DataError, few
from labkit.data.folders import entries_of, images_in, inside, real_root, source_of
from labkit.data.imageset import ImageSet
from labkit.data.left_out import LeftOut
from labkit.data.source import SPLITS, Source, check_choice, load
from labkit.data.wordnet import words, words_of_tinyimagenet

NAME, LAYOUT, SIDE = "tinyimagenet", "folders of images/", 64  # pixels
TRAINED_ON = "miniimagenet"
# "projectile, missile" holds photographs of miniImageNet's validation class n03773504, "missile". (Of all others one
# photograph was found in both: a fishing rod, in miniImageNet's base class "reel" and in "pole" here.)
SAME_PICTURES = frozenset({"n04008634"})
BOXES = "boxes"  # what the provenance's details call masks that are no more


def novel_classes() -> tuple[str, ...]:
    """WordNet's numbers of the 174 classes, sorted."""
    return tuple(sorted(words_of_tinyimagenet().keys() - words().keys() - SAME_PICTURES))


def load_tinyimagenet(
    split: str,
    root: Path | str,
    *,
    size: int = SIDE,
    resampling: str = "bilinear",
    check_counts: bool = True,
    progress: bool = True,
) -> ImageSet:
    """The novel classes of Tiny ImageNet; the objects' boxes are its masks, where the files with boxes are there.

    Args:
        split: ``"test"``, the only one there is.
        root: holds ``train/`` as the published archive does, or is the folder around ``tiny-imagenet-200/``.
        size: side of the images in pixels.
        resampling: filter of the resize from 64 pixels, a name of `PIL.Image.Resampling`.
        check_counts: refuse files that lack a class; False for subsets.

    Raises:
        DataError: the files are not there or damaged, or there is no such split.
        ValueError: an argument has none of the allowed values.
    """
    check_choice("split", split, SPLITS)
    if split != "test":
        raise DataError(
            f"{NAME} has novel classes alone, for networks that were trained on {TRAINED_ON}, and no {split} split: "
            'pass split="test"'
        )
    folder = real_root(root)
    classes = files_of(folder)
    images = load(
        NAME,
        split,
        LAYOUT,
        folder,
        [file for files in classes.values() for file in files],
        partial(source_of, folder, classes),
        size=size,
        resampling=resampling,
        expected=len(novel_classes()) if check_counts else None,
        progress=progress,
    )
    boxes = boxes_of(folder, classes)
    if boxes is None:
        return images
    about = replace(images.provenance, details=images.provenance.details | {"masks": BOXES})
    return replace(images, packed_masks=packed(boxes, images.size), provenance=about).with_known_digest()


def boxes_of(root: Path, classes: Mapping[str, Sequence[Path]]) -> NDArray[np.int64] | None:
    """The box of every picture, (left, top, right, bottom) in its 64 pixels, the last ones included: [n, 4].

    None where no class has a file of boxes, as in copies that hold pictures alone.

    Raises:
        DataError: such a file is not there, lacks a picture, or a line of it is no box.
    """
    found = []
    of_classes = {name: files[0].parents[1] / f"{name}_boxes.txt" for name, files in classes.items()}
    lack = [name for name, listed in of_classes.items() if not listed.is_file()]
    if len(lack) == len(classes):
        return None
    if lack:
        raise DataError(f"{root}: expected a file of boxes in the folder of each class, there is none for {few(lack)}")
    for name, files in classes.items():
        listed = of_classes[name]
        of_class: dict[str, list[int]] = {}
        lines = inside(root, listed).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        for number, line in ((number, line) for number, line in enumerate(lines, 1) if line.strip()):
            file, *sides = line.split("\t")
            whole = [int(side) if side.isdecimal() else SIDE for side in sides]
            if len(whole) != 4 or not (whole[0] <= whole[2] < SIDE and whole[1] <= whole[3] < SIDE):
                raise DataError(
                    f"{listed}, line {number}: expected a file's name and left, top, right and bottom from 0 to "
                    f"{SIDE - 1}, with tabs between them, got {line!r:.100}"
                )
            of_class[file] = whole
        if lacking := [file.name for file in files if file.name not in of_class]:
            raise DataError(f"{listed}: expected a box for each picture, there is none for {few(lacking)}")
        found += [of_class[file.name] for file in files]
    return np.array(found)


def packed(boxes: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Boxes in pictures of `size` pixels as `ImageSet.packed_masks` holds them: [n, size, ceil(size / 8)].

    A pixel is in the box if its centre is, or if it holds the middle of the box, which may be narrower than a pixel.
    """
    pixels = np.arange(size)
    centres = (pixels + 0.5) * SIDE / size
    left, top, right, bottom = (boxes[:, k, None] for k in range(4))

    def along(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.bool_]:
        middle = (first + last + 1) * size // (2 * SIDE)
        inside_of: NDArray[np.bool_] = ((first <= centres) & (centres < last + 1)) | (pixels == middle)
        return inside_of

    across, down = along(left, right), along(top, bottom)
    return np.where(down[:, :, None], np.packbits(across, axis=1)[:, None], np.uint8(0))


def digest() -> str:
    """Of the pictures that the lab measured on, as `labkit.data.check` computes it."""
    return str(json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))["digest"])


def find(root: Path) -> Path | None:
    """The folder ``train/`` of Tiny ImageNet under `root`; None where no class of it is there."""
    for folder in (root / "train", root / "tiny-imagenet-200" / "train"):
        if any((folder / name / "images").is_dir() for name in novel_classes()):
            return inside(root, folder)
    return None


def read(root: Path) -> Source:
    """The pictures of all novel classes that are there, as files."""
    return source_of(root, files_of(root))


def files_of(root: Path) -> dict[str, list[Path]]:
    """The pictures of each novel class that is there.

    Raises:
        DataError: none is there, a class has no pictures, or a link leads out of `root`.
    """
    folder = find(root)
    if folder is None:
        raise DataError(
            f"{root}: expected Tiny ImageNet as it was published, train/n01443537/images/*.JPEG and so on for each "
            "class; unpack tiny-imagenet-200.zip there"
        )
    left_out = LeftOut()
    there = {entry.name for entry in entries_of(root, folder, left_out)}
    found = {name: _pictures(root, folder / name, left_out) for name in novel_classes() if name in there}
    left_out.warn(folder)
    return found


def _pictures(root: Path, folder: Path, left_out: LeftOut) -> list[Path]:
    images = folder / "images"
    if found := images_in(root, inside(root, images), left_out) if images.is_dir() else []:
        return found
    raise DataError(f"{folder}: expected its pictures in images/, there are none; unpack the archive anew")
