"""DC (Lifchitz et al., "Dense Classification and Implanting for Few-Shot Learning", CVPR 2019).

A backbone is trained by classifying the base classes at every cell of its map, by one classifier for all cells. Novel
classes are then the means of their shots, as in Prototypical Networks, compared by cosines.

It was written from the paper's published description as known to us, without its text and without any code of it, and
there are no numbers of the authors' to hold it to. What is known of the idea: every cell is classified, by weights that
all cells share; the classifier compares by cosines, with a learned scale; novel classes are the means of their shots,
compared by cosines too. What was assumed:
    A picture's loss is the sum over its cells; `cells="mean"` averages them instead.
    The learned scale starts at 10.
    Supports are pooled by their mean over cells, queries by their maximum; `query_pooling="mean"` pools them alike.
    The number in Table 1 of the DMF paper (62.53 at one shot) is without "implanting", the paper's second part, in
        which new neurons are learned from the support. It is not here.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Positive
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.base_and_novel import base_classes_of_all
from labkit.methods.losses import Losses

# As far as known to us: batches of 512 random base pictures, 8000 steps of SGD with Nesterov momentum; a ResNet-12 as
# TADAM's.
_PICTURES = {"batch": "pictures", "size": 512, "steps": 8000, "learning_rate": 0.1, "weight_decay": 5e-4}
_FILLED_IN = "learning rate, its schedule, weight decay"
AUTHORS_TRAINING: Trainings = {shot: AuthorsTraining([_PICTURES], filled_in=_FILLED_IN) for shot in (1, 5)}


class DenseClassification(Method):
    """A cosine classifier of base classes at every cell; cosines with the means of pooled shots for novel classes.

    Args:
        cells: a picture's loss is the ``"sum"`` of its cells' cross-entropies, or their ``"mean"``.
        query_pooling: over a query's cells, ``"max"`` or ``"mean"``.
        scale: tau at the start; it is learned.

    Raises:
        ValueError: unknown names.
    """

    auxiliary_name = "dense classification"
    authors_training: ClassVar = AUTHORS_TRAINING
    cells: Literal["sum", "mean"] = "sum"
    query_pooling: Literal["max", "mean"] = "max"
    scale: Positive = 10.0

    def build(self) -> None:
        self.tau = nn.Parameter(torch.tensor(self.scale))
        self.global_classifier = nn.Linear(self.channels, self.classes, bias=False)

    def logits(self, maps: Tensor) -> Tensor:
        """Scaled cosines of every cell with every base class: maps [B, c, h, w] to [B, classes, h, w]."""
        weights = F.normalize(self.global_classifier.weight, dim=-1)
        return self.tau * torch.einsum("bchw,yc->byhw", F.normalize(maps, dim=1), weights)

    def dense_loss(self, logits: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of logits [B, classes, h, w], over a picture's cells together, averaged over pictures [B]."""
        h, w = logits.shape[-2:]
        target = base_labels[:, None, None].expand(-1, h, w)
        each = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
        return each.mean() * (h * w if self.cells == "sum" else 1)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        with torch.autocast(support.device.type, enabled=False):
            prototypes = F.normalize(mean_of_shots(support, support_mask).mean((-2, -1)), dim=-1)
            pooled = query.amax((-2, -1)) if self.query_pooling == "max" else query.mean((-2, -1))
            return self.tau * torch.einsum("eqc,enc->eqn", F.normalize(pooled, dim=-1), prototypes)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Dense classification of all of an episode's pictures; its few-shot loss is only looked at.

        `labels` must hold every class at least once.
        """
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            n, k = of_support.shape[1:3]
            scores = self.score(of_support, of_query).detach()
            target = base_classes_of_all(labels, base_labels, n, k).flatten()
            maps = torch.cat([of_support.flatten(1, 2), of_query], 1).flatten(0, 1)
            auxiliary = self.dense_loss(self.logits(maps), target)
            return Losses(auxiliary, F.cross_entropy(scores.flatten(0, 1), labels.flatten()), auxiliary, scores)

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Dense classification of base images [B, 3, H, W]; its scores are the means over cells, [B, classes]."""
        maps = self.embed(images)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.logits(maps)
            auxiliary = self.dense_loss(logits, base_labels, label_smoothing)
            return Losses.of_classification(auxiliary, logits.mean((-2, -1)))
