"""Image files in folders and CSV tables. Nothing outside the root is ever opened."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.common.errors import DataError
from labkit.data.decode import SUFFIXES
from labkit.data.source import Source, numbered

# Heads of the two columns that are read; others may stand beside them.
CSV_HEADS = (("filename", "label"), ("path", "class"))


def real_root(root: Path | str) -> Path:
    """The folder `root` really is, links followed: the one place from where links may lead elsewhere.

    Raises:
        DataError: it is no folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{root}: expected a folder with the data set in it, there is none")
    return folder.resolve()


def inside(root: Path, path: Path) -> Path:
    """`path`, if it exists and, all links followed, lies under `root`, itself without links.

    Raises:
        DataError: it leaves the root, or leads nowhere.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise DataError(f"{path}: cannot be opened ({error}); remove the link or restore what it points to") from error
    if not real.is_relative_to(root):
        raise DataError(f"{path}: lies or links outside {root}, which is not followed; put the file itself there")
    return path


def images_in(root: Path, folder: Path) -> list[Path]:
    """The image files directly in `folder`, sorted by name; the suffix counts in any case, hidden files never.

    Raises:
        DataError: a file is a link that leads out of `root`.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if path.suffix.lower() in SUFFIXES and not entry.name.startswith("."):
                if entry.is_symlink():
                    inside(root, path)
                if entry.is_file():
                    found.append(path)
    return sorted(found)


def class_folders(root: Path, folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, the classes being the folders in `folder`, sorted by name.

    Raises:
        DataError: there is no class folder, or one of them holds no image, or leads out of `root`.
    """
    classes: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            inside(root, path)
        if path.name.startswith(".") or not path.is_dir():
            continue
        classes[path.name] = images_in(root, path)
        if not classes[path.name]:
            raise DataError(
                f"{path}: class {path.name!r} is empty, expected images directly in its folder "
                f"({', '.join(sorted(SUFFIXES))}); add some or remove the folder"
            )
    if not classes:
        raise DataError(f"{folder}: expected a folder for each class with images in it, there is none")
    return classes


def csv_images(root: Path, table: Path, folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, as a CSV table lists them, the classes sorted by name.

    Args:
        root: nothing outside it is opened.
        table: has a header and a row an image, see `CSV_HEADS`.
        folder: the paths in the table start here.

    Raises:
        DataError: no such header, an empty or repeated or missing entry, a path that leaves `root`.
    """
    classes: dict[str, list[Path]] = {}
    lines: dict[Path, int] = {}
    missing: list[str] = []
    for line, name, class_name in _rows(table):
        if ".." in name.replace("\\", "/").split("/"):
            raise DataError(
                f"{table}, line {line}: {name!r:.100} leaves {folder}; give paths that start in that folder"
            )
        path = folder / name
        if path in lines:
            raise DataError(f"{table}, line {line}: {name!r:.100} is listed already in line {lines[path]}; remove one")
        lines[path] = line
        if not _is_file(path):
            missing.append(name[:80])
            continue
        classes.setdefault(class_name, []).append(inside(root, path))
    if missing:
        more = ", ..." if len(missing) > 5 else ""
        raise DataError(
            f"{table}: {len(missing)} of its {len(lines)} images are not in {folder}: {', '.join(missing[:5])}{more}"
        )
    return dict(sorted(classes.items()))


def _rows(table: Path) -> list[tuple[int, str, str]]:
    """Line number, path and class of each row."""
    rows = []
    if not _is_file(table):  # reading a pipe would wait for ever
        raise DataError(f"{table}: not a readable CSV table (no such file)")
    try:
        with table.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, skipinitialspace=True)
            heads = next((pair for pair in CSV_HEADS if set(pair) <= set(reader.fieldnames or ())), None)
            if heads is None:
                wanted = " or ".join(",".join(pair) for pair in CSV_HEADS)
                raise DataError(
                    f"{table}: expected a first line {wanted}, got {','.join(reader.fieldnames or ())!r:.80}"
                )
            for row in reader:
                name, class_name = ((row[head] or "").strip() for head in heads)
                if not name or not class_name:
                    raise DataError(f"{table}, line {reader.line_num}: expected a path and a class, one is empty")
                rows.append((reader.line_num, name, class_name))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a readable CSV table in UTF-8 ({error})") from error
    return rows


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for a file
        return False


def source_of(root: Path, classes: Mapping[str, Sequence[Path]]) -> Source:
    """A split made of image files."""
    files = [file for images in classes.values() for file in images]
    labels, names = numbered([name for name, images in classes.items() for _ in images])
    return Source(files, lambda i: str(files[i].relative_to(root)), labels, names)
