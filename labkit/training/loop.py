"""One training loop, for every experiment: four episodes a step, both losses, the paper's optimiser and schedule.

On several machines, the same command on each, with one address that all can reach:

    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 -m labkit train \\
        mini-1shot ../runs/mini --data-root /data/x --device cuda
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from labkit.common import checks
from labkit.common.devices import available
from labkit.common.files import alone_in, append, write_atomically
from labkit.common.interrupts import held_back
from labkit.data import ImageSet
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.protocol import evaluate
from labkit.methods.base import Losses, Method
from labkit.methods.noise import set_keys
from labkit.models.checkpoints import load_model, load_state, save_model, save_state
from labkit.models.registry import METHODS
from labkit.training.distributed import joined, launch, mean, rank, replicated, under_torchrun, wait, world
from labkit.training.divergence import Watch, check_finite
from labkit.training.settings import Experiment

GROUP = 25  # steps that share a line of metrics
KEPT = "The last good checkpoint is {file}, of step {step}."
FILES = ("metrics.jsonl", "best.safetensors", "last.pt")


@dataclass(frozen=True)
class Trained:
    """What `train` leaves behind.

    Attributes:
        model: the best by validation (the last, where there was none yet), in eval mode.
        validation: best validation accuracy in percent.
        metrics: one dict a step-group, and one a validation, as in ``metrics.jsonl``.
        folder: holds ``metrics.jsonl``, ``best.safetensors`` and ``last.pt``.
        seconds: of this call; metrics hold none, so that the same seed gives the same file.
    """

    model: Method
    validation: float
    metrics: list[dict[str, Any]]
    folder: Path
    seconds: float


def build_model(experiment: Experiment, classes: int, seed: int) -> Method:
    """The untrained model of an experiment, a function of the seed.

    Raises:
        ValueError: unknown method, or choices that the method refuses.
    """
    e = experiment
    checks.kind("experiment", e, Experiment, "a labkit.Experiment, as labkit.experiment gives")
    seed, classes = checks.whole("seed", seed, least=0), checks.whole("classes", classes)
    if e.method not in METHODS:
        raise ValueError(f"there is no method {e.method!r}; there are {sorted(METHODS)}")
    own = e.choices | ({"groups": e.groups, "preset": e.preset} if e.method == "dmf" else {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return METHODS[e.method](e.backbone, classes=classes, backbone_options=e.backbone_options, **own)


def learning_rate_at(step: int, experiment: Experiment) -> float:
    """Linear from 0 over `warmup` steps, then half a cosine to 0 at `steps`."""
    if step < experiment.warmup:
        return experiment.learning_rate * (step + 1) / experiment.warmup
    progress = (step - experiment.warmup) / max(1, experiment.steps - experiment.warmup)
    return experiment.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


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
    until: int | None = None,
    progress: bool = True,
) -> Trained:
    """Train on base classes, select on validation classes; continue where an earlier call in `folder` stopped.

    Args:
        experiment: what to train.
        base, validation: images of the base and of the validation classes.
        folder: receives metrics and checkpoints.
        seed: of initial weights, episodes, augmentation and dropout.
        device: where; with several, of which kind.
        devices: how many of this machine share the episodes of a step; see `labkit.training.distributed`.
        nodes: how many machines do; with more than one, torchrun starts ``python -m labkit train`` on each.
        compiler: backend of torch.compile for the forward and backward pass, or None; ``"auto"`` is ``"inductor"`` on
            a GPU and None on a CPU, where compiling gains nothing.
        until: stop after this step, to be continued; the schedule stays that of all `experiment.steps`.
        progress: show a bar with loss, accuracy, episodes a second and time left.

    Raises:
        ValueError: `folder` holds another experiment or seed, or the processes cannot share a step evenly.
        ValueError: there is no such device.
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
    seed, progress = checks.whole("seed", seed, least=0), checks.flag("progress", progress)
    until = None if until is None else checks.whole("until", until)
    devices, nodes = checks.whole("devices", devices), checks.whole("nodes", nodes)
    if experiment.batch % (devices * nodes):
        raise ValueError(f"{experiment.batch} episodes a step cannot be shared evenly by {devices} x {nodes} devices")
    if devices * nodes > 1 and not under_torchrun():
        if nodes > 1:
            raise ValueError("several machines are started by torchrun: see `python -m labkit train --help`")
        options = {"seed": seed, "device": device.type, "devices": devices, "compiler": compiler}
        launch(_work, (experiment, base, validation, folder, options | {"until": until, "progress": progress}), devices)
        run = _Run(experiment, base, seed, device, folder)
        run.resume()
    else:
        with joined(device, devices, nodes) as device:
            run = _Run(experiment, base, seed, device, folder)
            with alone_in(folder, FILES) if rank() == 0 else nullcontext():
                _loop(run, base, validation, compiler, until, progress)
    file = folder / "best.safetensors"
    best = load_model(file, run.device) if file.exists() else run.model.eval()
    return Trained(best, run.best, run.metrics, folder, time.perf_counter() - started)


def _work(experiment: Experiment, base: ImageSet, validation: ImageSet, folder: Path, options: dict[str, Any]) -> None:
    """One of several processes; what it trained lies in `folder`."""
    train(experiment, base, validation, folder, **options)


def _loop(
    run: _Run, base: ImageSet, validation: ImageSet, compiler: str | None, until: int | None, progress: bool
) -> None:
    experiment, device = run.experiment, run.device
    run.resume()
    wait()  # for the last to have read what the first is about to write
    objective, sampler = _prepared(run, base, compiler)
    EpisodeSampler(validation, experiment.way, experiment.shot, experiment.test_query)  # refuses now, not hours later
    last = experiment.steps if until is None else min(until, experiment.steps)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        held_back() if world() == 1 else nullcontext(Event()) as interrupted,
        tqdm(
            total=last * experiment.batch,
            initial=run.step * experiment.batch,
            desc="training",
            unit=" episodes",
            disable=not progress or rank() > 0,
            mininterval=1.0,
        ) as bar,
    ):
        while run.step < last:
            run.totals += _step(run, objective, sampler)
            bar.update(experiment.batch)
            finished = run.step == experiment.steps
            if run.step % GROUP == 0 or finished:
                loss, accuracy = run.log_group()
                bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1f} %, validation {run.best:.1f} %")
            if run.step % experiment.validate_every == 0 or finished:
                run.validate(validation)
                run.save()
            elif run.step == last or interrupted.is_set():
                run.save()
            if interrupted.is_set():
                raise KeyboardInterrupt(
                    f"interrupted after step {run.step} of {experiment.steps}, which is saved in {run.folder}: "
                    "the same call goes on from there, to the same bits"
                )
    wait()  # for the first to have written all that the others return
    if world() > 1:
        run.resume()


def _prepared(run: _Run, base: ImageSet, compiler: str | None) -> tuple[nn.Module, EpisodeSampler]:
    """What a step needs besides the run: the loss to follow, replicated and compiled, and episodes on the device."""
    e, device = run.experiment, run.device
    objective = replicated(_Objective(run.model), device)
    if compiler == "auto":
        compiler = "inductor" if device.type == "cuda" else None
    if compiler is not None:
        objective.compile(backend=compiler, dynamic=False)
    return objective, EpisodeSampler(base, e.way, e.shot, e.query, run.seed, device=device, augment=e.augment)


def timed_steps(
    experiment: Experiment, base: ImageSet, device: torch.device | str, count: int, warm_up: int
) -> list[float]:
    """Seconds of a step, for every `GROUP` of `count` steps, after `warm_up` that do not count; nothing is kept."""
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(experiment, base, 0, torch.device(device), Path(folder))
        objective, sampler = _prepared(run, base, "auto")
        times = []
        for i in range(warm_up + count):
            if i >= warm_up and (i - warm_up) % GROUP == 0:
                float(run.totals[0])  # waits for a GPU, as the loop does when it writes a line of metrics
                times.append(time.perf_counter())
            run.totals += _step(run, objective, sampler)
        float(run.totals[0])
        times.append(time.perf_counter())
    return [(after - before) / GROUP for before, after in itertools.pairwise(times)]


class _Objective(nn.Module):
    """The loss of a model as a module's forward pass, which is what is compiled and replicated."""

    def __init__(self, model: Method) -> None:
        super().__init__()
        self.model = model

    def forward(self, *batch: Tensor) -> Losses:
        return self.model.loss(*batch)


def _step(run: _Run, objective: nn.Module, sampler: EpisodeSampler) -> Tensor:
    """One optimiser step; loss, its two parts and accuracy in percent of this process's episodes, on the device.

    Nothing here makes the host wait for a GPU.
    """
    experiment = run.experiment
    # A stranger's layers draw from the global generator: seeded anew at every step, a resumed run draws the same.
    torch.manual_seed(int(np.random.SeedSequence((run.seed, run.step, 3)).generate_state(1, np.uint64)[0] >> 1))
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate_at(run.step, experiment)
    own = experiment.batch // world()
    first = run.step * experiment.batch + rank() * own
    episodes = range(first, first + own)
    batch = sampler.batch(episodes)
    set_keys(run.model, [(run.seed, i, 4) for i in episodes])
    base_labels = batch.classes.gather(1, batch.query_labels)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=experiment.bfloat16):
        losses: Losses = objective(batch.support, batch.query, batch.query_labels, base_labels)
    run.optimiser.zero_grad()
    losses.total.backward()
    run.watch.note(run.step + 1, losses.total, losses.scores)
    if run.device.type == "cpu":
        run.check()  # before the weights change; elsewhere with the step-group, where it makes nobody wait
    if experiment.clip is not None:
        nn.utils.clip_grad_norm_(run.model.parameters(), experiment.clip)
    run.optimiser.step()
    run.step += 1
    hits = (losses.scores.argmax(-1) == batch.query_labels).float().mean()
    return torch.stack([losses.total, losses.few_shot, losses.auxiliary, 100 * hits]).detach()


class _Run:
    """The state of a training: what a checkpoint holds."""

    def __init__(self, experiment: Experiment, base: ImageSet, seed: int, device: torch.device, folder: Path) -> None:
        self.experiment, self.seed, self.device, self.folder = experiment, seed, device, folder
        model: Any = build_model(experiment, len(base.class_names), seed)
        model.preprocessing = Preprocessing.of(base)
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=experiment.learning_rate,
            momentum=experiment.momentum,
            weight_decay=experiment.weight_decay,
            nesterov=True,
            fused=device.type == "cuda",
        )
        self.step, self.best = 0, 0.0
        self.watch, self.kept = Watch(self.model, experiment.batch // world(), device), "There is no checkpoint yet."
        # Loss, its two parts and accuracy since the last line of metrics, of this process's episodes.
        self.totals = torch.zeros(4, device=device)
        self.metrics: list[dict[str, Any]] = []
        self.identity = json.dumps({"experiment": experiment.to_json(), "seed": seed, "digest": base.provenance.digest})

    def check(self) -> None:
        """Stops, at the latest before anything is written, if a step so far was not finite."""
        batch = self.experiment.batch
        self.watch.check(self.seed, batch, rank() * batch // world(), self.kept)

    def log_group(self) -> tuple[float, float]:
        """A line of means over the step-group that ends here; its loss and accuracy."""
        self.check()
        loss, few_shot, auxiliary, accuracy = (mean(self.totals) / ((self.step - 1) % GROUP + 1)).tolist()
        self.totals.zero_()
        rate = learning_rate_at(self.step - 1, self.experiment)
        self.log(step=self.step, loss=loss, few_shot=few_shot, auxiliary=auxiliary, accuracy=accuracy, rate=rate)
        return loss, accuracy

    def log(self, **line: Any) -> None:
        self.metrics.append({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()})
        if rank() > 0:
            return
        append(self.folder / "metrics.jsonl", (json.dumps(self.metrics[-1]) + "\n").encode())

    def validate(self, images: ImageSet) -> None:
        """By the first process, which keeps the best weights; the others wait for it in their next step."""
        self.check()
        if rank() > 0:
            return
        e = self.experiment
        check_finite(self.model.state_dict(), self.step, self.kept)
        result = evaluate(self.model, images, e.way, e.shot, e.test_query, e.validation_episodes, bfloat16=e.bfloat16)
        self.log(step=self.step, validation=result.accuracy, ci95=result.ci95)
        if result.accuracy > self.best:
            self.best = result.accuracy
            about = {"experiment": e.to_json(), "seed": self.seed, "step": self.step, "validation": result.summary()}
            save_model(self.model, self.folder / "best.safetensors", about)

    def save(self) -> None:
        """Everything that `resume` needs, last: what it counts on is on the disk already."""
        self.check()
        totals = mean(self.totals)
        if rank() > 0:
            return
        check_finite(self.model.state_dict(), self.step, self.kept)
        state = {
            "identity": self.identity,
            "step": self.step,
            "best": self.best,
            "totals": totals,
            "metrics": json.dumps(self.metrics),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_state(state, self.folder / "last.pt")
        self.kept = KEPT.format(file=self.folder / "last.pt", step=self.step)

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one; metrics written after it are dropped."""
        file = self.folder / "last.pt"
        if file.exists():
            state = load_state(file)
            if state["identity"] != self.identity:
                raise ValueError(f"{self.folder} holds another experiment or seed: choose another folder or delete it")
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.best, self.metrics = state["step"], state["best"], json.loads(state["metrics"])
            self.totals = state["totals"].to(self.device)
            self.kept = KEPT.format(file=file, step=self.step)
        if rank() > 0:
            return
        text = "".join(json.dumps(line) + "\n" for line in self.metrics)
        write_atomically(self.folder / "metrics.jsonl", text.encode())
