"""Checksums, of a cache and of other people's files: what a disk or a copy has damaged is found when next read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from labkit.common.errors import DataError

SUMS = "SHA256SUMS"  # in a cache folder; `sha256sum -c SHA256SUMS` reads it too

_checked: dict[Path, list[tuple[str, int, int]]] = {}  # what the folders checked by this process looked like


def sums_of(root: Path, files: Iterable[Path]) -> str:
    """A line for each file, in its order: SHA-256, two spaces, name from `root`."""
    lines = []
    for file in files:
        with file.open("rb") as handle:
            lines.append(f"{hashlib.file_digest(handle, 'sha256').hexdigest()}  {os.path.relpath(file, root)}\n")
    return "".join(lines)


def write_sums(folder: Path) -> None:
    """Record the checksums of the files in `folder`, at once."""
    scratch = folder / f".{SUMS}-{os.getpid()}"
    scratch.write_text(sums_of(folder, _files(folder)))
    scratch.replace(folder / SUMS)


def check_sums(folder: Path) -> None:
    """Compare a cache folder with its checksums, once a process: a second for a gigabyte or two.

    Raises:
        DataError: a file is damaged.
    """
    seen = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in (*_files(folder), folder / SUMS)]
    if _checked.get(folder) == seen:
        return
    recorded = (folder / SUMS).read_bytes()
    found = sums_of(folder, _files(folder)).encode()
    if recorded != found:
        kept = recorded.splitlines()
        damaged = [line[66:].decode() for line in found.splitlines() if line not in kept] or [SUMS]
        raise DataError(
            f"{folder / damaged[0]}: damaged since it was written, {SUMS} beside it says otherwise; "
            f"delete the folder, and it is made anew"
        )
    _checked[folder] = seen


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name != SUMS and not file.name.startswith("."))
