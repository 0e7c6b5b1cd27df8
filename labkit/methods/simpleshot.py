"""SimpleShot (Wang et al., "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning", 2019).

A backbone is trained to classify the base classes; an episode trains nothing. What Table 1's systems add to a backbone
is measured against it. It was written from the paper's published description, without code: features are pooled,
centred on the mean of the base classes' features (``"CL2N"``, the paper's best) and scaled to length 1, and the nearest
mean of a class's shots is the answer.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.base import mean_of_shots
from labkit.methods.classifier import Classifier


class SimpleShot(Classifier):
    """The nearest mean of a class's transformed features (section 3): a score is minus the squared distance to it.

    Args:
        transform: ``"UN"``, features as they are, ``"L2N"``, scaled to length 1, or ``"CL2N"``, centred first, which
            needs `take_base_mean`: its scores raise a ValueError without.
    """

    transform: Literal["UN", "L2N", "CL2N"] = "L2N"
    centre: Tensor

    def build(self) -> None:
        super().build()
        self.register_buffer("centre", torch.zeros(self.channels))  # not known yet

    def take_base_mean(self, mean: Callable[[], Tensor]) -> None:
        if self.transform == "CL2N":
            self.centre.copy_(mean())

    def transformed(self, maps: Tensor) -> Tensor:
        """Maps [..., c, h, w] as vectors [..., c]."""
        pooled = maps.mean((-2, -1))
        if self.transform == "UN":
            return pooled
        return F.normalize(pooled - self.centre if self.transform == "CL2N" else pooled, dim=-1)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        if self.transform == "CL2N" and not self.centre.any():
            raise ValueError(
                "CL2N centres features on the mean of the base classes' features: train it as a head on feature maps "
                "(labkit.training.heads.train_head), or give the mean to take_base_mean"
            )
        with torch.autocast(support.device.type, enabled=False):
            means = mean_of_shots(self.transformed(support), support_mask)
            return -(self.transformed(query).unsqueeze(2) - means.unsqueeze(1)).square().sum(-1)
