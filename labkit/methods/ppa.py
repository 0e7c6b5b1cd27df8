"""PPA (Qiao et al., "Few-Shot Image Recognition by Predicting Parameters from Activations", CVPR 2018).

A small network phi predicts a class's weights in the last layer from an activation of that class (its section 3): from
one picture's, or from the mean of several. It is learned on the base classes, all of them at once.

The authors' code is for Lua Torch and was read, not run; there are no numbers of it to hold this file to. It is
followed where we know it: phi normalises what it takes and what it gives, the query's activation stays as it is, and
there is no scale and no bias. The paper's text was not at hand, so no equation is cited.

In their training every class is in every episode; here an episode has the classes it is given. Class means are not of
all of a class's pictures but follow those of the episodes, so that they also hold while a backbone still learns; `pace`
says how fast.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Positive, Share
from labkit.methods.authors import CLASSIFICATION, AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.base_and_novel import base_classes, base_classes_of_all
from labkit.methods.losses import Losses
from labkit.methods.noise import Noise

# A simple network of 64 channels and pictures of 80 px. After classification the backbone is frozen: 50 epochs of 250
# steps, one episode each, of one query of every class. They train on base and validation classes, 80 together.
_EPISODES = {"steps": 12_500, "size": 1, "way": 64, "shot": 1, "query": 1, "rates": {"backbone": 0.0}}
_SGD = {"learning_rate": 1e-3, "weight_decay": 5e-4, "nesterov": False, "schedule": "constant", "validate_every": 250}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([CLASSIFICATION, _EPISODES | _SGD], filled_in="all of the pre-training") for shot in (1, 5)
}


class PPA(Method):
    """Class weights predicted from activations, compared with a query's activation by a dot product.

    Args:
        single: probability that in training a class is represented by one picture (the first of its shots) and not by
            its mean activation.
        pace: share of a class's mean activation that an episode's pictures of it make up, from its second episode on.
        global_weight: of a classification of all base classes beside the episodes, for a backbone that was not trained
            by one before.
    """

    auxiliary_name = "global classification"
    authors_training: ClassVar = AUTHORS_TRAINING
    single: Share = 0.7
    pace: Positive = 0.1
    global_weight: float = 0.0

    means: Tensor
    seen: Tensor

    def build(self) -> None:
        c = self.channels
        first, second = nn.Linear(c, c), nn.Linear(c, c)
        for layer in (first, second):  # almost the identity, to begin with
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.phi = nn.Sequential(first, nn.ReLU(), second)
        self.global_classifier = nn.Linear(c, self.classes)
        self.draw = Noise()
        self.register_buffer("means", torch.zeros(self.classes, c))
        self.register_buffer("seen", torch.zeros(self.classes, dtype=torch.bool))

    def class_weights(self, activations: Tensor) -> Tensor:
        """phi: activations [..., c] of classes to their weights [..., c], of length 1."""
        return F.normalize(self.phi(F.normalize(activations, dim=-1)), dim=-1)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Dot products with the weights predicted from the mean of the shots; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            return self._compare(mean_of_shots(support, support_mask).mean((-2, -1)), query)

    def _compare(self, activations: Tensor, query: Tensor) -> Tensor:
        return torch.einsum("eqc,enc->eqn", query.mean((-2, -1)), self.class_weights(activations))

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of the queries among the episode's classes, each by a picture or by its mean activation.

        `labels` must hold every class at least once.
        """
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            if self.training:
                scores = self._compare(self._represented(of_support, of_query, labels, base_labels), of_query)
            else:
                scores = self.score(of_support, of_query)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            return self.with_global_loss(few_shot, scores, of_query, base_labels)

    def _represented(self, of_support: Tensor, of_query: Tensor, labels: Tensor, base_labels: Tensor) -> Tensor:
        """An activation [E, N, c] for each class of an episode, drawn: its first picture's or its mean's."""
        n, k = of_support.shape[1:3]
        of_class = base_classes(labels, base_labels, n)
        shots, queries = of_support.mean((-2, -1)), of_query.mean((-2, -1))
        classes = base_classes_of_all(labels, base_labels, n, k)
        self._follow(classes, torch.cat([shots.flatten(1, 2), queries], 1))
        one = self.draw.draw(shots, n).unsqueeze(-1) < self.single
        return torch.where(one, shots[:, :, 0], self.means[of_class])

    @torch.no_grad()
    def _follow(self, base_labels: Tensor, activations: Tensor) -> None:
        """Move the means of the classes that are there towards activations [E, M, c] of base classes [E, M]."""
        labels, activations = base_labels.flatten(), activations.flatten(0, 1)
        total = torch.zeros_like(self.means).index_add(0, labels, activations)
        count = torch.zeros_like(self.means[:, 0]).index_add(0, labels, torch.ones_like(activations[:, 0]))
        step = torch.where(self.seen, self.pace, 1.0) * (count > 0)  # the first time all of the way
        self.means.lerp_(total / count.clamp(min=1).unsqueeze(-1), step.unsqueeze(-1).to(self.means.dtype))
        self.seen |= count > 0
