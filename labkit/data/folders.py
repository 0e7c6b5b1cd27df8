"""Image files in folders and CSV tables. Nothing outside the root is ever opened."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from labkit.common import checks
from labkit.common.errors import DataError
from labkit.common.files import first_bytes, is_folder
from labkit.common.names import read_alike, shown
from labkit.data.csv_table import find_file, read_rows
from labkit.data.decode import FORMATS, SUFFIXES
from labkit.data.left_out import LeftOut, is_litter, picture_kind
from labkit.data.source import Source, numbered


def real_root(root: Path | str) -> Path:
    """The folder `root` really is, links followed: the one place from where links may lead elsewhere.

    Raises:
        DataError: it is no folder, or an empty text.
        TypeError: it is no path.
    """
    if root == "":  # as of a shell's variable that is not set
        raise DataError("root is an empty text; expected a folder, '.' for the one in which Python runs")
    folder = checks.path("root", root, "the path of a folder")
    if not is_folder(folder):
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


def _is_inside(root: Path, path: Path) -> bool:
    try:
        return inside(root, path) == path
    except DataError:
        return False


def entries_of(root: Path, folder: Path, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """What lies in `folder`, sorted by name, without hidden files and without what systems leave behind.

    Raises:
        DataError: the folder cannot be read, or a link in it leads out of `root`.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error
    visible = []
    for entry in found:
        if is_litter(entry.name):
            left_out.litter.add("._*" if entry.name.startswith("._") else entry.name)
        elif not entry.name.startswith("."):
            visible.append(entry)
    return visible


def images_in(root: Path, folder: Path, left_out: LeftOut) -> list[Path]:
    """The image files directly in `folder`, sorted by name; the suffix counts in any case, hidden files never.

    Raises:
        DataError: a file is a link that leads out of `root`, or the folder cannot be read.
    """
    found = []
    for entry in entries_of(root, folder, left_out):
        path = Path(entry.path)
        if path.suffix.lower() in SUFFIXES:
            if entry.is_symlink():
                inside(root, path)
            if entry.is_file():
                found.append(path)
                continue
        elif entry.is_symlink() and not _is_inside(root, path):
            if is_folder(path):  # what is in it is not looked at
                left_out.pictures.append(f"{path.relative_to(root)}/ (a link to a folder outside {root})")
            continue
        if entry.is_dir():
            if any(path.iterdir()):
                left_out.pictures.append(f"{path.relative_to(root)}/ (a folder inside a class)")
        elif entry.is_file() and (kind := picture_kind(entry.name, first_bytes(path, 144))):
            how = "without one of the suffixes that are read" if kind in FORMATS else "a format that is not read"
            left_out.pictures.append(f"{path.relative_to(root)} ({kind}, {how})")
    return found


def told_apart(where: Path | str, names: Iterable[str]) -> None:
    """Raises:
    DataError: two classes have names that read alike, as ``é`` written as one letter and as two.
    """
    if alike := read_alike(names):
        raise DataError(
            f"{where}: two classes have names that read alike: {', '.join(shown(alike))}; rename or join them"
        )


def class_folders(root: Path, folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, the classes being the folders in `folder`, sorted by name.

    Warns:
        UserWarning: files that look like pictures are left out, and what systems leave behind.

    Raises:
        DataError: there is no class folder, or one of them holds no image, or leads out of `root`.
    """
    classes: dict[str, list[Path]] = {}
    left_out = LeftOut()
    for entry in entries_of(root, folder, left_out):
        path = Path(entry.path)
        if entry.is_symlink():
            inside(root, path)
        if not entry.is_dir():
            is_file = entry.is_file()
            if path.suffix.lower() in SUFFIXES or (is_file and picture_kind(entry.name, first_bytes(path, 144))):
                left_out.pictures.append(f"{path.relative_to(root)} (beside the class folders, in none of them)")
            continue
        classes[path.name] = images_in(root, path, left_out)
        if not classes[path.name]:
            start = f"{path.relative_to(root)}{os.sep}"
            other = next((f", found {name}" for name in left_out.pictures if name.startswith(start)), "")
            raise DataError(
                f"{path}: class {path.name!r} is empty, expected images directly in its folder "
                f"({', '.join(sorted(SUFFIXES))}){other}; add some or remove the folder"
            )
    left_out.warn(folder)
    told_apart(folder, classes)
    if not classes:
        raise DataError(f"{folder}: expected a folder for each class with images in it, there is none")
    return classes


def csv_images(root: Path, table: Path, folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, as a CSV table lists them, the classes sorted by name.

    Args:
        root: nothing outside it is opened.
        table: has a header and a row an image, see `labkit.data.csv_table`.
        folder: the paths in the table start here.

    Raises:
        DataError: no such header, an empty or repeated or missing entry, a path that leaves `root`.
    """
    classes: dict[str, list[Path]] = {}
    lines: dict[Path, int] = {}
    missing: list[str] = []
    checked: set[Path] = set()
    for line, name, class_name in read_rows(table):
        if ".." in name.replace("\\", "/").split("/"):
            raise DataError(
                f"{table}, line {line}: {name!r:.100} leaves {folder}; give paths that start in that folder"
            )
        found = find_file(folder, name)
        path = found or folder / name
        if path in lines:
            raise DataError(f"{table}, line {line}: {name!r:.100} is listed already in line {lines[path]}; remove one")
        lines[path] = line
        if found is None:
            missing.append(name[:80])
            continue
        if path.parent not in checked or path.is_symlink():  # the folder of a file is looked at once
            inside(root, path)
            inside(root, path.parent)
            checked.add(path.parent)
        classes.setdefault(class_name, []).append(path)
    if missing:
        more = ", ..." if len(missing) > 5 else ""
        raise DataError(
            f"{table}: {len(missing)} of its {len(lines)} images are not in {folder}: {', '.join(missing[:5])}{more}"
            + ("; write paths with / in place of \\" if any("\\" in name for name in missing) else "")
        )
    told_apart(table, classes)
    return dict(sorted(classes.items()))


def source_of(root: Path, classes: Mapping[str, Sequence[Path]]) -> Source:
    """A split made of image files."""
    files = [file for images in classes.values() for file in images]
    labels, names = numbered([name for name, images in classes.items() for _ in images])
    return Source(files, lambda i: str(files[i].relative_to(root)), labels, names)
