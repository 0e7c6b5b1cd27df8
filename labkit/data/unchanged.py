"""Other people's files, compared with what was first read from them: damage is told from another data set.

Pictures, pickles and HDF5 files carry no checksum of their own; a record in the cache is theirs. A disk or a copy that
damages them changes a few places, or a few files of many. Where most is something else, another data set has been
put there, and gets a record beside the first one's.
"""

import errno
import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from labkit.common.errors import DataError, few, printable
from labkit.data.cache import build_once
from labkit.data.sums import name_from, state_of, sums_of

TEXTS = (".csv", ".tsv", ".json", ".txt")  # suffixes of files that people correct by hand
FEW = 16  # files; of more, whole files are compared, of so few their pieces
PIECES = 64  # of a file, of equal length
OTHER = 2 / 3  # share of the bytes in files or pieces that differ, from which on it is another data set

Pieces = dict[str, list[str]]


def check_unchanged(name: str, root: Path, files: Sequence[Path]) -> None:
    """Compare files that were read with what they held when files of these names and lengths were first read here.

    Tables and lists of text are left out: people correct them.

    Args:
        root: folder from which the names of `files` count.

    Warns:
        UserWarning: another data set of the same names and lengths lies there now.

    Raises:
        DataError: some are damaged, or changed here and there.
    """
    files = sorted(file for file in files if file.suffix.lower() not in TEXTS)
    if not files:
        return
    sizes = "".join(f"{name_from(root, file)}\0{state_of(file)[2]}\n" for file in files)
    listing = hashlib.sha256(sizes.encode(errors="surrogateescape")).hexdigest()
    now = sums_of(root, files).encode(errors="surrogateescape")
    pieces: Pieces | None = None
    for generation in itertools.count():  # a record for each data set that lay here
        asked = {"root": os.fsencode(root).hex(), "listing": listing} | (
            {"generation": generation} if generation else {}
        )
        made: list[Path] = []
        try:
            record = build_once(f"{name}-files", asked, partial(_write, now, root, files, made))
        except OSError as error:  # somebody else's cache: these files have no record there, and get none
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return
        if made and generation:
            warnings.warn(
                printable(
                    f"{root}: not what was first read from there, but another data set of the same names and sizes"
                ),
                stacklevel=5,
            )
        before = set((record / "first").read_bytes().splitlines())
        changed = [os.fsdecode(line[66:]) for line in now.splitlines() if line not in before]
        if not changed:
            return
        if pieces is None and len(files) <= FEW:
            pieces = pieces_of(root, files)
        if not _is_other(record, root, files, changed, pieces or {}):
            raise DataError(
                f"{root}: {few(changed)}: the content has changed since the lab first read it, though the length has "
                f"not; restore the copy, or, if it was changed on purpose, delete {record}"
            )


def pieces_of(root: Path, files: Sequence[Path]) -> Pieces:
    """Of each file, by its name from `root`, short digests of its pieces."""
    return {name_from(root, file): _digests(file) for file in files}


def _digests(file: Path) -> list[str]:
    length = -(-file.stat().st_size // PIECES) or 1
    with file.open("rb") as handle:
        return [hashlib.sha256(piece).hexdigest()[:8] for piece in iter(partial(handle.read, length), b"")]


def _write(content: bytes, root: Path, files: Sequence[Path], made: list[Path], folder: Path) -> None:
    (folder / "first").write_bytes(content)
    if len(files) <= FEW:
        (folder / "pieces.json").write_text(json.dumps(pieces_of(root, files)), encoding="utf-8")
    made.append(folder)


def _is_other(record: Path, root: Path, files: Sequence[Path], changed: Sequence[str], now: Pieces) -> bool:
    """Whether what has changed since a record was made is another data set, and no damage: most of its bytes."""
    sizes = {name_from(root, file): file.stat().st_size for file in files}
    kept = record / "pieces.json"
    before: Pieces = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if len(files) <= FEW and not before:  # an older lab kept none
        return False
    other = 0.0
    for name in changed:
        pairs = list(zip(before.get(name, ("",)), now.get(name, ("another",)), strict=False))
        other += sizes[name] * sum(old != new for old, new in pairs) / len(pairs)
    return other >= OTHER * sum(sizes.values())
