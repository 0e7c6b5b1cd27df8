"""One step of a training: the episodes, or pictures, the loss, its gradient, the weights."""

import inspect
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit.common import checks
from labkit.common.devices import available
from labkit.data import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.feature_set import FeatureSet
from labkit.methods.base import Method
from labkit.methods.losses import Losses
from labkit.methods.noise import set_keys
from labkit.training.distributed import replicated
from labkit.training.feeds import EpisodeFeed, Feed, PictureFeed
from labkit.training.optimisers import clip, parameter_groups, set_rate
from labkit.training.phases import rate_at
from labkit.training.run import GROUP, Run
from labkit.training.settings import Experiment

GRAPHS = "reduce-overhead"  # torch.compile's own name for inductor with CUDA graphs
LOSS_ALONE = "inductor-loss"  # the lab's own: pictures are prepared uncompiled


def check_compiler(compiler: str | None) -> None:
    """Raises:
    TypeError: no name.
    ValueError: torch.compile has no backend of that name.
    """
    if compiler in (None, "auto", "inductor", GRAPHS, LOSS_ALONE):  # the others only torch's compiler knows
        return
    checks.text("compiler", compiler, "a backend's name, 'auto' or None")
    there = torch.compiler.list_backends(exclude_tags=())
    if compiler not in there:
        named = f"'auto', None, {GRAPHS!r}, {LOSS_ALONE!r} or one of {there}"
        raise ValueError(f"compiler must be {named}, got {compiler!r}")


class Step:
    """Steps of the phase that a run is in, one a call.

    Args:
        run: whose weights change.
        base: images, or feature maps, of the base classes.
        compiler: backend of torch.compile for what prepares the pictures and for the forward and backward pass,
            ``"reduce-overhead"`` for inductor with CUDA graphs of the latter, ``"inductor-loss"`` for inductor of the
            latter alone, or None; ``"auto"`` is ``"inductor"`` on a GPU, and None on a CPU, where compiling gains
            nothing.
    """

    def __init__(self, run: Run, base: ImageSet, compiler: str | None = "auto") -> None:
        e, phase = run.experiment, run.stretch.phase
        augment = None if isinstance(base, FeatureSet) else phase.augment or e.augment
        self.run, self.feed = run, _feed(run, base, augment)
        loss = getattr(run.model, self.feed.loss)
        if phase.label_smoothing:
            loss = partial(loss, label_smoothing=phase.label_smoothing)
        self.objective = replicated(_Objective(run.model, loss), run.device)
        if compiler == "auto":
            compiler = "inductor" if run.device.type == "cuda" else None
        self.graphs = compiler == GRAPHS
        if self.graphs:
            self.objective.compile(mode=GRAPHS, dynamic=False)
        elif compiler is not None:
            self.objective.compile(backend="inductor" if compiler == LOSS_ALONE else compiler, dynamic=False)
        if compiler not in (None, LOSS_ALONE):
            self.feed.prepare.compile("inductor" if self.graphs else compiler)

    def __call__(self) -> Tensor:
        """Loss, its two parts and accuracy in percent of this process's part, on the device.

        Nothing here makes the host wait for a GPU, and nothing that a CUDA graph gave is kept for the next step.
        """
        run, phase = self.run, self.run.stretch.phase
        # A stranger's layers draw from the global generator: seeded anew at every step, a resumed run draws the same.
        torch.manual_seed(int(np.random.SeedSequence((run.seed, run.step, 3)).generate_state(1, np.uint64)[0] >> 1))
        set_rate(run.optimiser, rate_at(run.done, phase))
        batch = self.feed.batch(run.own(run.step))
        set_keys(run.model, batch.keys)
        run.optimiser.zero_grad()
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.experiment.bfloat16):
            losses: Losses = self.objective(*batch.inputs)
        losses.total.backward()
        run.watch.note(run.step + 1, losses.total, losses.scores)
        if run.device.type == "cpu":
            run.check()  # before the weights change; elsewhere with the step-group, where it makes nobody wait
        clip(run.model, phase)
        run.optimiser.step()
        run.step += 1
        hits = (losses.scores.argmax(-1) == batch.labels).float().mean()
        return torch.stack([losses.total, losses.few_shot, losses.auxiliary, 100 * hits]).detach()


def check_phases(model: Method, e: Experiment, base: ImageSet) -> None:
    """Refuse what a later phase could not do, before the first one begins.

    Raises:
        ValueError: a phase wants label smoothing of a loss that takes none, other rates for parameters that are not
            there, or more of the base classes than they have.
    """
    for phase in e.plan:
        kind = PictureFeed if phase.batch == "pictures" else EpisodeFeed
        if phase.label_smoothing and "label_smoothing" not in inspect.signature(getattr(model, kind.loss)).parameters:
            raise ValueError(f"{type(model).__name__}.{kind.loss} takes no label_smoothing")
        if phase.rates:
            parameter_groups(model, phase.rates)
        if kind is EpisodeFeed:
            EpisodeSampler(base, phase.way or e.way, phase.shot or e.shot, phase.query or e.query)


def _feed(run: Run, base: ImageSet, augment: Any) -> Feed:
    e, phase = run.experiment, run.stretch.phase
    if phase.batch == "pictures":
        return PictureFeed(base, run.seed, run.device, augment)
    sizes = phase.way or e.way, phase.shot or e.shot, phase.query or e.query
    return EpisodeFeed(EpisodeSampler(base, *sizes, run.seed, device=run.device, augment=augment))


class _Objective(nn.Module):
    """The loss of a model as a module's forward pass, which is what is compiled and replicated."""

    def __init__(self, model: Method, loss: Any) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor) -> Losses:
        losses: Losses = self.loss(*batch)
        return losses


@contextmanager
def trial(
    model: Method, experiment: Experiment, base: ImageSet, device: torch.device | str, compiler: str | None = "auto"
) -> Iterator[Callable[[], Tensor]]:
    """The steps of a training's first phase on a model, for measurements; nothing is written."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        yield Step(Run(experiment, model, base, 0, available(device), Path(folder)), base, compiler)


def seconds_of_steps(step: Callable[[], Tensor], count: int, warm_up: int) -> list[float]:
    """Seconds of a step, for every `GROUP` of `count` steps, after `warm_up`, at least one, that do not count."""
    for _ in range(warm_up):
        totals = step()
    times = [_now(totals)]
    for i in range(1, count + 1):
        totals = step()
        if i % GROUP == 0:
            times.append(_now(totals))
    return [(after - before) / GROUP for before, after in itertools.pairwise(times)]


def _now(totals: Tensor) -> float:
    """The time when what a step gave is there: a GPU is waited for, as the loop does when it writes metrics."""
    float(totals[0])
    return time.perf_counter()
