"""Where the runs of a sweep are executed: in processes on this machine, or on a Ray cluster.

An engine is a context that starts what it needs and gives how many runs fit at once, and a function: tasks in, pairs of
task and record out as they come, with None for a record where another process has the run. All bookkeeping is
`labkit.sweeps.task.attempt`'s, in the process that does the run.
"""

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from labkit.common.files import make_folder
from labkit.common.machine import cores
from labkit.common.processes import script_hidden, start_context
from labkit.sweeps.task import Record, Run, Task, attempt

Do = Callable[[Iterable[Task]], Iterator[tuple[Task, Record | None]]]
VISIBLE = "CUDA_VISIBLE_DEVICES"
# For Ray's nodes: a worker may take longer than a minute to start on a busy machine or a slow file system, and a driver
# that waits for the first ones would then wait for ever.
PATIENCE = {"RAY_prestart_worker_first_driver": "0", "RAY_worker_register_timeout_seconds": "600"}
GUARD = "A script whose own function is swept calls labkit.sweep under `if __name__ == '__main__':`"
RETRIES = 3  # of a run whose machine or process died, on Ray


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
    own = getattr(run, "func", run)  # of a functools.partial
    if own.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise ValueError(f"another process cannot import {own.__qualname__} from a notebook: write it into a module")
    # Unless the script's own function is swept, the processes need nothing of the script.
    hidden: Callable[[], AbstractContextManager[None]] = script_hidden if own.__module__ != "__main__" else nullcontext
    places = local_places(cpus, gpus)[:workers]
    variables = dict(os.environ) | {"OMP_NUM_THREADS": str(cpus)}
    pool = [_Worker(pickle.dumps(run), cpus, variables | {VISIBLE: place}, hidden) for place in places]
    try:
        yield len(pool), lambda tasks: _dealt_out(list(tasks), pool)
    finally:
        for worker in pool:
            worker.stop()


def local_places(cpus: int, gpus: float | None) -> list[str]:
    """The CUDA_VISIBLE_DEVICES of every run that fits on this machine at the same time.

    Raises:
        ValueError: GPUs were asked for, and there are too few; or a fraction of more than one.
    """
    asked = os.environ.get(VISIBLE)
    found = [str(i) for i in range(torch.cuda.device_count())]
    devices = found if asked is None else [d for d in asked.split(",") if d][: len(found)]
    gpus = (1 if devices else 0) if gpus is None else gpus
    if not gpus:
        return [""] * max(1, cores() // cpus)
    if gpus > len(devices):
        raise ValueError(f"{gpus} GPUs a run were asked for, and this machine has {len(devices)}")
    if gpus < 1:
        return [d for _ in range(int(1 / gpus + 1e-9)) for d in devices]
    if gpus != int(gpus):
        raise ValueError(f"a run takes a fraction of one GPU, or whole ones, and not {gpus}")
    n = int(gpus)
    return [",".join(devices[i : i + n]) for i in range(0, len(devices) - n + 1, n)]


class _Worker:
    """A process that executes runs, and the pipe to it; it is started when it is first needed."""

    def __init__(
        self, run: bytes, cpus: int, environment: dict[str, str], hidden: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.arguments, self.hidden = (run, cpus, environment), hidden
        self.process: Any = None
        self.pipe: Any = None
        self.logged = 0  # bytes of the task's log before it was given

    def give(self, task: Task) -> None:
        if self.process is None or not self.process.is_alive():
            context = start_context(__name__)
            self.pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, *self.arguments))
            with self.hidden():
                process.start()
            self.process = process
            theirs.close()  # or the pipe would not end with the process
        self.logged = _size(task.file(".log"))
        self.pipe.send(task)

    def take(self, task: Task) -> Record | None:
        """The record of the finished task; an error record if the process died; then the next run gets a new one.

        Raises:
            OSError: the sweep's folder cannot be written: the sweep ends.
        """
        try:
            record: Record | OSError | None = self.pipe.recv()
        except (EOFError, OSError):  # nothing came, or half of it
            self.process.join()
            if self.process.exitcode == 1 and _size(task.file(".log")) == self.logged:
                raise RuntimeError(f"a process of the sweep could not start, see above. {GUARD}") from None
            error = f"its process ended with exit code {self.process.exitcode}"
            if self.process.exitcode == -9:
                error += ", killed from outside: by the system, if memory ran out"
            self.process = None
            return died(task, error)
        if isinstance(record, OSError):
            raise record
        return record

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()  # between two runs, or in one whose sweep was interrupted
            self.process.join()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


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
    """The loop of a worker process: receive a task, execute it, send its record back."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= environment
    torch.set_num_threads(cpus)
    # tqdm's own lock, of the first bar in a process, is a semaphore of the system, which a killed worker would leave.
    tqdm.set_lock(threading.RLock())

    def imported(parameters: dict[str, Any], folder: Path) -> Any:
        return pickle.loads(run)(parameters, folder)  # here, so that a module that fails is reported as a run that does

    while True:
        task = pipe.recv()
        done: Record | OSError | None
        try:
            done = attempt(imported, task)
        except OSError as error:  # of the sweep's own folder; what a run raises is in its record
            done = error
        pipe.send(done)


def _end_with_parent() -> None:
    """End this worker when the sweep's process is killed, so that it does not go on training unnoticed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def on_ray(
    run: Run, *, address: str | None, cpus: int, gpus: float | None, workers: int | None
) -> Iterator[tuple[int, Do]]:
    """A Ray cluster: the one at `address` or $RAY_ADDRESS, or, without any, one started here, for this machine only.

    Ray itself and not joblib's backend for it: a run asks for a fraction of a GPU, one whose machine died is tried
    again on another, and one that fails does not end the batch. Every machine needs the same Python, Ray and lab. No
    dashboard is started, no usage is reported, and what runs print stays in Ray's own logs.

    Raises:
        ImportError: Ray is not installed.
        ValueError: no machine of the cluster has what a run asks for.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # the second, a warning
    os.environ |= PATIENCE  # for a cluster started here; `slurm.sh` says the same
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None or address.startswith(("127.0.0.1:", "localhost:")):
        # Else Ray takes the loopback address to mean the machine's outer one, and listens there too.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError("engine='ray' needs Ray: pip install -e '.[cluster]' in the lab's folder") from error
    own = not ray.is_initialized()
    if own:
        start = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **start)
    try:
        machines = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        gpus = (1 if any(m.get("GPU") for m in machines) else 0) if gpus is None else gpus
        needs = {k: v for k, v in {"CPU": cpus, "GPU": gpus}.items() if v}
        fits = sum(min(int(m.get(k, 0) / v + 1e-9) for k, v in needs.items()) for m in machines)
        if not fits:
            raise ValueError(f"a run asks for {needs}, and no machine of the cluster has that: {machines}")
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_attempt_on_ray)
        yield (
            min(fits, workers or fits),
            lambda tasks: _submitted(list(tasks), ray, partial(remote.remote, run, cpus, gpus), workers),
        )
    finally:
        if own:
            ray.shutdown()


def _attempt_on_ray(run: Run, cpus: int, gpus: float, task: Task) -> Record | None:
    make_folder(task.folder)  # where machines do not share it
    torch.set_num_threads(cpus)
    if not gpus:
        os.environ[VISIBLE] = ""  # else Ray has set it
    return attempt(run, task)


def _submitted(
    tasks: list[Task], ray: Any, submit: Callable[[Task], Any], workers: int | None
) -> Iterator[tuple[Task, Record | None]]:
    waiting, running = tasks[::-1], dict[Any, Task]()
    try:
        while waiting or running:
            while waiting and len(running) < (workers or len(tasks)):
                task = waiting.pop()
                running[submit(task)] = task
            (reference,), _ = ray.wait(list(running))
            task = running.pop(reference)
            try:
                record = ray.get(reference)
            except ray.exceptions.RayTaskError as error:  # of the sweep's folder; what a run raises is in its record
                record = died(task, f"{type(error.cause).__name__}: {error.cause}")
            except ray.exceptions.RayError as error:
                record = died(task, f"{type(error).__name__}, after {RETRIES} more attempts: {error}")
            if record is not None and not task.file(".error.json" if "error" in record else ".json").exists():
                task.keep(record)  # the machine that did the run has another folder of this name
            yield task, record
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def died(task: Task, error: str) -> Record:
    """Write and return an error record for a run whose process died, unless it had finished before."""
    if (known := task.finished()) is not None:
        return known
    record = task.record(error=error, traceback=f"{error}; its own words, if any, are in the output of that process\n")
    task.keep(record)
    return record


ENGINES: dict[str, Callable[..., AbstractContextManager[tuple[int, Do]]]] = {"local": local, "ray": on_ray}
