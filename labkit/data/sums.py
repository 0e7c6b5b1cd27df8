"""Checksums, of a cache and of other people's files: what was damaged or swapped is found when next read."""

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from labkit.common.errors import DataError

SUMS = "SHA256SUMS"  # in a cache folder; `sha256sum -c SHA256SUMS` reads it too
SETTLED_NS = 2_000_000_000  # a file that changed within so short a time may change again without a new time stamp
SMALL = 2**20  # bytes; a file with fewer is read in one piece

State: TypeAlias = tuple[int, ...]

_hashed: dict[str, tuple[State, str]] = {}  # what this process has hashed, by path
_checked: dict[Path, list[tuple[str, State]]] = {}  # what the cache folders checked by this process looked like


def state_of(file: Path | str) -> State:
    """What changes whenever somebody writes to a file or puts another in its place.

    The length and the time of the last change to the content can be made to lie (``rsync -t``, archives,
    ``os.utime``); the time of the last change to the inode is the system's own, and no program can set it.
    """
    status = os.stat(file)  # noqa: PTH116  # of sixty thousand files, where pathlib costs more than the disk
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def sum_of(file: Path | str) -> str:
    """SHA-256 of a file's content, hexadecimal: really read, the first time in this process and after every change."""
    path = str(file)
    before = state_of(path)
    known = _hashed.get(path)
    if known is not None and known[0] == before:
        return known[1]
    with open(path, "rb") as handle:  # noqa: PTH123
        if before[2] < SMALL:
            digest = hashlib.sha256(handle.read()).hexdigest()
        else:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        # Windows has no time of the inode; there, nothing is trusted.
        if os.name == "posix" and state_of(path) == before and time.time_ns() - max(before[3:]) > SETTLED_NS:
            _hashed[path] = before, digest
    return digest


def sums_of(root: Path, files: Iterable[Path]) -> str:
    """A line for each file, in its order: SHA-256, two spaces, name from `root`."""
    return "".join(f"{sum_of(file)}  {name_from(root, file)}\n" for file in files)


def name_from(root: Path, file: Path) -> str:
    """The path of `file` as seen from `root`."""
    start = f"{root}{os.sep}"
    return str(file)[len(start) :] if str(file).startswith(start) else os.path.relpath(file, root)


def contents_of(root: Path, files: Sequence[Path]) -> str:
    """32 hex digits that change with the name or the content of any of the files."""
    lines = sums_of(root, sorted(files)).encode(errors="surrogateescape")
    return hashlib.sha256(lines).hexdigest()[:32]


def write_sums(folder: Path) -> None:
    """Record the checksums of the files in `folder`, at once."""
    scratch = folder / f".{SUMS}-{os.getpid()}"
    scratch.write_text(sums_of(folder, _files(folder)), encoding="utf-8")
    scratch.replace(folder / SUMS)


def check_sums(folder: Path) -> None:
    """Compare a cache folder with its checksums, once a process: a second for a gigabyte or two.

    Raises:
        DataError: a file is damaged, missing, or does not belong there.
    """
    seen = [(file.name, state_of(file)) for file in (*_files(folder), folder / SUMS)]
    if _checked.get(folder) == seen:
        return
    recorded = (folder / SUMS).read_bytes()
    found = sums_of(folder, _files(folder)).encode()
    if recorded != found:
        kept, there = recorded.splitlines(), found.splitlines()
        names = {line[66:] for line in kept}
        foreign = [line for line in there if line[66:] not in names]
        missing = [line for line in kept if line[66:] not in {line[66:] for line in there}]
        damaged = [line for line in there if line not in (*kept, *foreign)]
        name, why = SUMS.encode(), f"damaged since it was written, or files renamed: {SUMS} lists others than are there"
        if damaged:
            name, why = damaged[0][66:], f"damaged since it was written, {SUMS} beside it says otherwise"
        elif foreign and not missing and [line for line in there if line not in foreign] == kept:
            name, why = foreign[0][66:], "does not belong into this cache"
        elif missing and not foreign and [line for line in kept if line not in missing] == there:
            name, why = missing[0][66:], "missing from this cache"
        raise DataError(f"{folder / name.decode(errors='replace')}: {why}; delete the folder, and it is made anew")
    _checked[folder] = seen


def _files(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if file.name != SUMS and not file.name.startswith(".") and file.is_file()
    )
