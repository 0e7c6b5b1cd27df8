"""What the sweeps of the tests run: functions that other processes can import."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm


def square(parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The square of x, and where it was computed."""
    seen = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": torch.get_num_threads(), "pid": os.getpid()}
    (folder / "visited").touch()
    return {"square": parameters["x"] ** 2, "process": seen}


def with_a_bar(parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """x, after a progress bar."""
    return {"x": [parameters["x"] for _ in tqdm(range(1), disable=True)]}


def fragile(parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """x, unless it is to raise, to die, to find no room, or to give what is not JSON, until a file heals it."""
    if not (folder.parent / "healed").exists():
        if parameters["how"] == "raises":
            raise ZeroDivisionError("no such seed")
        if parameters["how"] == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if parameters["how"] == "may write nothing more":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        if parameters["how"] == "answers with a set":
            return {"x": {1, 2}}
    return {"x": parameters["x"]}


def killed_while_writing(parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run 2, at first, kills its whole process group when half of its result is on the disk."""
    struck = folder.parent / "struck"
    if parameters["x"] == 2 and not struck.exists():
        struck.touch()

        def fsync(_: int) -> None:
            (scratch,) = folder.parent.glob(f".{folder.name}.json-*")
            os.truncate(scratch, scratch.stat().st_size // 2)
            os.killpg(0, signal.SIGKILL)

        os.fsync = fsync  # type: ignore[assignment]
    return {"text": "x" * 10_000, "x": parameters["x"]}


def slow(parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Counts to ten in its folder, a line in every `seconds` / 10, and goes on where an earlier attempt stopped."""
    file = folder / "counted"
    found = len(file.read_text().split()) if file.exists() else 0
    for i in range(found, 10):
        time.sleep(parameters["seconds"] / 10)
        with file.open("a") as opened:
            opened.write(f"{i}:{os.getpid()}\n")
    return {"counted": file.read_text().split(), "found": found}


def events(folder: Path, event: str) -> list[str]:
    """Keys in the logs of a sweep, one for each such event."""
    lines = [json.loads(line) for file in sorted(folder.glob("*.log")) for line in file.read_text().splitlines()]
    return [line["key"] for line in lines if line["event"] == event]
