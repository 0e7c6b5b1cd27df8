"""In place of `labkit.sweep`, where a test wants what comes of trainings without training anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.sweeps.sweep import Sweep, combinations, key_of
from labkit.sweeps.task import Run, Task, attempt


@dataclass
class PretendedSweep:
    """Keeps a made-up result of every run by the sweep's own code, in this process.

    Attributes:
        result: takes the parameters of a run, and gives its result or raises its error.
        asked: the parameters of every run that was not finished when it was asked for.
        calls: for each call, the function to be swept and the options.
    """

    result: Callable[[dict[str, Any]], Any]
    asked: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[Run, dict[str, Any]]] = field(default_factory=list)

    def __call__(
        self,
        run: Run,
        grid: Iterable[Mapping[str, Any]],
        engine: str = "local",
        *,
        folder: Path,
        version: str | int,
        **how: Any,
    ) -> Sweep:
        self.calls.append((run, {"folder": folder, "version": version, **how}))
        folder.mkdir(parents=True, exist_ok=True)
        tasks = [Task(key_of(p, version), p, folder, version, commit=None) for p in combinations(grid)]
        self.asked += [task.parameters for task in tasks if not task.finished()]
        records = [r for task in tasks if (r := attempt(lambda parameters, _: self.result(parameters), task))]
        return Sweep([r for r in records if "error" not in r], [r for r in records if "error" in r], [])
