"""CIFAR-FS: CIFAR-100's classes, 64 base, 16 validation and 20 novel ones; 600 pictures of 32 x 32 pixels each.

Bertinetto, Henriques, Torr and Vedaldi, "Meta-learning with differentiable closed-form solvers", ICLR 2019. Two layouts
are read, and give the same pictures in the same order: a class's pictures for training by their file names, then those
for the test.

- ``cifar-100-python``: the files of Krizhevsky's CIFAR-100 for Python, as torchvision's `CIFAR100` keeps them. They are
  pickles, and are read through the lab's own list of permitted types.
- ``folders``: ``train/`` and ``test/``, in each a folder for every class of CIFAR-100 with picture files.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from labkit.common import checks
from labkit.common.errors import DataError
from labkit.common.files import expanded, make_folder
from labkit.common.safe_pickle import load_pickle
from labkit.data.fields import integers, kind, same_length, strings, table
from labkit.data.folders import class_folders, inside, real_root, source_of
from labkit.data.imageset import ImageSet
from labkit.data.source import SPLITS, Source, check_choice, load, numbered

FOLDER = "cifar-100-python"
FILES = ("train", "test", "meta")
PARTS = ("train", "test")  # of CIFAR-100
SIDE = 32  # pixels

# Which class of CIFAR-100 is in which split: facts, with their source.
CLASSES: dict[str, list[str]] = {
    split: names
    for split, names in json.loads(Path(__file__).with_name("cifar_fs.json").read_text(encoding="utf-8")).items()
    if split in SPLITS
}


def load_cifar_fs(
    split: str,
    root: Path | str,
    *,
    size: int = SIDE,
    resampling: str = "bilinear",
    download: bool = False,
    check_counts: bool = True,
    progress: bool = True,
) -> ImageSet:
    """One split of CIFAR-FS.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: holds the folder ``cifar-100-python``, or is it; or holds ``train/`` and ``test/`` with class folders.
        size: side of the images in pixels.
        resampling: filter of the resize from 32 pixels, a name of `PIL.Image.Resampling`.
        download: fetch the files (169 MB) into `root` if they are not there. Never fetched unless asked.
        check_counts: refuse files that lack a class of the split; False for subsets.

    Raises:
        DataError: the files are not there, cannot be fetched, or are damaged.
        ValueError: an argument has none of the allowed values.
    """
    check_choice("split", split, SPLITS)
    if checks.flag("download", download):
        fetch(root)
    folder = real_root(root)
    files = find(folder)
    if files is not None:
        layout, read = FOLDER, partial(read_split, split, files)
    elif is_in_folders(folder):
        files = [file for found in of_folders(split, folder).values() for file in found]
        layout, read = "folders", partial(read_folders, split, folder)
    else:
        raise DataError(
            f"{folder}: expected {FOLDER}/ with {', '.join(FILES)} in it, as torchvision keeps CIFAR-100, or "
            "train/ and test/ with a folder for each class; unpack cifar-100-python.tar.gz there, or pass download=True"
        )

    return load(
        "cifar-fs",
        split,
        layout,
        folder,
        files,
        read,
        size=size,
        resampling=resampling,
        details={"order": "by file name"},  # what an earlier lab put into the cache has another
        expected=len(CLASSES[split]) if check_counts else None,
        progress=progress,
    )


def find(root: Path) -> list[Path] | None:
    """The files of CIFAR-100 under `root`, or in it; None where one is missing."""
    for folder in (root / FOLDER, root):
        if all((folder / name).is_file() for name in FILES):
            return [inside(root, folder / name) for name in FILES]
    return None


def is_in_folders(root: Path) -> bool:
    """Whether `root` holds ``train/`` and ``test/`` with folders of CIFAR-100's classes and no others."""
    known = {name for names in CLASSES.values() for name in names}
    found = [{each.name for each in (root / part).glob("[!.]*/")} for part in PARTS]
    return found[0] == found[1] and bool(found[0]) and found[0] <= known


def of_folders(split: str, root: Path) -> dict[str, list[Path]]:
    """The picture files of each class of a split, those for training first."""
    train, test = (class_folders(root, root / part) for part in PARTS)
    return {name: [*train[name], *test[name]] for name in CLASSES[split] if name in train}


def read_folders(split: str, root: Path) -> Source:
    """The pictures of a split, as files."""
    return source_of(root, of_folders(split, root))


def fetch(root: Path | str) -> None:
    """Download CIFAR-100 into `root` through torchvision, which checks the archive's MD5, unless it is there.

    Raises:
        DataError: it cannot be fetched, or what is there is not what was published.
    """
    folder = expanded(root)
    make_folder(folder)
    if (found := find(folder.resolve())) is not None:
        if others := not_as_published(found):
            raise DataError(
                f"{folder}: CIFAR-100 is there, but {', '.join(others)} is not as published, perhaps cut short; delete "
                "it to have it downloaded anew, or leave download out to read it as it is"
            )
        return
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        download_and_extract_archive(CIFAR100.url, folder, filename=CIFAR100.filename, md5=CIFAR100.tgz_md5)
    except (OSError, RuntimeError) as error:  # no network, no room, or another file
        raise DataError(
            f"{folder}: CIFAR-100 cannot be fetched from {CIFAR100.url} ({error}); download and unpack it there"
        ) from error


def not_as_published(files: Sequence[Path]) -> list[str]:
    """Names of those of CIFAR-100's files that are not what was published, by torchvision's MD5 sums."""
    from torchvision.datasets import CIFAR100

    published = dict(map(tuple, (*CIFAR100.train_list, *CIFAR100.test_list)))
    published[CIFAR100.meta["filename"]] = CIFAR100.meta["md5"]
    others = []
    for file in files:
        with file.open("rb") as handle:
            if hashlib.file_digest(handle, "md5").hexdigest() != published[file.name]:
                others.append(file.name)
    return others


def read_split(split: str, files: list[Path]) -> Source:
    """The pictures whose class is of the split."""
    train, test, meta = files
    names = strings(table(load_pickle(meta), meta, "fine_label_names")[0], f"{meta}, 'fine_label_names'")
    wanted = {number for number, name in enumerate(names) if name in CLASSES[split]}
    pictures, labels, places, keys = [], [], [], []
    for part, file in enumerate((train, test)):
        data, fine, called = table(load_pickle(file), file, "data", "fine_labels", "filenames")
        called = strings(called, f"{file}, 'filenames'")
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * SIDE * SIDE,):
            raise DataError(f"{file}, 'data': expected uint8 [n, {3 * SIDE * SIDE}], got {kind(data)}")
        found = integers(fine, f"{file}, 'fine_labels'")
        same_length(file, images=len(data), labels=len(found), filenames=len(called))
        if len(found) and not 0 <= found.min() <= found.max() < len(names):
            raise DataError(f"{file}: expected labels from 0 to {len(names) - 1}, got {found.min()} to {found.max()}")
        chosen = np.flatnonzero(np.isin(found, sorted(wanted)))
        pictures.append(data[chosen].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        labels += [names[number] for number in found[chosen]]
        places += [f"{file.name}, image {place}" for place in chosen]
        keys += [(names[found[place]], part, called[place]) for place in chosen]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    numbers, class_names = numbered([labels[i] for i in order])
    return Source(np.concatenate(pictures)[order], lambda i: places[order[i]], numbers, class_names)
