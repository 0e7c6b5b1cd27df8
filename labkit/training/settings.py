"""Every named setting: what is trained on what, for how long, and how. A setting is data; the loop runs it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from labkit.common import checks
from labkit.episodes.augment import Augment, as_augment
from labkit.methods.authors import CLASSIFICATION
from labkit.training.phases import Phase, as_phase

OF_ONE_PHASE = ("batch", "warmup", "learning_rate", "momentum", "weight_decay", "clip", "validate_every")


@dataclass(frozen=True)
class Experiment:
    """One training, complete: with a seed it determines the weights.

    Attributes:
        name: of the preset.
        dataset, size, per_class: see `labkit.load_images`; `per_class` None takes all images.
        way, shot, query: training episodes.
        method: its name in `labkit.models.registry.METHODS`.
        backbone, backbone_options, groups, preset, choices: of `labkit.DMF`; of other methods `choices` holds all
            that is their own, and the paper's groups and preset say nothing.
        steps: optimiser steps in all; a length in seconds would make results depend on the machine.
        batch: episodes in a step.
        warmup: steps in which the learning rate rises linearly from 0; cosine to 0 afterwards.
        learning_rate, momentum, weight_decay: of SGD with Nesterov momentum.
        clip: largest norm of the gradient, or None.
        validate_every: steps between validations on `validation_episodes` episodes of the validation classes.
        test_query: queries per class in validation and test.
        augment: see `labkit.episodes.augment`; a dict of its fields will do.
        bfloat16: mixed precision in the backbone.
        phases: in place of the one that `steps` and the fields of `OF_ONE_PHASE` describe; `steps` is their sum, the
            others are then not read, and `experiment` refuses to change them.
    """

    name: str
    dataset: str
    size: int = 84
    per_class: int | None = None
    way: int = 5
    shot: int = 1
    query: int = 6
    method: str = "dmf"
    backbone: str = "resnet12"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    groups: int = 64
    preset: str = "paper"
    choices: dict[str, Any] = field(default_factory=dict)
    steps: int = 95 * 300
    batch: int = 4
    warmup: int = 5 * 300
    learning_rate: float = 0.35
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float | None = None
    validate_every: int = 300
    validation_episodes: int = 600
    test_query: int = 15
    augment: Augment = Augment()  # noqa: RUF009  (frozen)
    bfloat16: bool = False
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        for name in ("size", "way", "shot", "query", "groups", "steps", "batch", "validate_every", "test_query"):
            self._keep(name, checks.check_int(name, getattr(self, name)))
        self._keep("warmup", checks.check_int("warmup", self.warmup, least=0))
        self._keep("validation_episodes", checks.check_int("validation_episodes", self.validation_episodes, least=2))
        self._keep("learning_rate", checks.finite("learning_rate", self.learning_rate, above=0))
        self._keep("momentum", checks.finite("momentum", self.momentum, above=0, below=1))
        self._keep("weight_decay", checks.finite("weight_decay", self.weight_decay, least=0))
        if self.clip is not None:  # None is without
            self._keep("clip", checks.finite("clip", self.clip, above=0))
        if self.per_class is not None:
            self._keep("per_class", checks.check_int("per_class", self.per_class))
        for name in ("choices", "backbone_options"):
            checks.kind(name, getattr(self, name), dict, "a dict of options")
            self._keep(name, checks.plain(getattr(self, name)))
        for name in ("name", "dataset", "method", "backbone", "preset"):
            self._keep(name, checks.text(name, getattr(self, name), "a name"))
        self._keep("augment", as_augment(self.augment))
        self._keep("bfloat16", checks.flag("bfloat16", self.bfloat16))
        checks.kind("phases", self.phases, (tuple, list), "a tuple of phases")
        self._keep("phases", tuple(as_phase(phase) for phase in self.phases))
        total = sum(phase.steps for phase in self.phases)
        if total not in (0, self.steps):
            raise ValueError(f"steps={self.steps}, but the phases take {total}: give steps={total}, or other phases")

    def _keep(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def plan(self) -> tuple[Phase, ...]:
        """The phases, or the one that the other fields describe."""
        common = {name: getattr(self, name) for name in OF_ONE_PHASE if name != "batch"}
        return self.phases or (Phase(steps=self.steps, size=self.batch, **common),)

    def to_json(self) -> dict[str, Any]:
        """All settings in JSON types. An experiment without phases is written as before phases existed.

        Checkpoints are recognised by this text, and older ones must stay so.
        """
        fields = {name: value for name, value in asdict(self).items() if name != "phases"}
        return fields | ({"phases": [phase.to_json() for phase in self.phases]} if self.phases else {})


# The paper's settings. `score_scale`, about 1 / sqrt(c), is ours, for the reason given at QUICK; in the paper it is 1.
MINI_1SHOT = Experiment("mini-1shot", "miniimagenet", choices={"alignment": "closed", "score_scale": 0.04})
TIERED_1SHOT = replace(
    MINI_1SHOT,
    name="tiered-1shot",
    dataset="tieredimagenet",
    learning_rate=0.05,
    steps=85 * 3495,
    warmup=5 * 3495,
    validate_every=3495,
    augment=Augment(crop="resized"),
)

# Small images, a thin backbone, few images a class: what a laptop trains in minutes.
#
# Two things make it start every time, both found on validation classes (results/start.json). With the raw dot
# products of the paper's meta-classifier the few-shot loss begins at 24 to 30 instead of log 5, all of it bias
# towards one class, and its gradient is 130 to 170 times the global loss's: it pushes the class means together before
# there are features, and the network stays at chance. `score_scale` 0.08, about 1 / sqrt(c), ends that. And colour
# jitter and erasing, which photographs need, lengthen the plateau by hundreds of steps on glyphs, whose colours are
# random already. Of the learning rates 0.1 and 0.2 the second is ahead on validation; offsets ten times smaller at
# first made no difference to be seen.
QUICK = Experiment(
    "quick",
    "glyphs-mini",
    size=40,
    per_class=200,
    backbone_options={"width": 0.25},
    groups=16,
    choices={"alignment": "closed", "score_scale": 0.08},
    steps=1200,
    warmup=100,
    learning_rate=0.2,
    validate_every=200,
    validation_episodes=300,
    augment=Augment(jitter=0, erase=0),
)

# A training of a second, on pictures made on the spot: for tests and rehearsals.
TINY = Experiment(
    "tiny",
    "squares",
    size=24,
    way=3,
    query=3,
    backbone_options={"width": 0.05},
    groups=4,
    preset="released",
    choices={"alignment": "rk4"},
    steps=12,
    batch=2,
    warmup=4,
    learning_rate=0.02,
    validate_every=6,
    validation_episodes=6,
    test_query=3,
)

# What figure 4 and section 5.4 compare with QUICK, trained in the same way. CAN's cosines need no `score_scale`.
BESIDE_QUICK: dict[str, dict[str, Any]] = {
    "quick-none": {"alignment": "none"},
    "quick-1step": {"alignment": "euler(1)"},
    "quick-2steps": {"alignment": "recurrent(2)"},
    "quick-grid": {"sampling": False},
    "quick-match": {"start": "match"},
}

# Photographs on a few cores: miniImageNet, a backbone of a quarter of the width, the paper's augmentation. `mini-thin`
# has the paper's 84 px and 11 x 11 maps, `mini-small` 42 px and 6 x 6. Scale and rate are the quick setting's, found
# there on validation classes; photographs leave chance at once with it, and somewhat later with the paper's scale of 1.
MINI_THIN = replace(
    MINI_1SHOT,
    name="mini-thin",
    backbone_options={"width": 0.25},
    groups=16,
    choices={"alignment": "closed", "score_scale": 0.08},
    steps=5000,
    warmup=250,
    learning_rate=0.2,
    validate_every=500,
    bfloat16=True,
)
MINI_SMALL = replace(MINI_THIN, name="mini-small", size=42, steps=3000, warmup=150)
# The backbones on which heads are compared: 30 passes over miniImageNet's 38,400 base pictures, or as many of CIFAR-FS,
# enlarged from 32 px so that maps have 6 x 6 cells and nothing but the pictures differs. What selects is what the
# features are good for, without a head; one that is killed on a busy machine should lose little.
PRE_TRAINING = Phase(**CLASSIFICATION, save_every=100)
BACKBONE: dict[str, Any] = {"method": "classifier", "choices": {}, "steps": 9000, "phases": (PRE_TRAINING,)}

PRESETS: dict[str, Experiment] = {
    e.name: e
    for e in (
        QUICK,
        *(replace(QUICK, name=name, choices=QUICK.choices | other) for name, other in BESIDE_QUICK.items()),
        replace(QUICK, name="quick-can", method="can", choices={"cells": 25}),
        MINI_1SHOT,
        replace(MINI_1SHOT, name="mini-5shot", shot=5, groups=160),
        MINI_THIN,
        MINI_SMALL,
        replace(MINI_SMALL, name="mini-backbone-42", **BACKBONE),
        replace(MINI_SMALL, name="mini-backbone-84", size=84, **BACKBONE),
        replace(MINI_SMALL, name="cifar-backbone-42", dataset="cifar-fs", **BACKBONE),
        TIERED_1SHOT,
        replace(TIERED_1SHOT, name="tiered-5shot", shot=5, groups=320),
    )
}


def experiment(setting: str, /, **changes: Any) -> Experiment:
    """A preset by name, with some fields changed; dicts of `choices`, `backbone_options` and `augment` are added to it.

    Another `method` than the preset's has other choices: those that are given, and its own defaults. With fewer `steps`
    the preset's warm-up takes half of them at most, unless `warmup` is given too: it would not end. The first
    argument has no keyword, so that every field can be changed, `name` too.

    Raises:
        ValueError: unknown name, a value that cannot be, or one that phases would leave unread.
        TypeError: unknown field, or a value of the wrong kind.
    """
    if checks.text("the name of an experiment", setting) not in PRESETS:
        raise ValueError(f"there is no experiment {setting!r}; there are {sorted(PRESETS)}")
    preset = PRESETS[setting]
    checks.options("an experiment", Experiment, changes)
    own = ("choices", "backbone_options")
    for k in own:
        checks.kind(k, changes.get(k, {}), dict, "a dict of options")
    added: dict[str, Any] = {k: getattr(preset, k) | changes[k] for k in own if k in changes}
    if changes.get("method", preset.method) != preset.method:
        added["choices"] = changes.get("choices", {})
    if "steps" in changes and not changes.keys() & {"warmup", "phases"}:
        added["warmup"] = min(preset.warmup, checks.check_int("steps", changes["steps"]) // 2)
    if "augment" in changes:
        added["augment"] = as_augment(changes["augment"], preset.augment)
    changed = replace(preset, **changes | added)
    if changed.phases and (unread := [name for name in OF_ONE_PHASE if name in changes]):
        named = ", ".join(repr(phase.name) for phase in changed.phases)
        raise ValueError(
            f"{setting} is trained in phases ({named}), which have their own {', '.join(unread)}; change phases instead"
        )
    return changed
