"""E3BM (Liu et al., "An Ensemble of Epoch-wise Empirical Bayes for Few-shot Learning", ECCV 2020).

A classifier of the episode's classes starts at the means of their shots and is trained on the support by gradient
descent. The classifiers after every step ("epoch") are an ensemble; how long a step is and how much its classifier
counts comes from two hyperprior learners, which read the support's mean feature and the mean gradient (the paper's
epoch-dependent form: weights of their own for every step).

The gradient of a step is written out (that of a cosine classifier's cross-entropy) and is a constant for the outer
gradient, as in the released code: first order. There, too, the classifier's first weights are copied from the class
means, so that no gradient reaches the backbone through them.

Heads and losses are held to numbers of the released code; the paper's text was not at hand, so no equation is cited.
What is not here: the authors keep the convolutions as pre-trained and learn in phase 2 a factor for every pair of
channels of each (and biases and batch normalisation); here phase 2 trains the convolutions themselves. The released
code's first weights of the hyperprior learners' linear part are not known; with `softness` 1e-4 they hardly matter.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import OnceOrMore
from labkit.methods.authors import CLASSIFICATION, AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots

# After classification of the base classes, 100 epochs of 100 episodes of 16 queries, one a step. The rate of all
# weights of the hyperpriors is 1e-6.
_EPISODES = {"size": 1, "way": 5, "query": 16, "steps": 10_000, "learning_rate": 5e-4, "weight_decay": 5e-4}
_HALVED = {"schedule": "steps", "decay": 0.5, "milestones": tuple(range(1000, 10_000, 1000)), "validate_every": 100}
_RATES = {"rates": {"lengths": 0.002, "counts": 0.002}}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining(
        [CLASSIFICATION, _EPISODES | _HALVED | _RATES | {"shot": shot}], filled_in="all of the pre-training"
    )
    for shot in (1, 5)
}


class E3BM(Method):
    """Gradient steps on a cosine classifier, whose lengths and whose classifiers' weights are learned.

    Args:
        steps: of gradient descent on the support.
        rate: length of a step at first.
        combination: ``"last"``: at first only the classifier after the last step counts; ``"equal"``: all alike.
        softness: eta, of what the hyperprior learners add to what is learned for all episodes alike.
        temperature: multiplies the cosines.
        global_weight: of a classification of the queries among all base classes. The authors train the backbone so
            beforehand; here both can be learned together, in one loop.

    Raises:
        ValueError: an unknown combination.
    """

    authors_training: ClassVar = AUTHORS_TRAINING
    auxiliary_name = "global classification"
    steps: OnceOrMore = 100
    rate: float = 0.1
    combination: Literal["last", "equal"] = "last"
    softness: float = 1e-4
    temperature: float = 8.0
    global_weight: float = 0.0

    def build(self) -> None:
        counts = torch.full((self.steps,), 1 / self.steps)
        if self.combination == "last":
            counts = F.one_hot(torch.tensor(self.steps - 1), self.steps).float()
        self.lengths = Hyperprior(torch.full((self.steps,), float(self.rate)), 2 * self.channels, self.softness)
        self.counts = Hyperprior(counts, 2 * self.channels, self.softness)
        self.global_classifier = nn.Linear(self.channels, self.classes)  # only for the backbone's own training

    def read(self, maps: Tensor) -> Tensor:
        """Pooled features minus their own mean: [..., c, h, w] to [..., c]."""
        pooled = maps.mean((-2, -1))
        return pooled - pooled.mean(-1, keepdim=True)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """The ensemble's sum of scaled cosines; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            shots = self.read(support)  # [E, N, K, c]
            there = shots.new_ones(shots.shape[:3]) if support_mask is None else support_mask.to(shots)
            unit, queries = (F.normalize(x, dim=-1) for x in (shots, self.read(query)))
            present = there.flatten(1).unsqueeze(-1)
            mean = (shots.flatten(1, 2) * present).sum(1) / present.sum(1)
            weights = mean_of_shots(shots, there).detach()
            scores = torch.zeros((), dtype=queries.dtype, device=queries.device)
            for step in range(self.steps):
                slope = self.slope(unit, weights, there)
                state = torch.cat([mean, slope.mean(1)], dim=-1)  # [E, 2 c]
                weights = weights - self.lengths(step, state) * slope
                cosines = queries @ F.normalize(weights, dim=-1).transpose(1, 2)
                scores = scores + self.counts(step, state) * self.temperature * cosines
            return scores

    @torch.no_grad()
    def slope(self, unit: Tensor, weights: Tensor, there: Tensor) -> Tensor:
        """The gradient of the support's mean cross-entropy by the classifier's weights.

        Args:
            unit: normalised features of the shots, [E, N, K, c].
            weights: [E, N, c].
            there: [E, N, K], 1 for shots that exist, 0 for others.

        Returns:
            [E, N, c].
        """
        n, k = there.shape[1:]
        x, direction = unit.flatten(1, 2), F.normalize(weights, dim=-1)
        labels = torch.arange(n, device=unit.device).repeat_interleave(k)
        chances = (self.temperature * x @ direction.transpose(1, 2)).softmax(-1)
        share = there.flatten(1) / there.sum((1, 2)).unsqueeze(1)
        wrong = (chances - F.one_hot(labels, n)) * share.unsqueeze(-1)
        of_direction = self.temperature * wrong.transpose(1, 2) @ x
        along = (of_direction * direction).sum(-1, keepdim=True) * direction  # what only makes a weight longer
        slope: Tensor = (of_direction - along) / weights.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return slope


class Hyperprior(nn.Module):
    """One number for every step and episode: a learned one, plus `softness` times a linear function of its state."""

    def __init__(self, start: Tensor, inputs: int, softness: float) -> None:
        super().__init__()
        self.softness, self.start = softness, nn.Parameter(start)
        self.weight, self.bias = nn.Parameter(torch.empty(len(start), inputs)), nn.Parameter(torch.zeros(len(start)))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, step: int, state: Tensor) -> Tensor:
        """State [E, d] to [E, 1, 1]."""
        number = self.start[step] + self.softness * (state @ self.weight[step] + self.bias[step])
        return number[:, None, None]
