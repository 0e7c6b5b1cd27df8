"""Relation Networks (Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning", CVPR 2018).

Code of the authors: floodsung/LearningToCompare_FSL. Its batch normalisation keeps no average (momentum 1) and its
scripts never call `eval()`, so that in the test, too, an episode is normalised by all its own pairs: a query's score
depends on the other queries. The published numbers were made so (`statistics`).
"""

from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Share, Size
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method
from labkit.methods.losses import Losses

SMALLEST = 10  # cells a side that two unpadded blocks can take

# Their encoder is a Conv4 that pools twice, for maps of 19 x 19. They clip the gradients of encoder and module each by
# itself; a phase limits both together.
_EPISODES = {"steps": 500_000, "size": 1, "way": 5, "optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 0.0}
_HALVED = {"schedule": "steps", "decay": 0.5, "milestones": (100_000, 200_000, 300_000, 400_000), "clip": 0.5}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_EPISODES | _HALVED | {"shot": shot, "query": query}]) for shot, query in ((1, 15), (5, 10))
}


class RelationNet(Method):
    """A small network looks at a class's map and a query's together and says how related they are, 0 to 1 (Eq. 1).

    Args:
        width: channels of the relation module's two convolutions.
        hidden: of its fully connected layer.
        statistics: what the module's batch normalisation goes by in evaluation: ``"batch"``, the pairs of the episode,
            as in the released code, or ``"running"``, the averages kept in training, with which no query sees another.
            In training every episode has its own.
        momentum: of those averages; the authors' 1 keeps only the last step's.
        global_weight: of a classification of all base classes beside it, which the paper has not.
    """

    auxiliary_name = "global classification"
    authors_training: ClassVar = AUTHORS_TRAINING
    width: Size = 64
    hidden: Size = 8
    statistics: Literal["batch", "running"] = "batch"
    momentum: Share = 1.0
    global_weight: float = 0.0

    def build(self) -> None:
        self.relation = RelationModule(self)
        self.global_classifier = nn.Linear(self.channels, self.classes) if self.global_weight else None

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Relation scores before the sigmoid, which does not change their order; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            if support_mask is not None:
                support = support * support_mask[..., None, None, None]
            of_class = support.sum(2)  # a class of several shots is their sum (section 3.2)
            scores: Tensor = self.relation(of_class, query)
            return scores

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Squared error of the relation scores, 1 for the true class and 0 for others (Eq. 2), its mean over pairs."""
        of_support, of_query = self.embed_together(support, query)
        scores = self.score(of_support, of_query)
        wanted = F.one_hot(labels, scores.shape[-1]).to(scores.dtype)
        few_shot = (scores.sigmoid() - wanted).square().mean()
        return self.with_global_loss(few_shot, scores, of_query, base_labels)


class RelationModule(nn.Module):
    """Two blocks of convolution, batch normalisation, ReLU and pooling, then two linear layers: 115,601 weights.

    Maps of 19 x 19 become 3 x 3. Maps of fewer than 10 cells a side are padded before the convolutions, and what is
    not 3 x 3 in the end is averaged, or repeated, to be.
    """

    def __init__(self, method: RelationNet) -> None:
        super().__init__()
        width, hidden = method.width, method.hidden
        norm = partial(EpisodeNorm, width, momentum=method.momentum, by_batch=method.statistics == "batch")
        self.conv1, self.norm1 = nn.Conv2d(2 * method.channels, width, 3), norm()
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3), norm()
        self.fc1, self.fc2 = nn.Linear(9 * width, hidden), nn.Linear(hidden, 1)
        for conv in (self.conv1, self.conv2):
            nn.init.normal_(conv.weight, 0, (2 / (9 * width)) ** 0.5)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        for linear in (self.fc1, self.fc2):
            nn.init.normal_(linear.weight, 0, 0.01)
            nn.init.ones_(linear.bias)

    def forward(self, of_class: Tensor, query: Tensor) -> Tensor:
        """Maps [E, N, c, h, w] and [E, Q, c, h, w] to relation scores [E, Q, N], before the sigmoid.

        The first convolution reads a pair's maps one above the other, and is linear: the convolution of the class's map
        by the first half of the weights plus that of the query's by the second, N + Q of them instead of N Q.
        """
        e, n, q = *of_class.shape[:2], query.shape[1]
        small = min(query.shape[-2:]) < SMALLEST
        for_class, for_query = self.conv1.weight.chunk(2, dim=1)
        first = F.conv2d(of_class.flatten(0, 1), for_class, padding=int(small)).unflatten(0, (e, 1, n))
        second = F.conv2d(query.flatten(0, 1), for_query, self.conv1.bias, padding=int(small)).unflatten(0, (e, q, 1))
        y = self._normed((first + second).flatten(0, 2), self.norm1, e, small)
        y = self._normed(F.conv2d(y, self.conv2.weight, self.conv2.bias, padding=int(small)), self.norm2, e, small)
        if y.shape[-2:] != (3, 3):
            y = F.adaptive_avg_pool2d(y, 3)
        scores: Tensor = self.fc2(self.fc1(y.flatten(1)).relu())
        return scores.view(e, q, n)

    def _normed(self, y: Tensor, norm: nn.Module, episodes: int, small: bool) -> Tensor:
        """What follows a convolution of all pairs [E Q N, width, h, w]: normalisation by episode, ReLU and pooling."""
        y = norm(y.unflatten(0, (episodes, -1))).relu().flatten(0, 1)
        return F.max_pool2d(y, 2, ceil_mode=small)


class EpisodeNorm(nn.Module):
    """Batch normalisation of [E, B, c, h, w], every episode by its own mean and variance."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float, by_batch: bool) -> None:
        super().__init__()
        self.momentum, self.by_batch = momentum, by_batch
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.by_batch:
            variance, mean = torch.var_mean(x, (1, 3, 4), correction=0)
        else:
            variance, mean = self.running_var.expand(len(x), -1), self.running_mean.expand(len(x), -1)
        if self.training:
            with torch.no_grad():
                count = x[0, :, 0].numel()
                self.running_mean.lerp_(mean.mean(0), self.momentum)
                self.running_var.lerp_(variance.mean(0) * count / (count - 1), self.momentum)
        scale = self.weight * (variance + 1e-5).rsqrt()
        return (x - mean[:, None, :, None, None]) * scale[:, None, :, None, None] + self.bias[:, None, None]
