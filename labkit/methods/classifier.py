"""Classifier-Baseline (Chen et al., "Meta-Baseline", ICCV 2021): a backbone trained to classify, and nearest means."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.base import Method, mean_of_shots
from labkit.methods.losses import Losses


class Classifier(Method):
    """Trained as an ordinary classifier of the base classes; a score is the cosine with the mean of a class.

    What backbones are pre-trained as. The authors classify the pooled map; here every cell is classified, as in the
    global loss of CAN and DMF (Eq. 13), so that the map keeps saying where things are.

    Args:
        dense: classify every cell of the map, or its mean, as the authors do.
        scale: multiplies the cosines; it changes no answer, only the probabilities.
    """

    auxiliary_name = "classification of the base classes"
    dense: bool = True
    scale: float = 10.0

    def build(self) -> None:
        c, n = self.channels, self.classes
        self.global_classifier = nn.Conv2d(c, n, 1) if self.dense else nn.Linear(c, n)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        return self.scale * nearest_mean(support, query, support_mask)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Classification of the queries among all base classes; the few-shot loss is only looked at."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.score(of_support, of_query)
            maps = of_query.flatten(0, 1)
            logits = self.global_classifier(maps if self.dense else maps.mean((-2, -1)))
            target = base_labels.flatten()
            if self.dense:
                target = target[:, None, None].expand(-1, *logits.shape[-2:])
            auxiliary = F.cross_entropy(logits, target)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            return Losses(auxiliary, few_shot.detach(), auxiliary, scores)


def nearest_mean(support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
    """Cosine of every query's pooled feature with the mean of a class's: [E, N, K, c, h, w], [E, Q, c, h, w] to
    [E, Q, N]."""
    with torch.autocast(support.device.type, enabled=False):
        pooled = F.normalize(support.mean((-2, -1)), dim=-1)[..., None, None]
        means = F.normalize(mean_of_shots(pooled, support_mask)[..., 0, 0], dim=-1)
        return torch.einsum("eqc,enc->eqn", F.normalize(query.mean((-2, -1)), dim=-1), means)
