"""Negative margin (Liu et al., "Negative Margin Matters: Understanding Margin in Few-Shot Classification", ECCV 2020).

Code of the authors: bl0/negative-margin.few-shot. Training is plain classification of random base images; an episode
is met in the test only, where a new classifier is trained on the support's features.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method
from labkit.methods.base_and_novel import base_classes_of_all
from labkit.methods.losses import Losses

# Of the new classifier: the authors' stochastic gradient descent. Dampened, the first step has the whole gradient and
# later ones a tenth of it.
EPOCHS, RATE, MOMENTUM, DAMPENING, DECAY, BATCH, SCALE = 100, 0.01, 0.9, 0.9, 1e-3, 4, 5.0

# 400 epochs of 64 classes of 600 pictures (ResNet-12, cosine), dropout 0.1 and DropBlock. Their rate starts at a
# sixteenth of 3e-3 and ends at 1e-6, here at 0 both times.
_EPOCH = 150  # steps
_PICTURES = {"batch": "pictures", "size": 256, "steps": 400 * _EPOCH, "warmup": 100 * _EPOCH, "validate_every": _EPOCH}
_ADAM = {"optimiser": "adam", "learning_rate": 3e-3, "weight_decay": 1e-4, "schedule": "cosine"}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_PICTURES | _ADAM], {"margin": margin}) for shot, margin in ((1, -0.02), (5, -0.01))
}


class NegativeMargin(Method):
    """A classifier of all base classes whose margin is below zero, so that features do not cling to them.

    Args:
        form: ``"cosine"`` or ``"softmax"`` (dot products), in training and in the test.
        margin: m of Eq. 2; the authors' for cosines, a ResNet-12 and one shot of miniImageNet. Theirs at five shots is
            -0.01; of the softmax -0.01 and -0.1.
        scale: beta of Eq. 2; the authors' 30 for cosines, 5 (with ResNet-12, 10) for the softmax.
        finetune: in evaluation, train a classifier on the support, as the authors do; otherwise, and in training, where
            scores are only looked at, a class is the mean of its normalised features and a score the cosine with it.
    """

    auxiliary_name = "classification with a negative margin"
    authors_training: ClassVar = AUTHORS_TRAINING
    options_before: ClassVar = {"form": "cosine", "finetune": False}
    form: Literal["cosine", "softmax"] = "cosine"
    margin: float = -0.02
    scale: float = 30.0
    finetune: bool = True

    def build(self) -> None:
        self.global_classifier = nn.Linear(self.channels, self.classes, bias=False)  # uniform(+-1/sqrt(c)), as theirs

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`.

        The new classifier is trained from fixed first weights in a fixed order of pictures, so that the same episode
        has the same scores; with another order of classes they differ a little.
        """
        with torch.autocast(support.device.type, enabled=False):
            s, q = support.mean((-2, -1)), query.mean((-2, -1))
            if self.training or not self.finetune:
                present = torch.ones_like(s[..., :1]) if support_mask is None else support_mask.unsqueeze(-1).to(s)
                prototypes = (F.normalize(s, dim=-1) * present).sum(2)
                return self.scale * torch.einsum("eqc,enc->eqn", *(F.normalize(x, dim=-1) for x in (q, prototypes)))
            e, n, k, c = s.shape
            drawn = torch.Generator().manual_seed(0)
            first = (torch.rand(n, c, generator=drawn) * 2 - 1) / c**0.5
            order = torch.stack([torch.randperm(n * k, generator=drawn) for _ in range(EPOCHS)])
            weights = self.finetuned(s, first.to(s).expand(e, -1, -1), order.to(s.device), support_mask)
            return self._logits(q, weights, SCALE)

    def finetuned(self, support: Tensor, first: Tensor, order: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Weights [E, N, c] of a classifier of pooled support [E, N, K, c], by cross-entropy without a margin.

        Gradients are written out, since there is one layer only; nothing reaches the backbone.

        Args:
            support: [E, N, K, c].
            first: weights to start from, [E, N, c].
            order: of the N K pictures, class by class, in every epoch: [epochs, N K].
            support_mask: bool [E, N, K].
        """
        e, n, k, c = support.shape
        with torch.no_grad():
            pictures = support.reshape(e, n * k, c)
            wanted = torch.eye(n, dtype=support.dtype, device=support.device).repeat_interleave(k, 0).expand(e, -1, -1)
            present = pictures.new_ones(e, n * k) if support_mask is None else support_mask.flatten(1).to(pictures)
            weights, velocity = first.clone(), None
            for batch in (part for epoch in order for part in epoch.split(BATCH)):
                x, there = pictures[:, batch], present[:, batch].unsqueeze(-1)
                off = (self._logits(x, weights, SCALE).softmax(-1) - wanted[:, batch]) * there
                off = SCALE * off / there.sum(1, keepdim=True).clamp(min=1)
                if self.form == "cosine":
                    length = weights.norm(dim=-1, keepdim=True)
                    unit, towards = weights / length, torch.einsum("ebn,ebc->enc", off, F.normalize(x, dim=-1))
                    gradient = (towards - unit * (unit * towards).sum(-1, keepdim=True)) / length
                else:
                    gradient = torch.einsum("ebn,ebc->enc", off, x)
                gradient = gradient + DECAY * weights
                velocity = gradient if velocity is None else MOMENTUM * velocity + (1 - DAMPENING) * gradient
                weights = weights - RATE * velocity
            return weights

    def _logits(self, x: Tensor, weights: Tensor, scale: float, margin: Tensor | float = 0.0) -> Tensor:
        """Eq. 2's exponents, [..., B, c] and [..., N, c] to [..., B, N]."""
        if self.form == "cosine":
            alike = F.normalize(x, dim=-1) @ F.normalize(weights, dim=-1).transpose(-1, -2)
        else:
            alike = x @ weights.transpose(-1, -2)
            alike = alike - alike.amin(-1, keepdim=True)  # so that a margin means the same everywhere
        return scale * (alike - margin)

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Eq. 2 on random base images [B, 3, H, W] with labels [B]: the authors' training. Scores have no margin."""
        maps = self.embed(images)
        with torch.autocast(images.device.type, enabled=False):
            auxiliary, logits = self._classified(maps, base_labels, label_smoothing)
            return Losses.of_classification(auxiliary, logits)

    def _classified(self, maps: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """Loss with margin, and logits [B, classes] without, of maps [B, c, h, w]."""
        pooled, weights = maps.mean((-2, -1)), self.global_classifier.weight
        own = self.margin * F.one_hot(base_labels, self.classes).to(pooled.dtype)
        logits = self._logits(pooled, weights, self.scale, own)
        return F.cross_entropy(logits, base_labels, label_smoothing=label_smoothing), logits + self.scale * own

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 2 on all pictures of episodes; the few-shot loss is only looked at."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.score(of_support, of_query)
            n, k = of_support.shape[1:3]
            target = base_classes_of_all(labels, base_labels, n, k).flatten()  # a picture of every class is asked for
            maps = torch.cat([of_support.flatten(1, 2), of_query], dim=1).flatten(0, 1)
            auxiliary = self._classified(maps, target)[0]
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            return Losses(auxiliary, few_shot.detach(), auxiliary, scores)
