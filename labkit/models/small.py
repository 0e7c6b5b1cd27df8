"""Every method in its smallest form, and an episode for it: what tests and the checks of a GPU try."""

from typing import Any

import torch
from torch import Tensor

from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.base import Method
from labkit.models.registry import METHODS

E, N, K, Q, CLASSES, SIZE = 2, 3, 2, 6, 7, 24  # episodes, classes, shots, queries; base classes; pixels
WIDTHS = {"resnet12": 0.05, "conv4": 8}
# What a method needs for so small an episode.
OPTIONS: dict[str, dict[str, Any]] = {
    "dmf": {"groups": 4, "preset": "released"},
    "can": {"cells": 9, "reduction": 2},
    "matchingnet": {"cells": 9},
    "deepemd": {"sfc_epochs": 2, "sfc_in_training": False},
    "maml": {"way": N, "steps": 1, "test_steps": 2, "inner_rate": 0.1, "cells": 9, "statistics": "support"},
    "tapnet": {"references": N},
    "tadam": {"start": 0.1},
    "snail": {"way": N, "shot": K, "keys": [4, 4, 4], "values": [4, 4, 4], "filters": 4},
    "robust_dist": {"members": 2},
    "leo": {"latents": 4},
    "e3bm": {"steps": 3},
    "cc_rot": {"head_blocks": 2},
}


def small_model(name: str, backbone: str = "resnet12", **changes: Any) -> Method:
    """A method of the registry on a thin backbone, in evaluation mode, as a function of what is given."""
    kind: Any = METHODS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = OPTIONS.get(name, {}) | changes
        made: Method = kind(backbone, classes=CLASSES, backbone_options={"width": WIDTHS[backbone]}, **options)
    made.preprocessing = Preprocessing(SIZE, "bilinear")
    return made.eval()


def small_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a loss takes: support, query, labels and labels among the base classes."""
    generator = torch.Generator().manual_seed(2)
    labels, base = torch.tensor([[0, 1, 2, 0, 2, 1]] * E), torch.tensor([[3, 4, 5, 3, 5, 4]] * E)
    shapes = (E, N, K, 3, SIZE, SIZE), (E, Q, 3, SIZE, SIZE)
    support, query = (torch.randn(shape, generator=generator) for shape in shapes)
    return support, query, labels, base
