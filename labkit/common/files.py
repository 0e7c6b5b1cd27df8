"""Writing: a file is whole or not there, and a disk that refuses is named together with what to do; so is JSON that is
damaged."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labkit.common.errors import printable

# Why a file system refuses to be written to; any other error is not about writing and is passed on as it is.
REFUSALS = {
    errno.ENOSPC: "there is no room left on the disk, free some",
    errno.EDQUOT: "the disk quota is used up, free some",
    errno.EFBIG: "the file would be larger than is allowed, raise the limit",
    errno.EROFS: "the file system is read-only, write to another one",
    errno.EACCES: "there is no permission to write there, ask for it, or write to another folder",
    errno.EEXIST: "a file is where a folder should be, choose another place",
    errno.ENOTDIR: "a file is where a folder should be, choose another place",
    errno.ENAMETOOLONG: "its name is longer than the file system takes, choose a shorter one",
    errno.EPERM: "there is no permission to write there, ask for it, or write to another folder",
}


def expanded(path: Path | str) -> Path:
    """`path`, with a ``~`` or ``~user`` at its start replaced by that home folder, where there is one."""
    return Path(os.path.expanduser(path))  # unlike Path.expanduser it leaves an unknown user alone  # noqa: PTH111


def is_file(path: Path) -> bool:
    """Whether `path` is a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; a name that no file system takes is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        OSError: it cannot be made; says why, and what to do.
    """
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path | str, content: bytes) -> None:
    """Replace `path` by `content` at once: whoever reads it finds the old file or the new one, never half of one.

    A ``~`` at the start of `path` is the user's home folder.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    path = expanded(path)
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


def write_json(path: Path | str, content: Any) -> None:
    """`write_atomically` what is made of JSON types, to be read by people too."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path | str, what_to_do: str = "delete it, and it is made anew") -> Any:
    """What `write_json` wrote.

    It writes files whole, so what is no JSON was damaged by a disk or by hand. That is said, and nothing is made anew
    unasked: a result may have taken days.

    Raises:
        ValueError: the file is damaged; `what_to_do` ends the sentence.
        OSError: it cannot be read.
    """
    path = expanded(path)
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(printable(f"{path} is damaged ({error}); {what_to_do}")) from None


def read_lines(path: Path | str, what_to_do: str) -> list[Any]:
    """What the lines of a file say, each of them JSON.

    Raises:
        ValueError: a line is damaged; `what_to_do` ends the sentence.
        OSError: it cannot be read.
    """
    path, found = expanded(path), []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(printable(f"{path}, line {number} is damaged ({error}); {what_to_do}")) from None
    return found


def append(path: Path | str, line: bytes) -> None:
    """Add `line` at the end of a file, in one piece or not at all.

    A ``~`` at the start of `path` is the user's home folder.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    path = expanded(path)
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


# How files begin that lie where something else was expected, and what they are.
INSTEAD = {
    b"\x1f\x8b": "packed with gzip; unpack it (gunzip)",
    b"BZh": "packed with bzip2; unpack it (bunzip2)",
    b"\xfd7zXZ": "packed with xz; unpack it (unxz)",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it (unzstd)",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
    b"PK\x03\x04": "a zip archive; unpack it, or see what it holds",
    b"version https://git-lfs": "a pointer of Git LFS, not the file; fetch it with git lfs pull",
    b"<!doctype html": "a web page, not the file; the download failed, try it again in a browser",
    b"<html": "a web page, not the file; the download failed, try it again in a browser",
}


def instead(content: bytes) -> str | None:
    """What a file is by its first bytes, if it is one of `INSTEAD`, and what to do about it."""
    start = content[:64].lstrip().lower()
    return next((what for first, what in INSTEAD.items() if start.startswith(first.lower())), None)


def first_bytes(file: Path, count: int = 64) -> bytes:
    """The first bytes of a file, none where it cannot be read."""
    try:
        with file.open("rb") as handle:
            return handle.read(count)
    except OSError:
        return b""


@contextmanager
def exclusive(folder: Path | str, names: Iterable[str]) -> Iterator[None]:
    """One process at a time writes `names` in `folder`; what an earlier one that was killed left half-written goes.

    Raises:
        BlockingIOError: another process is there.
    """
    folder = expanded(folder)
    make_folder(folder)
    with explained(folder):
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
        there, own = Path(name or path).absolute(), path.absolute()  # mkstemp's are, where ours may not be
        ours = own.is_relative_to(there) or there.is_relative_to(own.parent)
        if error.errno not in REFUSALS or not ours:
            raise
        what_to_do = REFUSALS[error.errno] + otherwise
        raise OSError(
            error.errno, printable(f"{path} cannot be written: {what_to_do}; what was there before is untouched")
        ) from error
