"""``python -m tests.helpers.hostile.run OUT.jsonl [NAME ...]``: what comes of hostile files when the lab reads them.

All in one process with little memory to spare; `tests/promises/test_hostile_files.py` holds the outcomes to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.helpers.hostile import checkpoints, data, pictures  # noqa: F401  # they fill the table
from tests.helpers.hostile.cases import CASES

SECONDS = 60  # until a reader counts as hanging, on a machine that is busy too
SPARE = 1 << 30  # bytes of address space that readers get beside what the process has when it starts


def attempt(name: str) -> dict[str, Any]:
    """What comes of one file: the error's type and text, whether the canary is there, and megabytes more."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, canary = Path(scratch) / "root", Path(scratch) / "canary"
        folder.mkdir()
        os.environ["LABKIT_CACHE"] = str(Path(scratch) / "cache")
        read = CASES[name].build(folder, canary)
        error = None
        before = _memory(reset=True)
        signal.alarm(SECONDS)
        try:
            read()
        except Exception as raised:
            error = raised
        signal.alarm(0)
        return {
            "kind": type(error).__name__,
            "said": str(error),
            "ran": canary.exists(),
            "MB": round((_memory() - before) / 1e6),
        }


def _memory(reset: bool = False) -> int:
    """Most bytes this process had in memory since the last reset."""
    if reset:
        with contextlib.suppress(OSError):  # where that is forbidden, the most since the start will do
            Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def limit() -> None:
    """No more address space than `SPARE` beside what this process has now."""
    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (have + SPARE, have + SPARE))


def main(out: Path, names: list[str]) -> None:
    """Try `names`, one after the other; whoever hangs is killed by its alarm, and the last line tells who it was."""
    torch.zeros(1).add_(1)
    np.zeros(1).dot(np.zeros(1))
    limit()
    with out.open("a") as file:
        for name in names:
            file.write(json.dumps({"name": name}) + "\n")
            file.flush()
            file.write(json.dumps({"name": name, **attempt(name)}) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(CASES))
