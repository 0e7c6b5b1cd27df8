"""A phase: what a stretch of training sees, follows and changes, as plain data. An experiment is one or more of them.

Pre-training on random base pictures and then meta-training on episodes, as FEAT or DeepEMD are meant to be trained, is

    phases=(
        Phase(9000, "pre-training", batch="pictures", size=128, selection="nearest mean"),
        Phase(2000, "meta-training", optimiser="adam", learning_rate=1e-4, rates={"to_query": 10.0}),
    )

A phase begins with the weights that the one before ended with, and with an optimiser of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from labkit.common import checks
from labkit.episodes.augment import Augment, as_augment


@dataclass(frozen=True)
class Phase:
    """One phase of a training.

    Attributes:
        steps: optimiser steps.
        name: for curves and messages.
        batch: ``"episodes"``, on which the method's `loss` is followed, or ``"pictures"``: random pictures of all base
            classes, on which its `classification_loss` is. Pictures are drawn without replacement until all have been
            seen, and then anew.
        size: episodes, or pictures, in a step.
        way, shot, query: of the episodes; None is the experiment's, as in validation and test.
        optimiser: ``"sgd"``, ``"adam"`` or ``"adamw"``, torch's own.
        learning_rate, weight_decay: of any optimiser.
        momentum, nesterov: of SGD.
        betas: of Adam and AdamW.
        rates: beginnings of parameters' names, and the factor by which their learning rate differs, for example
            ``{"backbone": 0.1}``. The longest beginning counts. At 0 the parameters are frozen: modules below the
            name stay in evaluation mode, so that the statistics of batch normalisation stand still too.
        schedule: of the learning rate after the warm-up: ``"cosine"`` to 0, ``"steps"`` (times `decay` at every one
            of the `milestones`), or ``"constant"``.
        warmup: steps in which the rate rises linearly from 0.
        milestones: steps of this phase, ascending.
        clip: largest norm of the gradient of all parameters together, or None.
        clip_value: largest value of a single number in the gradient, or None.
        label_smoothing: handed to the method's loss, which must take it.
        augment: None is the experiment's.
        validate_every: steps between validations, of which the end of a phase is always one.
        save_every: steps between checkpoints beside those of validations, or None.
        selection: by what validation measures: the ``"method"`` itself, or the ``"nearest mean"`` of pooled features
            by their cosine, for a phase that does not train the method's head.
    """

    steps: int
    name: str = "training"
    batch: Literal["episodes", "pictures"] = "episodes"
    size: int = 4
    way: int | None = None
    shot: int | None = None
    query: int | None = None
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    rates: dict[str, float] = field(default_factory=dict)
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    clip: float | None = None
    clip_value: float | None = None
    label_smoothing: float = 0.0
    augment: Augment | None = None
    validate_every: int = 300
    save_every: int | None = None
    selection: Literal["method", "nearest mean"] = "method"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, checks.plain(value))
        for name in ("steps", "size", "validate_every"):
            checks.check_int(name, getattr(self, name))
        for name in ("way", "shot", "query", "save_every"):  # None is the experiment's, or never
            checks.check_int(name, 1 if getattr(self, name) is None else getattr(self, name))
        checks.literals(Phase, vars(self))
        checks.text("name", self.name)
        checks.flag("nesterov", self.nesterov)
        checks.check_int("warmup", self.warmup, least=0)
        checks.finite("learning_rate", self.learning_rate, above=0)
        checks.finite("weight_decay", self.weight_decay, least=0)
        checks.finite("momentum", self.momentum, least=0, below=1)
        checks.finite("decay", self.decay, above=0)
        checks.finite("label_smoothing", self.label_smoothing, least=0, below=1)
        for name in ("clip", "clip_value"):
            checks.finite(name, 1 if getattr(self, name) is None else getattr(self, name), above=0)
        checks.kind("rates", self.rates, dict, "a dict from beginnings of parameters' names to factors")
        for name, factor in self.rates.items():
            checks.finite(f"the factor of {name!r}", factor, least=0)
        # What was read from JSON has lists and dictionaries here.
        for name in ("betas", "milestones"):
            object.__setattr__(self, name, tuple(checks.several(name, getattr(self, name), "a list of numbers", 0)))
        if len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas!r}")
        for beta in self.betas:
            checks.finite("betas", beta, least=0, below=1)
        for step in self.milestones:
            checks.check_int("milestones", step, least=0)
        if self.augment is not None:
            object.__setattr__(self, "augment", as_augment(self.augment))
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must be ascending steps, got {list(self.milestones)}")
        if self.milestones and self.schedule != "steps":
            raise ValueError(f'milestones go with schedule="steps", got {self.schedule!r}')

    def to_json(self) -> dict[str, Any]:
        """What differs from a phase's defaults, in JSON types: a field that is new one day changes no checkpoint."""
        plain = asdict(Phase(1))
        return {name: value for name, value in asdict(self).items() if name == "steps" or value != plain[name]}


def as_phase(given: Phase | dict[str, Any]) -> Phase:
    """A phase, or what JSON makes of one.

    Raises:
        TypeError: it is neither, or has a field that a phase has not.
    """
    if isinstance(given, Phase):
        return given
    checks.kind("a phase", given, dict, "a labkit.training.phases.Phase or a dict of its fields")
    checks.options("a phase", Phase, given)
    return Phase(**given)


def rate_at(step: int, phase: Phase) -> float:
    """The learning rate at a step of a phase, counted from 0: up linearly from 0, then the schedule."""
    if step < phase.warmup:
        return phase.learning_rate * (step + 1) / phase.warmup
    if phase.schedule == "constant":
        return phase.learning_rate
    if phase.schedule == "steps":
        passed = sum(step >= milestone for milestone in phase.milestones)
        return phase.learning_rate * phase.decay**passed
    progress = (step - phase.warmup) / max(1, phase.steps - phase.warmup)
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Stretch:
    """A phase and its place in a training.

    Attributes:
        phase: what is done.
        start, end: steps of the whole training at which it begins and is over.
        seen: episodes, or pictures, that earlier phases took: none is drawn twice because a phase begins.
    """

    phase: Phase
    start: int
    end: int
    seen: int

    def numbers(self, step: int) -> range:
        """The numbers, counted from 0, of the episodes or pictures that step `step` of the whole training takes."""
        first = self.seen + (step - self.start) * self.phase.size
        return range(first, first + self.phase.size)


def stretches(phases: Sequence[Phase]) -> list[Stretch]:
    """Phases one after another."""
    found: list[Stretch] = []
    for phase in phases:
        start = found[-1].end if found else 0
        seen = sum(s.phase.steps * s.phase.size for s in found if s.phase.batch == phase.batch)
        found.append(Stretch(phase, start, start + phase.steps, seen))
    return found
