"""Prototypical Networks (Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017).

Code of the authors: jakesnell/prototypical-networks, which has Omniglot only.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots, read_out

# The training of the released code is for Omniglot (60 ways, 5 queries; Conv4), and this is it with what the paper says
# of miniImageNet: 30 ways at one shot and 20 at five, 15 queries, the same optimiser and schedule.
_RELEASED = {"steps": 20_000, "size": 1, "optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 0.0}
_HALVED = {"schedule": "steps", "decay": 0.5, "milestones": tuple(range(2000, 20_000, 2000)), "validate_every": 100}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_RELEASED | _HALVED | {"way": way, "shot": shot, "query": 15}])
    for shot, way in ((1, 30), (5, 20))
}


class ProtoNet(Method):
    """A class is the mean of its support features (Eq. 1), a score the negative squared distance to it (Eq. 2).

    Args:
        read: ``"map"``, the flattened map, as the authors do, or ``"mean"`` over its cells.
        scale: multiplies the squared distance; the authors' 1 suits features of their length.
    """

    authors_training: ClassVar = AUTHORS_TRAINING
    options_before: ClassVar = {"read": "mean"}
    read: Literal["map", "mean"] = "map"
    scale: float = 1.0

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        with torch.autocast(support.device.type, enabled=False):
            prototypes = read_out(mean_of_shots(support, support_mask), self.read)
            distance = (read_out(query, self.read).unsqueeze(2) - prototypes.unsqueeze(1)).square().sum(-1)
            return -self.scale * distance
