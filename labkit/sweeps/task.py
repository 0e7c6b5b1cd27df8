"""One run of a sweep: its files, its record, and the attempt that every engine makes in a process of its own."""

import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labkit.common.files import explained, read_json, write_atomically
from labkit.common.machine import peak_memory
from labkit.common.versions import versions

Run = Callable[[dict[str, Any], Path], Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One run of a sweep: everything that a process on any machine needs besides the function.

    Attributes:
        key: of the run; names its files.
        parameters: of the run, in JSON types.
        folder: the sweep's, absolute.
        version: of the experiment.
        commit: of the code that the sweep was started with; None where it is in no checkout.
    """

    key: str
    parameters: dict[str, Any]
    folder: Path
    version: str | int
    commit: str | None

    def file(self, ending: str) -> Path:
        """One of the run's files."""
        return self.folder / f"{self.key}{ending}"

    def record(self, **more: Any) -> Record:
        """The record of the run, with `more` entries."""
        own = {k: v for k, v in asdict(self).items() if k != "folder"}
        return own | more | {"made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "host": socket.gethostname()}

    def finished(self) -> Record | None:
        """The run's record, if there is one."""
        return read_record(self.file(".json"))

    def held(self) -> bool:
        """Whether a process is working on the run and has not finished it."""
        try:
            with FileLock(self.file(".lock"), timeout=0):
                return False
        except Timeout:
            return self.finished() is None

    def keep(self, record: Record) -> None:
        """Write the record of a finished or of a failed run; a finished one leaves no error behind."""
        self.log("failed" if "error" in record else "finished")
        content = json.dumps(record, indent=1).encode()
        write_atomically(self.file(".error.json" if "error" in record else ".json"), content)
        if "error" not in record:
            self.file(".error.json").unlink(missing_ok=True)

    def log(self, event: str) -> None:
        """A line in the run's log: what happened, when, where and in which process."""
        line = {"event": event, "key": self.key, "time": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        with explained(self.file(".log")), self.file(".log").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def attempt(run: Run, task: Task) -> Record | None:
    """Execute a run in this process, unless it is finished, and write its record; None if another process has it.

    Every engine ends here, in whatever process it has started. `memory` in the record is the peak of the process in
    bytes, `disk` what the run's own folder holds.
    """
    try:
        with explained(task.file(".lock")):
            held = FileLock(task.file(".lock")).acquire(timeout=0)
    except Timeout:
        return None
    with held:
        if (known := task.finished()) is not None:
            return known
        for scratch in task.folder.glob(f".{task.key}.*"):
            scratch.unlink()  # of a write that was killed
        own = task.file("")
        with explained(own):
            own.mkdir(exist_ok=True)
        task.log("started")
        started = time.perf_counter()
        try:
            result = as_json(run(task.parameters, own), "the result")
        except Exception as error:
            record = task.record(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        else:
            record = task.record(result=result, versions=versions())
        record["seconds"] = round(time.perf_counter() - started, 3)
        record["memory"] = peak_memory() or 0
        record["disk"] = sum(p.stat().st_size for p in own.rglob("*") if p.is_file())
        task.keep(record)
        return record


def as_json(value: Any, what: str) -> Any:
    """`value` after a round trip through JSON: tuples become lists, keys become strings."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must be made of JSON types: {error}") from None


def read_record(file: Path) -> Record | None:
    """The record in a file; None where there is no file.

    Raises:
        ValueError: it is damaged, and named. It is for the user to throw a finished run away.
    """
    try:
        record: Record = read_json(file, "delete it, and the run is done again")
    except FileNotFoundError:
        return None
    return record
