"""Prototypical Networks (Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017).

Code of the authors: jakesnell/prototypical-networks, which has Omniglot only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from labkit.methods.base import Method, mean_of_shots, read_out

# Their training, in the fields of a phase: that of the released code, for Omniglot (60 ways; Conv4). Of miniImageNet
# the paper says 30 ways at one shot and 20 at five, 15 queries, the same optimiser and schedule.
_RELEASED = {"steps": 20_000, "size": 1, "optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 0.0}
_HALVED = {"schedule": "steps", "decay": 0.5, "milestones": tuple(range(2000, 20_000, 2000)), "validate_every": 100}
AUTHORS_TRAINING: dict[int, tuple[dict[str, Any], ...]] = {
    1: (_RELEASED | _HALVED | {"way": 30, "shot": 1, "query": 15},),
    5: (_RELEASED | _HALVED | {"way": 20, "shot": 5, "query": 15},),
}


class ProtoNet(Method):
    """A class is the mean of its support features (Eq. 1), a score the negative squared distance to it (Eq. 2).

    Args:
        backbone, classes, backbone_options: see `Method`; it has no global classifier, so `classes` is ignored.
        read: ``"map"``, the flattened map, as the authors do, or ``"mean"`` over its cells.
        scale: multiplies the squared distance; the authors' 1 suits features of their length.
    """

    options_before: ClassVar = {"read": "mean"}
    read: Literal["map", "mean"] = "map"
    scale: float = 1.0

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        with torch.autocast(support.device.type, enabled=False):
            prototypes = read_out(mean_of_shots(support, support_mask), self.read)
            distance = (read_out(query, self.read).unsqueeze(2) - prototypes.unsqueeze(1)).square().sum(-1)
            return -self.scale * distance
