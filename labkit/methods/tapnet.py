"""TapNet (Yoon et al., "TapNet: Neural Network Augmented with Task-Adaptive Projection for Few-Shot Learning", ICML
2019).

Learned reference vectors stand for classes, whichever classes those are in an episode. What makes them fit is a space
computed from the episode alone, in which every class mean lies in the direction of its reference (its section 3).

The paper's v_k is phi_k minus the mean of the other references, the code's N phi_k minus the sum of all: N - 1 times as
long, and the same once it is normalised. The learned bias b_k of each reference is the code's alone. The published
number was made with the code, and so are these; there are no options.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Size
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots, unit_length

# From scratch, a residual network of 12 layers, mean of its map, 512 numbers. Episodes of 20 classes with 5 shots, for
# 1 and for 5 shots in the test.
_EPISODES = {"steps": 50_001, "size": 1, "way": 20, "shot": 5, "query": 8}
_ADAM = {"optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 5e-4, "schedule": "steps", "milestones": (40_000,)}
AUTHORS_TRAINING: Trainings = {shot: AuthorsTraining([_EPISODES | _ADAM], {"references": 20}) for shot in (1, 5)}


class TapNet(Method):
    """Distances to learned references, in a space where the references agree with the class means.

    In training an episode of as many classes as there are references gives its k-th class the k-th of them. One of
    fewer classes, and every episode in evaluation, chooses: class by class, in their order, takes the reference that
    fits it best of those left. So scores depend a little on the order of the classes.

    Args:
        references: how many there are; the number of classes in a training episode.

    Raises:
        ValueError: more classes than references, or as many as channels, which leaves no space.
    """

    authors_training: ClassVar = AUTHORS_TRAINING
    references: Size = 20

    def build(self) -> None:
        self.reference = nn.Linear(self.channels, self.references)  # phi, and b
        nn.init.zeros_(self.reference.bias)

    def chosen(self, prototypes: Tensor) -> Tensor:
        """Which reference stands for which class: means [E, N, c] to [E, N]."""
        phi, bias = self.reference.weight, self.reference.bias
        fit = 2 * self.reference(prototypes) - prototypes.square().sum(-1, keepdim=True) - phi.square().sum(-1)
        fit, taken = fit.detach(), torch.zeros_like(fit[:, 0], dtype=torch.bool)
        found = []
        for of_class in fit.unbind(1):
            best = of_class.masked_fill(taken, float("-inf")).argmax(-1)
            taken = taken | F.one_hot(best, len(bias)).bool()
            found.append(best)
        return torch.stack(found, 1)

    def space(self, phi: Tensor, prototypes: Tensor) -> Tensor:
        """An orthonormal basis [E, c, N] of what the projection takes away, the errors e_k.

        M, the complement, is a constant of training: no gradient goes through it.
        """
        apart = phi.shape[1] * phi - phi.sum(1, keepdim=True)
        errors = unit_length(apart) - unit_length(prototypes)
        basis: Tensor = torch.linalg.qr(errors.detach().mT).Q
        return basis

    def compare(self, prototypes: Tensor, query: Tensor, which: Tensor) -> Tensor:
        """2 b_k - |(q - phi_k) M|^2: means [E, N, c], queries [E, Q, c], references [E, N] to [E, Q, N]."""
        phi, bias = self.reference.weight[which], self.reference.bias[which]
        taken = self.space(phi, prototypes)
        query, phi = (x - x @ taken @ taken.mT for x in (query, phi))
        return 2 * bias.unsqueeze(1) - (query.unsqueeze(2) - phi.unsqueeze(1)).square().sum(-1)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        n = support.shape[1]
        if n > self.references or n >= self.channels:
            raise ValueError(
                f"TapNet needs a reference for each of the {n} classes and more channels than classes, and has "
                f"{self.references} references and {self.channels} channels: train it with references={n} or more"
            )
        with torch.autocast(support.device.type, enabled=False):
            prototypes = mean_of_shots(support, support_mask).mean((-2, -1))
            if self.training and n == self.references:
                which = torch.arange(n, device=support.device).expand(len(support), -1)
            else:
                which = self.chosen(prototypes)
            return self.compare(prototypes, query.mean((-2, -1)), which)
