"""One training loop, for every experiment: four episodes a step, both losses, the paper's optimiser and schedule."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from labkit.checkpoints import load_model, save_model, write_atomically
from labkit.data.imageset import ImageSet
from labkit.dmf import DMF
from labkit.episodes import EpisodeSampler
from labkit.evaluation import evaluate
from labkit.experiments import Experiment
from labkit.noise import set_keys
from labkit.preprocessing import Preprocessing

GROUP = 25  # steps that share a line of metrics


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

    model: DMF
    validation: float
    metrics: list[dict[str, Any]]
    folder: Path
    seconds: float


def build_model(experiment: Experiment, classes: int, seed: int) -> DMF:
    """The untrained model of an experiment, a function of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DMF(
            experiment.backbone,
            experiment.groups,
            experiment.preset,
            classes=classes,
            backbone_options=experiment.backbone_options,
            **experiment.choices,
        )


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
    until: int | None = None,
    progress: bool = True,
) -> Trained:
    """Train on base classes, select on validation classes; continue where an earlier call in `folder` stopped.

    Args:
        experiment: what to train.
        base, validation: images of the base and of the validation classes.
        folder: receives metrics and checkpoints.
        seed: of initial weights, episodes, augmentation and dropout.
        device: where.
        until: stop after this step, to be continued; the schedule stays that of all `experiment.steps`.
        progress: show a bar with loss, accuracy, episodes a second and time left.

    Raises:
        ValueError: `folder` holds another experiment or seed.
        FloatingPointError: the loss is not finite.
    """
    started = time.perf_counter()
    folder, device = Path(folder), torch.device(device)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(experiment, base, seed, device, folder)
    run.resume()
    sampler = EpisodeSampler(
        base, experiment.way, experiment.shot, experiment.query, seed, device=device, augment=experiment.augment
    )
    last = experiment.steps if until is None else min(until, experiment.steps)
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        tqdm(
            total=last * experiment.batch,
            initial=run.step * experiment.batch,
            desc="training",
            unit=" episodes",
            disable=not progress,
            mininterval=1.0,
        ) as bar,
    ):
        while run.step < last:
            run.totals += _step(run, sampler)
            bar.update(experiment.batch)
            finished = run.step == experiment.steps
            if run.step % GROUP == 0 or finished:
                loss, accuracy = run.log_group()
                bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1f} %, validation {run.best:.1f} %")
            if run.step % experiment.validate_every == 0 or finished:
                run.validate(validation)
                run.save()
            elif run.step == last:
                run.save()
    file = folder / "best.safetensors"
    best = load_model(file, device) if file.exists() else run.model.eval()
    return Trained(best, run.best, run.metrics, folder, time.perf_counter() - started)


def _step(run: _Run, sampler: EpisodeSampler) -> torch.Tensor:
    """One optimiser step; its loss, the two parts and the accuracy in percent, left on the device."""
    experiment, model = run.experiment, run.model
    # A stranger's layers draw from the global generator: seeded anew at every step, a resumed run draws the same.
    torch.manual_seed(int(np.random.SeedSequence((run.seed, run.step, 3)).generate_state(1, np.uint64)[0] >> 1))
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate_at(run.step, experiment)
    episodes = range(run.step * experiment.batch, (run.step + 1) * experiment.batch)
    batch = sampler.batch(episodes)
    set_keys(model, [(run.seed, i, 4) for i in episodes])
    base_labels = batch.classes.gather(1, batch.query_labels)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=experiment.bfloat16):
        losses = model.loss(batch.support, batch.query, batch.query_labels, base_labels)
    run.optimiser.zero_grad()
    losses.total.backward()
    if experiment.clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), experiment.clip)
    run.optimiser.step()
    run.step += 1
    hits = (losses.scores.argmax(-1) == batch.query_labels).float().mean()
    return torch.stack([losses.total, losses.few_shot, losses.globally, 100 * hits]).detach()


class _Run:
    """The state of a training: what a checkpoint holds."""

    def __init__(self, experiment: Experiment, base: ImageSet, seed: int, device: torch.device, folder: Path) -> None:
        self.experiment, self.seed, self.device, self.folder = experiment, seed, device, folder
        model = build_model(experiment, len(base.class_names), seed)
        model.preprocessing = Preprocessing.of(base)
        self.model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=experiment.learning_rate,
            momentum=experiment.momentum,
            weight_decay=experiment.weight_decay,
            nesterov=True,
            fused=device.type == "cuda",
        )
        self.step, self.best = 0, 0.0
        self.totals = torch.zeros(4, device=device)  # loss, its two parts and accuracy since the last line of metrics
        self.metrics: list[dict[str, Any]] = []
        self.identity = json.dumps({"experiment": experiment.to_json(), "seed": seed, "digest": base.provenance.digest})

    def check_finite(self) -> None:
        """Stop before a broken number is written anywhere."""
        loss = float(self.totals[0])
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} in the steps before {self.step} (seed {self.seed})")

    def log_group(self) -> tuple[float, float]:
        """A line of means over the step-group that ends here; its loss and accuracy."""
        self.check_finite()
        loss, few_shot, globally, accuracy = (self.totals / ((self.step - 1) % GROUP + 1)).tolist()
        self.totals.zero_()
        rate = learning_rate_at(self.step - 1, self.experiment)
        self.log(step=self.step, loss=loss, few_shot=few_shot, globally=globally, accuracy=accuracy, rate=rate)
        return loss, accuracy

    def log(self, **line: Any) -> None:
        self.metrics.append({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()})
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(self.metrics[-1]) + "\n")

    def validate(self, images: ImageSet) -> None:
        e = self.experiment
        result = evaluate(self.model, images, e.way, e.shot, e.test_query, e.validation_episodes, bfloat16=e.bfloat16)
        self.log(step=self.step, validation=result.accuracy, ci95=result.ci95)
        if result.accuracy > self.best:
            self.best = result.accuracy
            about = {"experiment": e.to_json(), "seed": self.seed, "step": self.step, "validation": result.summary()}
            save_model(self.model, self.folder / "best.safetensors", about)

    def save(self) -> None:
        """Everything that `resume` needs, last: what it counts on is on the disk already."""
        self.check_finite()
        state = {
            "identity": self.identity,
            "step": self.step,
            "best": self.best,
            "totals": self.totals,
            "metrics": json.dumps(self.metrics),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.folder / "last.pt", buffer.getvalue())

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one; metrics written after it are dropped."""
        file = self.folder / "last.pt"
        if file.exists():
            state = torch.load(file, map_location=self.device, weights_only=True)
            if state["identity"] != self.identity:
                raise ValueError(f"{self.folder} holds another experiment or seed: choose another folder or delete it")
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.best, self.metrics = state["step"], state["best"], json.loads(state["metrics"])
            self.totals = state["totals"]
        text = "".join(json.dumps(line) + "\n" for line in self.metrics)
        write_atomically(self.folder / "metrics.jsonl", text.encode())
