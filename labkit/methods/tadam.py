"""TADAM (Oreshkin et al., "TADAM: Task Dependent Adaptive Metric for Improved Few-Shot Learning", NeurIPS 2018).

Three things on top of Prototypical Networks (its section 3): distances times a scale, a backbone whose layers the task
scales and shifts (after FiLM), and classification of all base classes beside the episodes.

The released code is followed; the paper's text was not at hand. As we know it, the paper scales the squared distance;
the code's default metric, `"polynomial"`, takes 7.5 times the distance itself.
`"prototypical"` is that without the scale, `"cosine"` the squared distance of normalised features.
"""

from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots, unit_length
from labkit.methods.losses import Losses

# From scratch, 4 residual blocks of 64 to 512 channels, max pooling after the first three. 30,000 steps of 2 tasks of 5
# shots, whatever the test has, and 32 queries; a phase counts by classes, 6 each. Beside it, at step s with probability
# 0.9^(1 + floor(s / 1500)), they take a step of classification of 64 pictures, 11,859 in all, by the same optimiser:
# here it is a phase before the other; `global_weight` puts both into one loss. Their weight decay of the two numbers in
# front of each conditioning network is 0.01.
_SGD = {"learning_rate": 0.1, "weight_decay": 5e-4, "nesterov": False, "clip": 1.0}
_PICTURES = {"batch": "pictures", "size": 64, "steps": 11_859, "schedule": "constant", "selection": "nearest mean"}
_EPISODES = {"size": 2, "way": 5, "shot": 5, "query": 6, "steps": 30_000}
_TENTHS = {"schedule": "steps", "decay": 0.1, "milestones": (15_000, 17_500, 20_000)}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_SGD | _PICTURES, _SGD | _EPISODES | _TENTHS], {"conditioned": True}) for shot in (1, 5)
}


class TADAM(Method):
    """Scaled distances to class means, of features that depend on the task.

    With `conditioned`, no picture has features without its episode: the supports go through the backbone as it is, the
    mean of their class means says what the task is, and supports and queries then go through the backbone conditioned
    by it. As with MAML, `embed` gives images back as they are, `score` takes images where other methods take features,
    and evaluation embeds nothing once and for all. Without `conditioned`, features are features.

    Every batch normalisation of the backbone is conditioned, those of shortcuts excepted. A block's last one is, too,
    before the shortcut is added: the code conditions what stands before an activation, and where that is in a block
    whose sum is activated is our reading. In training both passes take their batch's statistics, as there.

    Args:
        metric: ``"polynomial"``, ``"cosine"`` or ``"prototypical"``.
        scale: alpha, multiplies the distance; the authors tried 0.5 to 20. ``"prototypical"`` has none.
        conditioned: let the task condition the backbone.
        start: of the learned numbers that gamma and beta are multiplied by; from 0, the authors' start, the backbone
            begins as if unconditioned, and the conditioning networks have no gradient in the first step.
        global_weight: of a classification of all base classes beside the episodes.

    Raises:
        ValueError: unknown names, or a backbone without batch normalisation to condition.
    """

    auxiliary_name = "global classification"
    authors_training: ClassVar = AUTHORS_TRAINING
    metric: Literal["polynomial", "cosine", "prototypical"] = "polynomial"
    scale: float = 7.5
    conditioned: bool = True
    start: float = 0.0
    global_weight: float = 0.0

    def build(self) -> None:
        self.global_classifier = nn.Linear(self.channels, self.classes)
        self.films = nn.ModuleList()
        if not self.conditioned:
            return
        for name, layer in self.backbone.named_modules():
            if isinstance(layer, nn.BatchNorm2d) and "downsample" not in name:
                film = Film(self.channels, layer.num_features, self.start)
                layer.register_forward_hook(film.condition)  # a bound method: a copy of the model has its own
                self.films.append(film)
        if not self.films:
            raise ValueError("this backbone has no batch normalisation to condition: use conditioned=False")

    @property
    def channels_of_maps(self) -> int | None:
        return self.channels_of_images if self.conditioned else self.channels

    def embed(self, images: Tensor) -> Tensor:
        """The images themselves, where features depend on the task; else their features."""
        return images if self.conditioned else self.features(images)

    def features(self, images: Tensor, task: Tensor | None = None) -> Tensor:
        """Maps of images [E, M, 3, H, W], of the conditioned backbone where tasks [E, c] are given."""
        for film in self.films:
            cast(Film, film).prepare(task)
        maps = super().embed(images)
        for film in self.films:
            cast(Film, film).prepare(None)  # or a copy of the model would be one of its graph as well
        return maps

    def task(self, support: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """The mean of the class means of maps [E, N, K, c, h, w]: [E, c]."""
        return mean_of_shots(support, support_mask).mean((1, -2, -1))

    def in_task(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps of images, of supports and queries alike by the backbone that their supports condition."""
        n, k = support.shape[1:3]
        pictures = support.flatten(1, 2)
        task = self.task(self.features(pictures).unflatten(1, (n, k)), support_mask)
        both = self.features(torch.cat([pictures, query], dim=1), task)
        of_support, of_query = both.split([n * k, query.shape[1]], dim=1)
        return of_support.unflatten(1, (n, k)), of_query

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scores [E, Q, N] of images where the backbone is conditioned, else of maps; see `Method.score`."""
        if self.conditioned:
            support, query = self.in_task(support, query, support_mask)
        return self.compare(support, query, support_mask)

    def compare(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scaled negative distances of pooled maps to their class means (its section 3, metric scaling)."""
        with torch.autocast(support.device.type, enabled=False):
            prototypes = mean_of_shots(support, support_mask).mean((-2, -1)).unsqueeze(1)
            queries = query.mean((-2, -1)).unsqueeze(2)
            if self.metric == "cosine":
                return -self.scale * (unit_length(queries) - unit_length(prototypes)).square().sum(-1)
            distance: Tensor = torch.linalg.vector_norm(queries - prototypes, dim=-1)
            return -distance if self.metric == "prototypical" else -self.scale * distance

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of an episode's queries, and, if it has a weight, of the base classes at the queries."""
        of_support, of_query = self.embed_together(support, query)
        if self.conditioned:
            of_support, of_query = self.in_task(of_support, of_query)
        scores = self.compare(of_support, of_query)
        few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
        return self.with_global_loss(few_shot, scores, of_query, base_labels)

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Cross-entropy of base images [B, 3, H, W] among all base classes, by the backbone as it is."""
        maps = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.global_classifier(maps.mean((-2, -1)))
            auxiliary = F.cross_entropy(logits, base_labels, label_smoothing=label_smoothing)
        return Losses.of_classification(auxiliary, logits)


class Film(nn.Module):
    """Gamma and beta of one layer, by two networks of the task, and the layer they condition.

    From a task of `inputs` numbers to the layer's `width` channels; `start` is that of the learned numbers in front.
    """

    def __init__(self, inputs: int, width: int, start: float) -> None:
        super().__init__()
        self.to_gamma, self.to_beta = (Conditioning(inputs, width) for _ in range(2))
        self.gamma_weight, self.beta_weight = (nn.Parameter(torch.tensor(start)) for _ in range(2))
        self.now: tuple[Tensor, Tensor] | None = None

    def forward(self, task: Tensor) -> tuple[Tensor, Tensor]:
        """Gamma and beta of tasks [E, c], each [E, width]."""
        return self.gamma_weight * self.to_gamma(task), self.beta_weight * self.to_beta(task)

    def prepare(self, task: Tensor | None) -> None:
        """Which tasks the next batch is of; None leaves the layer as it is."""
        self.now = None if task is None else self(task)

    def condition(self, layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """A hook: (1 + gamma) h + beta, of a batch [E * M, width, h, w] that holds whole episodes."""
        if self.now is None:
            return out
        gamma, beta = (x.to(out.dtype).repeat_interleave(len(out) // len(x), 0)[..., None, None] for x in self.now)
        return (1 + gamma) * out + beta


class Conditioning(nn.Module):
    """Three linear layers, the last two with a way around: [E, inputs] to [E, width]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, width)])

    def forward(self, task: Tensor) -> Tensor:
        first, second, third = self.layers
        y = F.silu(first(task))
        y = F.silu(second(y) + y)
        out: Tensor = third(y) + y
        return out
