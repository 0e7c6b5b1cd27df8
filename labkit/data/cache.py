"""One folder for every set of decoded images, written once, whole or not at all."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from labkit.common.files import expanded, explained, remove_scratch, scratch_prefix
from labkit.data.sums import SUMS, check_sums, write_sums


def cache_root() -> Path:
    """``$LABKIT_CACHE``, in which ``~`` is the home folder, or the user's cache folder."""
    return expanded(os.environ.get("LABKIT_CACHE") or platformdirs.user_cache_path("labkit"))


def build_once(name: str, recipe: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The cache folder for `recipe`, filled by `build` if nobody has done so before.

    `build` gets an empty folder to write into, which then takes its final name in one rename: a process that dies
    leaves nothing behind that could be taken for a cache. A second process that wants the same recipe waits. What a
    disk has damaged since is found by its checksums, when a process first asks for it.

    Args:
        name: readable start of the folder's name.
        recipe: everything that shapes the content; JSON types. A different recipe is a different folder.
        build: writes the content.

    Raises:
        DataError: the cache is damaged; names the file, and the folder to delete.
        OSError: the cache cannot be written; what else it holds is untouched.
    """
    text = json.dumps(recipe, sort_keys=True)
    root = cache_root()
    readable = re.sub(r"[^\w .+-]", "_", name)[:80]
    folder = root / f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if (folder / SUMS).is_file():
        check_sums(folder)
        return folder
    with explained(folder, ", or set $LABKIT_CACHE to another folder"):
        root.mkdir(parents=True, exist_ok=True)
        _build(folder, text, build)
    return folder


def _build(folder: Path, text: str, build: Callable[[Path], None]) -> None:
    with FileLock(f"{folder}.lock"):
        if not (folder / SUMS).is_file():
            shutil.rmtree(folder, ignore_errors=True)  # somebody has deleted files in it: what is left is no cache
            remove_scratch(folder)  # of builders that were killed: a living one would hold the lock
            scratch = Path(tempfile.mkdtemp(prefix=scratch_prefix(folder), dir=folder.parent))
            try:
                build(scratch)
                (scratch / "recipe.json").write_text(text, encoding="utf-8")
                write_sums(scratch)
                for file in scratch.iterdir():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
                scratch.chmod(0o755)  # mkdtemp gives 0o700, which would hide a shared cache
                scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


def digest_of(file: Path) -> str:
    """First 16 hex digits of a file's sha256."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
