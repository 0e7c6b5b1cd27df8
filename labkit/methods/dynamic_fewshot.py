"""Dynamic Few-shot (Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018).

One cosine classifier tells base and novel classes apart. The weight of a novel class is made from its shots: the mean
of their normalised features, plus what an attention over the base classes' weights brings (its section 3).

Where the released code differs from the paper, the code is followed: it adds one learned bias to all cosines, which
cancels in a softmax and orders nothing, and is left out here. `read_out="map"` is what the authors do with their
four-layer network, whose last block has no ReLU (the published number); `"mean"` is what they do with a residual one.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.authors import AuthorsTraining, Trainings, stairs
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.base_and_novel import cosines, losses_of_classification, roles
from labkit.methods.losses import Losses

# A four-layer network of 64 filters. Twice 60 epochs of 1000 steps, by the same rates. First classification of random
# base pictures; then the backbone is frozen and everything else is trained on episodes, in which 5 base classes play
# novel beside the other 59, with 15 queries of novel classes and 15 of base ones.
_RATES = ((20_000, 0.1), (20_000, 0.006), (10_000, 0.0012), (10_000, 0.00024))
_COMMON = {"weight_decay": 5e-4, "validate_every": 1000}
_PICTURES = _COMMON | {"batch": "pictures", "size": 256}
_EPISODES = _COMMON | {"size": 8, "way": 10, "query": 3, "rates": {"backbone": 0.0}}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([*stairs(_PICTURES, *_RATES), *stairs(_EPISODES | {"shot": shot}, *_RATES)], {"novel": 5})
    for shot in (1, 5)
}


class DynamicFewShot(Method):
    """A cosine classifier of base classes, and a generator of weights for novel ones.

    Args:
        kind: how novel weights are made: ``"attention"`` over the base classes beside the mean of the shots (the
            published number), ``"averaging"``, the mean times one learned factor a feature, or ``"none"``, the mean.
        novel: how many of a training episode's classes play novel, its first ones; the others' queries are then
            queries of base classes. None: all of them, and there are no such queries.
        read_out: ``"mean"`` of a map over its cells, or the whole ``"map"``.
        cells: of a map; only ``"map"`` needs to know.

    Raises:
        ValueError: unknown names, a map of other cells, or more classes to play novel than there are.
    """

    authors_training: ClassVar = AUTHORS_TRAINING
    kind: Literal["attention", "averaging", "none"] = "attention"
    novel: int | None = None
    read_out: Literal["mean", "map"] = "mean"
    cells: int = 1

    def build(self) -> None:
        d = self.channels * (self.cells if self.read_out == "map" else 1)
        spread = (2 / d) ** 0.5
        self.base_weights = nn.Parameter(spread * torch.randn(self.classes, d))
        self.scale = nn.Parameter(torch.tensor(10.0))
        if self.kind != "none":
            self.of_average = nn.Parameter(torch.ones(d))  # phi_avg
        if self.kind == "attention":
            self.of_attention = nn.Parameter(torch.ones(d))  # phi_att
            self.to_query = nn.Linear(d, d)  # phi_q, almost the identity at first
            self.keys = nn.Parameter(spread * torch.randn(self.classes, d))
            self.sharpness = nn.Parameter(torch.tensor(10.0))  # gamma of the attention's cosines
            with torch.no_grad():
                self.to_query.weight.copy_(torch.eye(d) + 0.001 * torch.randn(d, d))
                self.to_query.bias.zero_()

    def read(self, maps: Tensor) -> Tensor:
        """z of maps: [..., c, h, w] to [..., d]."""
        if self.read_out == "mean":
            return maps.mean((-2, -1))
        if maps.shape[-2:].numel() != self.cells:
            h, w = maps.shape[-2:]
            raise ValueError(f"this model was made for maps of {self.cells} cells, and was given {h} x {w}")
        return maps.flatten(-3)

    def novel_weights(self, shots: Tensor, base: Tensor, mask: Tensor | None = None) -> Tensor:
        """A weight for each novel class: phi_avg times the mean shot, phi_att times what shots attend to.

        Args:
            shots: z, [E, N, K, d].
            base: [E, B], the base classes to pay attention to.
            mask: bool [E, N, K], shots that exist.

        Returns:
            [E, N, d].
        """
        unit = F.normalize(shots, dim=-1)
        weights = mean_of_shots(unit, mask)
        if self.kind != "none":
            weights = weights * self.of_average
        if self.kind == "attention":
            alike = cosines(self.to_query(unit).flatten(1, 2), self.keys[base])  # [E, N K, B]
            attention = (self.sharpness * alike).softmax(-1)
            seen = (attention @ F.normalize(self.base_weights[base], dim=-1)).view_as(shots)
            weights = weights + self.of_attention * mean_of_shots(seen, mask)
        return weights

    def class_weights(self, support: Tensor, base: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights of [base ; novel] classes, [E, B + N, d], from maps [E, N, K, c, h, w] and base classes [E, B]."""
        return torch.cat([self.base_weights[base], self.novel_weights(self.read(support), base, mask)], dim=1)

    def logits(self, query: Tensor, weights: Tensor) -> Tensor:
        """Scaled cosines of maps [E, Q, c, h, w] with weights [E, M, d], [E, Q, M]."""
        return self.scale * cosines(self.read(query), weights)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scaled cosines with the novel weights, all base classes looked at; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            base = torch.arange(self.classes, device=support.device).expand(len(support), -1)
            return self.logits(query, self.novel_weights(self.read(support), base, support_mask))

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of all queries among base and novel classes together (the second phase)."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            part = roles(labels, base_labels, support.shape[1], self.novel, self.classes)
            logits = self.logits(of_query, self.class_weights(of_support[:, : part.novel.shape[1]], part.base))
            few_shot = F.cross_entropy(logits.flatten(0, 1), part.columns.gather(1, labels).flatten())
            scores = logits.gather(2, part.columns.unsqueeze(1).expand(-1, logits.shape[1], -1))
            return Losses.of_queries(few_shot, scores)

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Cosine classification of base images [B, 3, H, W] among all base classes (the first phase)."""
        maps = self.embed(images)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.scale * cosines(self.read(maps), self.base_weights)
            return losses_of_classification(logits, base_labels, label_smoothing)
