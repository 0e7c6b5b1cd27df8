"""Writing: a file is whole or not there, and a disk that refuses is named together with what to do."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# Why a file system refuses to be written to; any other error is not about writing and is passed on as it is.
REFUSALS = {
    errno.ENOSPC: "there is no room left on the disk, free some",
    errno.EDQUOT: "the disk quota is used up, free some",
    errno.EFBIG: "the file would be larger than is allowed, raise the limit",
    errno.EROFS: "the file system is read-only, write to another one",
    errno.EACCES: "there is no permission to write there, ask for it, or write to another folder",
    errno.EEXIST: "a file is where a folder should be, choose another place",
    errno.ENOTDIR: "a file is where a folder should be, choose another place",
    errno.EPERM: "there is no permission to write there, ask for it, or write to another folder",
}


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` at once: whoever reads it finds the old file or the new one, never half of one.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=scratch_prefix(path))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(scratch).chmod(0o644)  # mkstemp gives 0o600, which would hide shared results
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise


def append(path: Path, line: bytes) -> None:
    """Add `line` at the end of a file, in one piece or not at all.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    with explained(path), path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that fills up takes what fits, and refuses the rest
                line = line[file.write(line) :]
        except OSError:
            file.truncate(before)
            raise


def scratch_prefix(path: Path) -> str:
    """How the names of files and folders begin that are to become `path`; a writer that is killed leaves one."""
    return f".{path.name}-"


def remove_scratch(path: Path) -> None:
    """Delete what processes that were killed left behind of `path`. Only for one who knows that nobody writes it."""
    for scratch in path.parent.iterdir():
        if scratch.name.startswith(scratch_prefix(path)):
            shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """One process at a time writes `names` in `folder`; what an earlier one that was killed left half-written goes.

    Raises:
        BlockingIOError: another process is there.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BlockingIOError(f"another process works in {folder}: wait for it, or choose another folder") from None
    try:
        for name in names:
            remove_scratch(folder / name)
        yield
    finally:
        lock.release()


@contextmanager
def explained(path: Path, otherwise: str = "") -> Iterator[None]:
    """Say of a refused write what was to be written, why it cannot be, and what to do, or what to do `otherwise`.

    Raises:
        OSError: of the same number and kind (PermissionError for a lacking permission).
    """
    try:
        yield
    except OSError as error:
        name = error.filename  # none while writing, as opposed to opening
        ours = name is None or path.is_relative_to(name) or Path(name).is_relative_to(path.parent)
        if error.errno not in REFUSALS or not ours:
            raise
        what_to_do = REFUSALS[error.errno] + otherwise
        raise OSError(
            error.errno, f"{path} cannot be written: {what_to_do}; what was there before is untouched"
        ) from error
