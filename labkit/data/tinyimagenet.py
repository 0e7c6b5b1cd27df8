"""Tiny ImageNet's classes that miniImageNet has not: 175, with 500 pictures of 64 x 64 pixels each, all of them novel.

Stanford's course CS231n made the set out of 200 classes of ImageNet; it has no published split for few-shot learning.
Twenty novel classes decide little of other classes (`labkit.evaluation.intervals.over_classes`). To a network that was
trained on miniImageNet, whose base, validation and novel classes are among ImageNet's too, these 175 are novel as well.
Read are the pictures for training, ``train/n01443537/images/*.JPEG``; those for validation lie in one folder, fifty of
a class, and are left alone.
"""

import json
from functools import partial
from pathlib import Path

from labkit.common.errors import DataError
from labkit.data.folders import entries_of, images_in, inside, real_root, source_of
from labkit.data.imageset import ImageSet
from labkit.data.left_out import LeftOut
from labkit.data.source import SPLITS, Source, check_choice, load
from labkit.data.wordnet import words, words_of_tinyimagenet

NAME, LAYOUT, SIDE = "tinyimagenet", "folders of images/", 64  # pixels
TRAINED_ON = "miniimagenet"


def novel_classes() -> tuple[str, ...]:
    """WordNet's numbers of the 175 classes, sorted."""
    return tuple(sorted(words_of_tinyimagenet().keys() - words().keys()))


def load_tinyimagenet(
    split: str,
    root: Path | str,
    *,
    size: int = SIDE,
    resampling: str = "bilinear",
    check_counts: bool = True,
    progress: bool = True,
) -> ImageSet:
    """The novel classes of Tiny ImageNet.

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
    return load(
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
