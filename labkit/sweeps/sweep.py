"""A sweep: one function, a grid of its parameters, and a folder in which every finished run is kept.

    def run(parameters: dict, folder: Path) -> dict: ...        # importable; JSON types in, JSON types out

    done = labkit.sweep(run, {"method": ["dmf", "can"], "seed": [0, 1, 2]}, folder="runs/rivals", version=1)
    pandas.json_normalize(done.rows)                            # or done.table(), which is that

A run's key is a hash of its parameters and of `version`, a number that you raise when earlier results no longer count.
It is not a hash of the code: that would throw a day of training away for a renamed variable. The commit is recorded
instead, and a result whose code has changed since is flagged `stale`; whether that matters is yours to judge.

For a key the sweep's folder holds, side by side: ``KEY.json``, the result, written at once or not at all; ``KEY.log``,
a line for every start, finish and failure; ``KEY.error.json``, if the last attempt failed; and ``KEY/``, the run's own
folder, given to the function, where a training keeps its checkpoints and finds them again. Whoever works on a run holds
``KEY.lock``, which the system gives back when a process dies, however it dies. So any number of sweeps may work on one
folder, and each may be killed at any moment: the next call goes on with what is not finished.
"""

from __future__ import annotations

import inspect
import itertools
import json
import multiprocessing
import re
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from labkit.common import checks
from labkit.common.errors import FailedRunsError
from labkit.common.files import make_folder
from labkit.sweeps.engines import ENGINES, GUARD
from labkit.sweeps.forecast import forecast
from labkit.sweeps.task import Record, Run, Task, as_json, read_record

if TYPE_CHECKING:  # slow to import
    import pandas as pd

RECORD = re.compile(r"[0-9a-f]{16}\.json")  # the name of a finished run's file, by `key_of`


@dataclass(frozen=True)
class Sweep:
    """The outcome of a sweep.

    Attributes:
        rows: finished runs in the grid's order: key, parameters, version, result, commit, stale, seconds, and more.
        failed: the same of runs whose last attempt failed, with `error` (one line) and `traceback` for the result.
        unfinished: parameters of runs that neither finished nor failed: another process is working on them.
    """

    rows: list[Record]
    failed: list[Record]
    unfinished: list[dict[str, Any]]

    def table(self) -> pd.DataFrame:
        """A line a finished run, with columns such as ``parameters.seed`` and ``result.accuracy``."""
        import pandas as pd

        return pd.json_normalize(self.rows)


def sweep(
    run: Run,
    grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]],
    engine: str = "local",
    *,
    folder: Path | str,
    version: str | int,
    address: str | None = None,
    cpus: int = 1,
    gpus: float | None = None,
    workers: int | None = None,
    retry_failed: bool = True,
    wait: bool = True,
    progress: bool = True,
) -> Sweep:
    """Do every run of a grid that is not finished yet, several at a time, and return the results of all.

    A run that raises is reported with its traceback, and so is one whose process dies; the others go on. It is tried
    again at the next call, in the same folder, because most failures are a full disk or a full memory; what fails for
    good, such as a training that diverges, is better returned as a result.

    Args:
        run: from parameters, and a folder of this run's own, to a result. A module's function, not a notebook's. It
            sees as many GPUs as it was given and no others, so ``"cuda"`` is right wherever it runs.
        grid: a list of values for each parameter, of which every combination is run; or the combinations themselves.
        engine: ``"local"``, processes on this machine; ``"ray"``, a Ray cluster (``pip install -e '.[cluster]'``).
        folder: of the sweep; on a cluster a folder that all machines share, or no training is resumed elsewhere.
        version: of the experiment; results of another one do not count.
        address: of the cluster, for example ``"10.0.0.1:6379"``; None takes $RAY_ADDRESS, as a job of ``slurm.sh``
            has it, or starts Ray on this machine alone.
        cpus: threads of a run.
        gpus: GPUs of a run; 0.25 puts four runs on each. None means one, where there are any.
        workers: most runs at once; None fills the machine, or the cluster.
        retry_failed: False leaves alone what failed in an earlier call.
        wait: for runs that other processes have in hand, and take over those that are given up.
        progress: show a forecast of time, memory and disk, and a bar with the time left.

    Raises:
        TypeError: parameters that are not JSON, values that are no list, or a function that no process can import.
        RuntimeError: the sweep is called while a process of another one starts: the script has no guard.
        OSError: the folder cannot be written to; what was finished before is kept. (Of a cluster each machine has its
            own disk: there the run is reported as failed.)
        ValueError: an unknown engine, no GPU where GPUs were asked for, a function that only a notebook knows, or a
            record that is damaged: it names the file, for the user to delete.
    """
    _check_run(run)
    if engine not in ENGINES:
        raise ValueError(f"there is no engine {engine!r}; there are {sorted(ENGINES)}")
    version = checks.plain(version)
    if not isinstance(version, str | int) or isinstance(version, bool):
        raise TypeError(f"version must be a number or a text that names the experiment, got {version!r}")
    cpus = checks.check_int("cpus", cpus)
    workers = None if workers is None else checks.check_int("workers", workers)
    gpus = checks.plain(gpus)
    checks.finite("gpus", 0 if gpus is None else gpus, least=0)
    for name, value in (("retry_failed", retry_failed), ("wait", wait), ("progress", progress)):
        checks.flag(name, value)
    planned = combinations(grid)
    folder = checks.path("folder", folder, "the path of a folder").resolve()
    make_folder(folder)
    code = Path(inspect.getsourcefile(inspect.unwrap(getattr(run, "func", run))) or ".").resolve().parent
    commit = commit_of(code)
    tasks = {key_of(p, version): Task(key_of(p, version), p, folder, version, commit) for p in planned}
    left = [t for t in tasks.values() if not t.finished()]
    if not retry_failed:
        left = [t for t in left if not t.file(".error.json").exists()]
    start = ENGINES[engine](run, address=address, cpus=cpus, gpus=gpus, workers=workers)
    with (
        tqdm(total=len(tasks), initial=len(tasks) - len(left), unit="run", smoothing=0, disable=not progress) as bar,
        start as (at_once, do),
    ):
        if progress and left:
            bar.write(forecast([r for t in tasks.values() if (r := t.finished())], len(left), at_once))
        failures = 0
        while left:
            taken = []
            for task, record in do(left):
                if record is None:
                    taken.append(task)
                    continue
                if "error" in record:
                    failures += 1
                    bar.set_postfix_str(f"{failures} failed")
                    bar.write(f"{task.parameters} failed:\n{record['traceback']}")
                bar.update()
            left = taken if wait else []
            while left and all(task.held() for task in left):
                time.sleep(1)
    return _gathered(list(tasks.values()), code, progress)


def _gathered(tasks: list[Task], code: Path, progress: bool) -> Sweep:
    """Collect the records of some tasks from the sweep's folder."""
    rows = [record for task in tasks if (record := task.finished())]
    changed = {commit: changed_since(commit, code) for commit in {r["commit"] for r in rows}}
    rows = [r | {"stale": changed[r["commit"]]} for r in rows]
    open_ = [task for task in tasks if not task.finished()]
    failed = [record for task in open_ if (record := read_record(task.file(".error.json")))]
    keys = {record["key"] for record in failed}
    stale = sum(r["stale"] for r in rows)
    if stale and progress:
        print(f"{stale} of {len(rows)} results come from code that was not committed, or is another now:")
        print("raise `version` if it matters")
    return Sweep(rows, failed, [task.parameters for task in open_ if task.key not in keys])


def finished(folder: Path | str, version: str | int | None = None) -> list[Record]:
    """The finished runs in a sweep's folder, of one version or of all, oldest first; usable while it runs.

    JSON files that are no records, by their names or by what they hold, are somebody else's and left alone.

    Raises:
        ValueError: a record is damaged.
    """
    files = [file for file in checks.path("folder", folder).glob("*.json") if RECORD.fullmatch(file.name)]
    found = [read_record(file) for file in files]
    records = [r for r in found if isinstance(r, dict) and r.keys() >= {"key", "version", "result", "made"}]
    return sorted((r for r in records if version in (None, r["version"])), key=lambda r: (r["made"], r["key"]))


def combinations(grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameters of every run of a grid, in JSON types.

    Raises:
        TypeError: something that JSON does not know, or values that are no list.
        ValueError: no value of a parameter.
    """
    if isinstance(grid, Mapping):
        grid = {
            checks.text("a parameter of the grid", name): checks.several(
                f"the values of {name!r}", values, f"a list of values, such as {{{name!r}: [...]}}"
            )
            for name, values in grid.items()
        }
        grid = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    expected = "a list of values for each parameter, {'seed': [0, 1]}, or the combinations, [{'seed': 0}, {'seed': 1}]"
    found = []
    for parameters in checks.several("grid", grid, expected, least=0):
        checks.kind("grid", parameters, Mapping, expected)
        found.append(as_json(checks.plain(parameters), f"the parameters {dict(parameters)}"))
    return found


def _check_run(run: Any) -> None:
    """Refuse what another process could not import, and a call by a script that such a process runs again."""
    own = inspect.unwrap(getattr(run, "func", run)) if callable(run) else run
    name = getattr(own, "__qualname__", "")
    if not inspect.isfunction(own) or "<" in name:
        what = "a lambda or a function within another" if "<" in name else repr(run)
        raise TypeError(f"run must be a function of a module, run(parameters, folder), got {what}")
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(f"this sweep is called while a process of a sweep starts. {GUARD}")


def refuse_failed(failed: Sequence[Record]) -> None:
    """Raise an error if some runs failed; to be called when all others are finished.

    Raises:
        FailedRunsError: names the first and its error.
    """
    if failed:
        many = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
        raise FailedRunsError(
            f"{many} failed, and what is finished is kept; the first is {failed[0]['parameters']}: {failed[0]['error']}"
        )


def key_of(parameters: Mapping[str, Any], version: str | int) -> str:
    """Sixteen hexadecimal digits that name a run; the order of the parameters does not matter."""
    text = json.dumps({"version": version, "parameters": parameters}, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def commit_of(code: Path) -> str | None:
    """The commit of the checkout that holds a folder, with a ``+`` if any of its Python files was changed since."""
    head = _git(code, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("+" if _git(code, "status", "--porcelain", "--", ":(top)*.py") else "")


def changed_since(commit: str | None, code: Path) -> bool:
    """Whether the Python files of a folder's checkout may differ from those at a commit; False outside one."""
    if commit is None or commit_of(code) is None:
        return False
    return commit.endswith("+") or _git(code, "diff", "--quiet", commit, "--", ":(top)*.py") is None


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command, or None if it fails or git is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
