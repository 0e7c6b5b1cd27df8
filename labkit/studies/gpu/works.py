"""What is trained on a GPU, in this order: the paper's setting first, then what the paper compares it with.

Every training of DMF has the released code's choices, which made the paper's numbers: RK4, ReLU, the border, raw dot
products and the global classifier on the backbone's maps. The other systems of Table 1 come last, each in its authors'
training where that is known, as many image passes long as DMF's.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from labkit.data.imageset import ImageSet
from labkit.studies.speed.setting import Setting
from labkit.studies.tables.cells import TABLE1, TABLE2, applied
from labkit.training.authors import shortened
from labkit.training.settings import Experiment, experiment

RELEASED: dict[str, Any] = {"preset": "released", "choices": {"alignment": "rk4", "score_scale": 1.0}, "bfloat16": True}
PUBLISHED = {"mini-1shot": (67.76, 0.46), "mini-5shot": (82.71, 0.31)}  # percent, Table 1 of the paper


def works() -> dict[str, Experiment]:
    """Every training by its name, in the order in which they are done."""
    one = replace(experiment("mini-1shot", **RELEASED), name="mini-1shot")
    found = {
        "mini-1shot": one,
        "mini-5shot": experiment("mini-5shot", **RELEASED),
        "mini-1shot-no-alignment": replace(one, choices=one.choices | {"alignment": "none"}),
        "mini-1shot-can": replace(one, method="can", choices={"cells": 121}),
    }
    for cell in TABLE2:
        changes = dict(cell.changes)
        if cell.factor == "groups":
            changes = {"groups": int(cell.value)}  # the quick setting's are scaled to its width
        if (cell.factor, cell.value) == ("align", "ode"):
            changes = {"choices": {"alignment": "closed"}}
        if "choices" in changes:
            changes["choices"] = one.choices | changes["choices"]
        changed = replace(one, **changes)
        if changed not in found.values():
            found[f"mini-1shot-{cell.factor}-{cell.value}".replace("_", "-")] = changed
    rivals = {cell.factor: cell for cell in reversed(TABLE1) if "method" in cell.changes and cell.factor != "CAN"}
    for cell in reversed(rivals.values()):  # of each system the first setting
        found[f"mini-1shot-{cell.changes['method']}".replace("_", "-")] = applied(cell, one)
    return {name: replace(e, name=f"gpu {name}") for name, e in found.items()}


@dataclass(frozen=True)
class SpeedSetting(Setting):
    """The speed table's setting on pictures that are loaded already, and the training whose step is measured."""

    pictures: tuple[ImageSet, ...] = ()
    experiment: Experiment = field(default_factory=lambda: works()["mini-1shot"])

    def images(self, split: str) -> ImageSet:
        """The pictures of one of the three splits."""
        return self.pictures[("train", "val", "test").index(split)]


def tiny(name: str, e: Experiment) -> Experiment:
    """The same training with sizes for a rehearsal of seconds on a processor."""
    small: dict[str, Any] = {"size": 24, "way": 3, "query": 2, "test_query": 3, "batch": 2, "validation_episodes": 6}
    own: dict[str, dict[str, Any]] = {
        "can": {"cells": 9, "reduction": 2},
        "dynamic_fewshot": {"novel": small["way"] - 1},  # so that one class stays base
        "maml": {"cells": 9, "way": small["way"]},
        "snail": {"way": small["way"]},
    }
    choices = e.choices | own.get(e.method, {})
    small |= {"groups": 4, "choices": choices, "backbone_options": e.backbone_options | {"width": 0.05}}
    if e.phases:
        share = 30 / e.steps
        phases = tuple(replace(p, size=2, way=None, shot=None, query=None) for p in shortened(e.phases, share))
        return replace(e, **small, phases=phases, steps=sum(phase.steps for phase in phases))
    return replace(e, **small, steps=30, warmup=4, learning_rate=0.02)


def tiny_pictures(split: str, size: int = 24, classes: int = 6, per_class: int = 12) -> ImageSet:
    """Bright squares on noise, whose place says the class: what a rehearsal trains on."""
    rng = np.random.default_rng(len(split))
    labels = np.repeat(np.arange(classes), per_class)
    pixels = rng.integers(0, 60, (len(labels), size, size, 3), dtype=np.uint8)
    third = size // 3
    for i, label in enumerate(labels):
        y, x = third * (label // 3), third * (label % 3)
        pixels[i, y : y + third, x : x + third] += np.uint8(120)
    return ImageSet.from_arrays(pixels, labels, split=split, dataset="squares")
