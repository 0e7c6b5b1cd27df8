"""What a training writes and tells while it runs: one line a step-group and one a validation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.common.files import append, write_atomically
from labkit.training.distributed import first_only

Log = Callable[[int, dict[str, Any]], object]


class Logbook:
    """The lines of ``metrics.jsonl``: written and told by the first process, known to all.

    Args:
        log: called as ``log(step, {"loss": ...})`` with every new line, or None.
    """

    def __init__(self, folder: Path, log: Log | None) -> None:
        if log is not None and not callable(log):
            raise TypeError(f"log must be a function log(step, values) or None, got {log!r}")
        self.file, self.log = folder / "metrics.jsonl", log
        self.lines: list[dict[str, Any]] = []

    def add(self, **line: Any) -> None:
        """Write a new line and tell it; numbers are rounded to six digits."""
        self.lines.append({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()})
        self._write(self.lines[-1])
        self.tell(self.lines[-1])

    @first_only
    def _write(self, line: dict[str, Any]) -> None:
        append(self.file, (json.dumps(line) + "\n").encode())

    @first_only
    def tell(self, line: dict[str, Any]) -> None:
        """Call `log` with a line."""
        if self.log is not None:
            self.log(line["step"], {k: v for k, v in line.items() if k != "step"})

    @first_only
    def rewrite(self) -> None:
        """Drop from the file what a checkpoint does not know of."""
        write_atomically(self.file, "".join(json.dumps(line) + "\n" for line in self.lines).encode())
