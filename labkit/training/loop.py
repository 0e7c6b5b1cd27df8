"""One training loop, for every experiment: phase after phase, as `labkit.training.phases` describes them.

On several machines, the same command on each, with one address that all can reach:

    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 -m labkit train \\
        mini-1shot ../runs/mini --data-root /data/x --device cuda
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch
from tqdm.auto import tqdm

from labkit.common import checks
from labkit.common.devices import available
from labkit.common.files import exclusive
from labkit.common.interrupts import deferred_interrupt
from labkit.data import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model
from labkit.models.registry import METHODS
from labkit.training.distributed import entered_first, joined, launch, leads, under_torchrun, wait, world
from labkit.training.logbook import Log
from labkit.training.run import GROUP, Run
from labkit.training.settings import Experiment
from labkit.training.step import Step, check_compiler, check_phases

FILES = ("metrics.jsonl", "best.safetensors", "last.pt")


@dataclass(frozen=True)
class Trained:
    """What `train` leaves behind.

    Attributes:
        model: the best by validation in the last phase (the last, where there was none yet), in eval mode.
        validation: best validation accuracy in percent.
        metrics: one dict a step-group, and one a validation, as in ``metrics.jsonl``.
        folder: holds ``metrics.jsonl``, ``best.safetensors`` and ``last.pt``.
        seconds: of this call; metrics hold none, so that the same seed gives the same file.
        step: that the training has reached; 0 where nothing had to be trained.
    """

    model: Method
    validation: float
    metrics: list[dict[str, Any]]
    folder: Path
    seconds: float
    step: int = 0


def build_model(experiment: Experiment, classes: int, seed: int) -> Method:
    """The untrained model of an experiment, a function of the seed.

    Raises:
        ValueError: unknown method, choices that the method refuses, or a seed below 0 or beyond 2**64 - 1.
    """
    e = experiment
    checks.kind("experiment", e, Experiment, "a labkit.Experiment, as labkit.experiment gives")
    seed, classes = checks.check_seed(seed), checks.check_int("classes", classes)
    if e.method not in METHODS:
        raise ValueError(f"there is no method {e.method!r}; there are {sorted(METHODS)}")
    own = e.choices | ({"groups": e.groups, "preset": e.preset} if e.method == "dmf" else {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return METHODS[e.method](e.backbone, classes=classes, backbone_options=e.backbone_options, **own)


def train(
    experiment: Experiment,
    base: ImageSet,
    validation: ImageSet,
    folder: Path | str,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    devices: int = 1,
    nodes: int = 1,
    compiler: str | None = "auto",
    until: int | Callable[[], bool] | None = None,
    log: Log | None = None,
    progress: bool = True,
) -> Trained:
    """Train on base classes, select on validation classes; continue where an earlier call in `folder` stopped.

    Args:
        base, validation: images of the base and of the validation classes.
        folder: receives metrics and checkpoints.
        seed: of initial weights, episodes, augmentation and dropout.
        device: where; with several, of which kind.
        devices: how many of this machine share the episodes of a step; see `labkit.training.distributed`.
        nodes: how many machines do; with more than one, torchrun starts ``python -m labkit train`` on each.
        compiler: of `labkit.training.step.Step`.
        until: stop after this step, to be continued; the schedule stays that of all `experiment.steps`. Or a function
            that is asked after every step whether to stop there, of a single process.
        log: called as ``log(step, {"loss": ...})`` with every line of metrics as it is written; what several processes
            that this call starts have written, once they have ended. A step may come again after a resumption.
        progress: show a bar with loss, accuracy, episodes a second and time left.

    Raises:
        ValueError: `folder` holds another experiment or seed, the processes cannot share a step evenly, or would have
            to agree on what a function `until` says.
        ValueError: there is no such device or compiler, or the method cannot be trained as a phase asks.
        ValueError: ``best.safetensors`` has gone from `folder`, which must hold it.
        FloatingPointError: the loss or a gradient is not finite; says at which step, in which episodes and layers.
            Nothing broken is written.
        BlockingIOError: another process trains in `folder`.
        OSError: `folder` cannot be written; what it held stays good to go on from.
        KeyboardInterrupt: of a single process only once the step is done and saved, so that the same call goes on from
            there; a second interrupt does not wait. Several processes go on from their last validation.
    """
    started = time.perf_counter()
    folder, device = checks.path("folder", folder, "the path of a folder"), available(device)
    checks.kind("experiment", experiment, Experiment, "a labkit.Experiment, as labkit.experiment gives")
    for name, images in (("base", base), ("validation", validation)):
        checks.kind(name, images, ImageSet, "an ImageSet, as labkit.load_images gives")
    seed, progress = checks.check_seed(seed), checks.flag("progress", progress)
    check_compiler(compiler)
    if until is not None and not callable(until):
        until = checks.check_int("until", until)
    devices, nodes = checks.check_int("devices", devices), checks.check_int("nodes", nodes)
    together = devices * nodes
    if together > 1 and callable(until):
        raise ValueError(f"until must be a step where {together} processes train together, got a function")
    for size, what in ((phase.size, phase.batch) for phase in experiment.plan):
        if size % together:
            raise ValueError(f"{size} {what} a step cannot be shared evenly by {devices} x {nodes} devices")
    model = build_model(experiment, len(base.class_names), seed)
    if together > 1 and not under_torchrun():
        if nodes > 1:
            raise ValueError("several machines are started by torchrun: see `python -m labkit train --help`")
        options = {"seed": seed, "device": device.type, "devices": devices, "compiler": compiler}
        run = Run(experiment, model, base, seed, device, folder, log)
        with exclusive(folder, FILES):  # not while another process trains there
            run.resume()
        known = len(run.logbook.lines)
        launch(_work, (experiment, base, validation, folder, options | {"until": until, "progress": progress}), devices)
        run.resume()
        for line in run.logbook.lines[known:]:
            run.logbook.tell(line)
    else:
        with joined(device, devices, nodes) as device:
            run = Run(experiment, model, base, seed, device, folder, log)
            with entered_first(partial(exclusive, folder, FILES)):
                _loop(run, base, validation, compiler, until, progress)
    file = run.best_file()
    best = run.model.eval() if file is None else load_model(file, run.device)
    return Trained(best, run.best, run.logbook.lines, folder, time.perf_counter() - started, run.step)


def _work(experiment: Experiment, base: ImageSet, validation: ImageSet, folder: Path, options: dict[str, Any]) -> None:
    """Train in one of several processes; the result lies in `folder`."""
    train(experiment, base, validation, folder, **options)


def _loop(
    run: Run,
    base: ImageSet,
    validation: ImageSet,
    compiler: str | None,
    until: int | Callable[[], bool] | None,
    progress: bool,
) -> None:
    experiment, device = run.experiment, run.device
    run.resume()
    wait()  # for the last to have read what the first is about to write
    check_phases(run.model, experiment, base)  # refuses now, not hours later
    EpisodeSampler(validation, experiment.way, experiment.shot, experiment.test_query)
    last = min(until, experiment.steps) if isinstance(until, int) else experiment.steps
    enough = until if callable(until) else lambda: False
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        deferred_interrupt() if world() == 1 else nullcontext(Event()) as interrupted,
    ):
        while run.step < last and _phase(run, base, validation, compiler, last, enough, interrupted, progress):
            pass
    wait()  # for the first to have written all that the others return
    if world() > 1:
        run.resume()


def _phase(
    run: Run,
    base: ImageSet,
    validation: ImageSet,
    compiler: str | None,
    last: int,
    enough: Callable[[], bool],
    interrupted: Event,
    progress: bool,
) -> bool:
    """Train from wherever the run is in its phase to the end of it, or to step `last`; False where it was `enough`."""
    run.enter_if_over()
    phase, end = run.stretch.phase, run.stretch.end
    step = Step(run, base, compiler)
    with tqdm(
        total=(min(last, end) - run.stretch.start) * phase.size,
        initial=run.done * phase.size,
        desc=phase.name,
        unit=f" {phase.batch}",
        disable=not (progress and leads()),
        mininterval=1.0,
    ) as bar:
        while run.step < min(last, end):
            run.totals += step()
            bar.update(phase.size)
            finished, stopped = run.step == end, enough()
            if run.done % GROUP == 0 or finished:
                loss, accuracy = run.log_group()
                bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1f} %, validation {run.best:.1f} %")
            if run.done % phase.validate_every == 0 or finished:
                run.validate(validation)
                run.save()
            elif (
                run.step == last
                or stopped
                or interrupted.is_set()
                or (phase.save_every and run.done % phase.save_every == 0)
            ):
                run.save()
            if interrupted.is_set():
                raise KeyboardInterrupt(
                    f"interrupted after step {run.step} of {run.experiment.steps}, which is saved in {run.folder}: "
                    "the same call goes on from there, to the same bits"
                )
            if stopped:
                return False
    return True
