"""wDAE (Gidaris and Komodakis, "Generating Classification Weights with GNN Denoising Autoencoders", CVPR 2019).

The weights of all classes, of base classes as learned and of novel ones as the mean of their shots, are the nodes of a
graph. A graph network, trained to reconstruct weights from noisy ones, gives all of them anew:
every node takes messages from the nodes most like it.

Where the released code is followed: the step along the network's direction has length sigmoid(g), so that r is
normalised; which nodes are neighbours is seen without noise and without a gradient; the weights of base classes, too,
are replaced. Only its settings for ImageNet were released; those for miniImageNet are not known, so defaults are
ImageNet's.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Rate
from labkit.methods.authors import CLASSIFICATION, AuthorsTraining, Trainings
from labkit.methods.backbones import Dropout
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.base_and_novel import Roles, cosines, losses_of_classification, roles
from labkit.methods.losses import Losses
from labkit.methods.noise import Noise

# The released settings, of ImageNet, where 200 of 389 base classes play novel in an episode: here half of 64. After
# cosine classification the backbone and the base classes' weights are frozen; 4 episodes a step, 10 epochs at one rate
# and 5 at a tenth of it.
_EPISODES = {"steps": 15_000, "size": 4, "way": 32, "query": 1, "rates": {"backbone": 0.0, "base_weights": 0.0}}
_SGD = {"learning_rate": 0.01, "weight_decay": 5e-4, "schedule": "steps", "decay": 0.1, "milestones": (10_000,)}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining(
        [CLASSIFICATION, _EPISODES | _SGD | {"shot": shot}],
        {"noise": 0.08, "drop": 0.7},
        filled_in="all of the first phase, length of an epoch, queries of an episode",
    )
    for shot in (1, 5)
}

Neighbours = tuple[Tensor, Tensor]  # which nodes, [E, V, k], and how much of each, [E, V, k]


class WDAE(Method):
    """A cosine classifier whose weights a graph network denoises.

    Args:
        novel: how many of a training episode's classes play novel, its first ones; the others' queries are then
            queries of base classes. None: all of them, and there are no such queries.
        neighbours: of a node.
        temperature: multiplies the cosines whose softmax tells how much of a neighbour's message arrives.
        noise: standard deviation of what is added to the normalised weights in training.
        drop: rate of dropout in training.
        reconstruction: weight of the reconstruction's loss.
        global_weight: of a classification of the queries among all base classes. The authors learn those beforehand
            (phase 1); here both can be learned together, in one loop.

    Raises:
        ValueError: more classes to play novel than there are.
    """

    auxiliary_name = "reconstruction of the weights"
    authors_training: ClassVar = AUTHORS_TRAINING
    novel: int | None = None
    neighbours: int = 10
    temperature: float = 5.0
    noise: float = 0.08
    drop: Rate = 0.7
    reconstruction: float = 1.0
    global_weight: float = 0.0

    def build(self) -> None:
        c, hidden = self.channels, 3 * self.channels
        self.base_weights = nn.Parameter((2 / c) ** 0.5 * torch.randn(self.classes, c))
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.noise_of_training = _Gaussian(self.noise)
        self.message1, self.message2 = _Messages(c, hidden, self.drop), _Messages(c + hidden, hidden, self.drop)
        self.update = nn.Linear(c + hidden, hidden, bias=False)
        self.norm, self.dropout = nn.BatchNorm1d(hidden), Dropout(self.drop)
        self.out = nn.Linear(c + 2 * hidden, 2 * c)

    def nodes(self, support: Tensor, base: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalised weights of [base ; novel] classes: maps [E, N, K, c, h, w], classes [E, B] to [E, B + N, c]."""
        novel = mean_of_shots(F.normalize(support.mean((-2, -1)), dim=-1), mask)
        return F.normalize(torch.cat([self.base_weights[base].detach(), novel], dim=1), dim=-1)

    @torch.no_grad()
    def neighbourhood(self, nodes: Tensor) -> Neighbours:
        """Those most like every node, itself left out, and their shares, which add up to 1."""
        alike = self.temperature * cosines(nodes, nodes)
        own = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
        shares = alike.masked_fill(own, -torch.inf).softmax(-1)
        largest, where = shares.topk(min(self.neighbours, nodes.shape[1] - 1), dim=-1)
        return where, largest / (largest.sum(-1, keepdim=True) + 1e-12)

    def denoise(self, nodes: Tensor) -> Tensor:
        """Weights [E, V, c] anew: normalised ones in, others, not normalised, out."""
        among = self.neighbourhood(nodes)
        x = self.noise_of_training(nodes)
        seen = self.update(torch.cat([x, self.message1(x, among)], dim=-1))
        seen = F.leaky_relu(self.dropout(_per_feature(self.norm, seen)), 0.01)
        deep = torch.cat([x, F.normalize(seen, dim=-1)], dim=-1) / 2**0.5
        direction, gate = self.out(torch.cat([deep, self.message2(deep, among)], dim=-1)).chunk(2, dim=-1)
        new: Tensor = x + gate.sigmoid() * F.normalize(direction, dim=-1)
        return new

    def logits(self, query: Tensor, weights: Tensor) -> Tensor:
        """Scaled cosines of maps [E, Q, c, h, w] with weights [E, M, c]: [E, Q, M]."""
        return self.scale * cosines(query.mean((-2, -1)), weights)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scaled cosines with the novel weights, denoised beside those of all base classes; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            base = torch.arange(self.classes, device=support.device).expand(len(support), -1)
            weights = self.denoise(self.nodes(support, base, support_mask))
            return self.logits(query, weights[:, self.classes :])

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy among base and novel classes, and how far the weights are from those that were learned."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            part = roles(labels, base_labels, support.shape[1], self.novel, self.classes)
            weights = self.denoise(self.nodes(of_support[:, : part.novel.shape[1]], part.base))
            logits = self.logits(of_query, weights)
            few_shot = F.cross_entropy(logits.flatten(0, 1), part.columns.gather(1, labels).flatten())
            auxiliary = self.distance_to_learned(weights, part)
            total = few_shot + self.reconstruction * auxiliary
            if self.global_weight:
                among_base = self.scale * cosines(of_query.mean((-2, -1)).flatten(0, 1), self.base_weights)
                total = total + self.global_weight * F.cross_entropy(among_base, base_labels.flatten())
            scores = logits.gather(2, part.columns.unsqueeze(1).expand(-1, logits.shape[1], -1))
            return Losses(total, few_shot, auxiliary, scores)

    def distance_to_learned(self, weights: Tensor, part: Roles) -> Tensor:
        """The reconstruction's loss: mean squared distance of normalised weights [E, V, c] to the learned ones."""
        learned = self.base_weights[torch.cat([part.base, part.novel], dim=1)].detach()
        return (F.normalize(weights, dim=-1) - F.normalize(learned, dim=-1)).square().sum(-1).mean()

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Cosine classification of base images [B, 3, H, W] among all base classes."""
        maps = self.embed(images)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.scale * cosines(maps.mean((-2, -1)), self.base_weights)
            return losses_of_classification(logits, base_labels, label_smoothing)


class _Messages(nn.Module):
    """What arrives at every node: the weighted sum of what its edges carry, [E, V, d] to [E, V, hidden]."""

    def __init__(self, inputs: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), Dropout(drop)

    def forward(self, x: Tensor, among: Neighbours) -> Tensor:
        where, shares = among
        h = self.linear(x)
        episodes = torch.arange(len(h), device=h.device)[:, None, None]
        edges = h.unsqueeze(2) + h[episodes, where]  # [E, V, k, hidden]
        carried = F.leaky_relu(self.dropout(_per_feature(self.norm, edges)), 0.01)
        return (carried * shares.unsqueeze(-1)).sum(2)


class _Gaussian(Noise):
    """Normal noise on normalised weights [E, V, c], which are normalised again."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.deviation == 0:
            return x
        return F.normalize(x + self.deviation * self.draw_normal(x, *x.shape[1:]).to(x), dim=-1)


def _per_feature(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    normed: Tensor = norm(x.flatten(0, -2)).view_as(x)
    return normed
