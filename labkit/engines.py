"""Where the runs of a sweep are done: in processes of this machine, or on a Ray cluster.

An engine is a context that starts what it needs and gives how many runs fit at once, and a function: tasks in, pairs of
task and record out as they come, with None for a record where another process has the run. All bookkeeping is
`labkit.sweeps.attempt`'s, in the process that does the run.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from labkit.sweeps import Record, Run, Task, attempt

Do = Callable[[Iterable[Task]], Iterator[tuple[Task, Record | None]]]
VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def local(
    run: Run, *, address: str | None, cpus: int, gpus: float | None, workers: int | None
) -> Iterator[tuple[int, Do]]:
    """Processes of this machine, one to `cpus` cores or to `gpus` GPUs; each does one run after another.

    A process that dies is replaced. None is forked from this one, whose CUDA and threads it could not use, but from a
    server that imports the lab once for all of them.
    """
    if address is not None:
        raise ValueError(f"engine='local' has no address, and {address!r} was given; engine='ray' has")
    if run.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise ValueError(f"another process cannot import {run.__qualname__} from a notebook: write it into a module")
    places = local_places(cpus, gpus)[:workers]
    variables = dict(os.environ) | {"OMP_NUM_THREADS": str(cpus)}
    pool = [_Worker(pickle.dumps(run), cpus, variables | {VISIBLE: place}) for place in places]
    try:
        yield len(pool), lambda tasks: _dealt_out(list(tasks), pool)
    finally:
        for worker in pool:
            worker.stop()


def local_places(cpus: int, gpus: float | None) -> list[str]:
    """For each run that fits on this machine at once, the CUDA_VISIBLE_DEVICES it gets.

    Raises:
        ValueError: GPUs were asked for, and there are too few; or a fraction of more than one.
    """
    asked = os.environ.get(VISIBLE)
    found = [str(i) for i in range(torch.cuda.device_count())]
    devices = found if asked is None else [d for d in asked.split(",") if d][: len(found)]
    gpus = (1 if devices else 0) if gpus is None else gpus
    if not gpus:
        return [""] * max(1, len(os.sched_getaffinity(0)) // cpus)
    if gpus > len(devices):
        raise ValueError(f"{gpus} GPUs a run were asked for, and this machine has {len(devices)}")
    if gpus < 1:
        return [d for _ in range(int(1 / gpus + 1e-9)) for d in devices]
    if gpus != int(gpus):
        raise ValueError(f"a run takes a fraction of one GPU, or whole ones, and not {gpus}")
    n = int(gpus)
    return [",".join(devices[i : i + n]) for i in range(0, len(devices) - n + 1, n)]


class _Worker:
    """A process that does runs, and the pipe to it; started when it is first needed."""

    def __init__(self, run: bytes, cpus: int, environment: dict[str, str]) -> None:
        self.arguments = (run, cpus, environment)
        self.process: Any = None
        self.pipe: Any = None

    def give(self, task: Task) -> None:
        if self.process is None or not self.process.is_alive():
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, *self.arguments))
            self.process.start()
            theirs.close()  # or the pipe would not end with the process
        self.pipe.send(task)

    def take(self, task: Task) -> Record | None:
        """What came of the task; the error, and a process less, if it died of it."""
        try:
            record: Record | None = self.pipe.recv()
        except (EOFError, OSError):  # nothing came, or half of it
            self.process.join()
            error = f"its process ended with exit code {self.process.exitcode}"
            if self.process.exitcode == -9:
                error += ", killed from outside: by the system, if memory ran out"
            self.process = None
            return died(task, error)
        return record

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()  # between two runs, or in one whose sweep was interrupted
            self.process.join()


def _dealt_out(tasks: list[Task], pool: Sequence[_Worker]) -> Iterator[tuple[Task, Record | None]]:
    waiting, idle, busy = tasks[::-1], list(pool), dict[_Worker, Task]()
    while waiting or busy:
        while waiting and idle:
            worker, task = idle.pop(0), waiting.pop()
            worker.give(task)
            busy[worker] = task
        ready = connection.wait([worker.pipe for worker in busy])
        for worker in [w for w in busy if w.pipe in ready]:
            task = busy.pop(worker)
            record = worker.take(task)
            idle.append(worker)
            yield task, record


def _serve(pipe: connection.Connection, run: bytes, cpus: int, environment: dict[str, str]) -> None:
    """The life of a worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= environment
    torch.set_num_threads(cpus)

    def imported(parameters: dict[str, Any], folder: Path) -> Any:
        return pickle.loads(run)(parameters, folder)  # here, so that a module that fails is reported as a run that does

    while True:
        pipe.send(attempt(imported, pipe.recv()))


def _end_with_parent() -> None:
    """A killed sweep takes its workers along: they must not train on, unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def died(task: Task, error: str) -> Record:
    """The record of a run whose process could not write it, kept; unless it had finished and only then died."""
    if (known := task.finished()) is not None:
        return known
    record = task.record(error=error, traceback=f"{error}; its own words, if any, are in the output of that process\n")
    task.keep(record)
    return record


ENGINES: dict[str, Callable[..., AbstractContextManager[tuple[int, Do]]]] = {"local": local}
