"""Robust dist (Dvornik et al., "Diversity with Cooperation: Ensemble Methods for Few-Shot Classification", ICCV 2019).

Several networks classify the base classes together and are made to agree on which of the wrong classes are likely
(cooperation), or to disagree (diversity). Then one network of the same kind, the student, is distilled from them, and
alone tells novel classes apart by the cosine with their means: the table's single network.

The members share no weight with the student, which takes no gradient to them. So `loss` is the sum of the ensemble's
and the student's, and a phase says by what it trains which of both it is about: `networks` and `network_heads`, then
`backbone` and `student_head`. All at once is distillation while the ensemble still learns.

What the "++" of the paper's table adds was not found in the released code, and is not here. Where that code differs:
  - as documented it adds the relation between members only by a second flag, a misspelt option leaving it out; here it
    is always added, as the paper says.
  - `targets`: it distils from the mean of the members' raw logits, with which the loss has no lower bound wherever they
    add up to less than zero; the paper's softened probabilities are the default, the code's form is `"logits"`.
  - its script of distillation does not load the ensemble's weights; here the members are those that were trained.
  - a step's inactive members are drawn for all its images at once, here for each image, so that an episode's numbers
    are its own; every member sees its own augmentation of an image there, the same one here.
"""

import copy
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import OnceOrMore, Positive, Share
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.base_and_novel import base_classes_of_all
from labkit.methods.checked import weights_dtype
from labkit.methods.losses import Losses
from labkit.methods.noise import Noise
from labkit.methods.probe import maps_of

# ResNet-18, 20 members, dropout 0.1 in the backbone; first the ensemble, then the student, with the members frozen. The
# rate is divided by 10 after 25 epochs of 2400 steps without improvement, and training ends the second time.
_PICTURES = {"batch": "pictures", "size": 16, "optimiser": "adam", "learning_rate": 1e-4, "weight_decay": 5e-4}
_LENGTH = {"steps": 75 * 2400, "schedule": "steps", "milestones": (50 * 2400,), "validate_every": 2400}
_ENSEMBLE = {"name": "ensemble", "rates": {"backbone": 0.0, "student_head": 0.0}, "selection": "nearest mean"}
_STUDENT = {"name": "student", "rates": {"networks": 0.0, "network_heads": 0.0}}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining(
        [_PICTURES | _LENGTH | part for part in (_ENSEMBLE, _STUDENT)], filled_in="after how many epochs the rate falls"
    )
    for shot in (1, 5)
}


class RobustDist(Method):
    """An ensemble of classifiers of base classes, and the student that is distilled from it.

    Args:
        members: H, networks of the ensemble.
        relation: between members: ``"cooperation"`` or ``"diversity"``.
        relation_weight, relation_temperature: of that term; the authors take 10 and 1, for diversity 1 and 5.
        activity: probability that a member takes part in what an image teaches.
        targets: of distillation: the members' mean softened ``"probabilities"``, or ``"logits"``.
        distillation, distillation_temperature: gamma and T of distillation.
        read: which tells novel classes apart: the ``"student"`` or the ``"ensemble"``.
        distance: ``"cosine"``, or ``"squared"`` Euclidean distance.
        scale: multiplies the cosines.

    Raises:
        ValueError: unknown names.
    """

    auxiliary_name = "distillation"
    authors_training: ClassVar = AUTHORS_TRAINING
    members: OnceOrMore = 20
    relation: Literal["cooperation", "diversity"] = "cooperation"
    relation_weight: float = 10.0
    relation_temperature: Positive = 1.0
    activity: Share = 0.7
    targets: Literal["probabilities", "logits"] = "probabilities"
    distillation: Share = 0.8
    distillation_temperature: Positive = 5.0
    read: Literal["student", "ensemble"] = "student"
    distance: Literal["cosine", "squared"] = "cosine"
    scale: float = 20.0

    def build(self) -> None:
        count = self.members
        self.networks = nn.ModuleList(self._another_backbone() for _ in range(count))
        self.network_heads = nn.ModuleList(nn.Linear(self.channels, self.classes) for _ in range(count))
        self.student_head = nn.Linear(self.channels, self.classes)
        self.active = _Active(self.activity, count)

    def _another_backbone(self) -> nn.Module:
        """One like the student's, with initial weights of its own."""
        if self.backbone_name is not None:
            return type(self.backbone)(**self.backbone_options)
        other = copy.deepcopy(self.backbone)
        for layer in other.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
        return other

    @property
    def channels_of_maps(self) -> int | None:
        return self.channels * (self.members if self.read == "ensemble" else 1)

    def embed(self, images: Tensor) -> Tensor:
        """Maps [..., c, h, w] of the student, or [..., H c, h, w] of all members; see `Method.embed`."""
        if self.read == "student":
            return super().embed(images)
        return torch.cat(self._maps(self.networks, images), dim=-3)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Logarithms of the mean of the networks' probabilities; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            each = (-1, self.channels)
            prototypes = mean_of_shots(support.mean((-2, -1)), support_mask).unflatten(-1, each)  # [E, N, H, c]
            queries = query.mean((-2, -1)).unflatten(-1, each)
            if self.distance == "cosine":
                q, p = F.normalize(queries, dim=-1), F.normalize(prototypes, dim=-1)
                alike = self.scale * torch.einsum("eqhc,enhc->eqhn", q, p)
            else:
                apart = queries.unsqueeze(3) - prototypes.transpose(1, 2).unsqueeze(1)  # [E, Q, H, N, c]
                alike = -apart.square().sum(-1)
            probabilities = alike.softmax(-1).mean(2)
            return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """The losses of classification on all pictures of the episodes; the few-shot loss is only looked at."""
        n, k = support.shape[1:3]
        pictures = torch.cat([support.flatten(1, 2), query], dim=1)
        maps = self._all_maps(pictures)
        with torch.autocast(query.device.type, enabled=False):
            ensemble, auxiliary, _ = self.losses_of(maps, base_classes_of_all(labels, base_labels, n, k))
            read = (maps[-1] if self.read == "student" else torch.cat(maps[:-1], dim=-3)).detach()
            scores = self.score(read[:, : n * k].unflatten(1, (n, k)), read[:, n * k :])
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            return Losses(ensemble + auxiliary, few_shot, auxiliary, scores)

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Of base images [B, 3, H, W]: the ensemble's loss and the student's."""
        maps = self._all_maps(images)
        with torch.autocast(images.device.type, enabled=False):
            ensemble, auxiliary, logits = self.losses_of(maps, base_labels, label_smoothing)
            return Losses(ensemble + auxiliary, torch.zeros_like(auxiliary), auxiliary, logits)

    def _all_maps(self, images: Tensor) -> list[Tensor]:
        """Maps [..., c, h, w] of every member, and last those of the student."""
        return self._maps([*self.networks, self.backbone], images)

    def _maps(self, networks: Iterable[nn.Module], images: Tensor) -> list[Tensor]:
        dtype = weights_dtype(self)
        return [maps_of(network, images, self.channels, dtype) for network in networks]

    def losses_of(
        self, maps: list[Tensor], base_labels: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The ensemble's loss, the student's, and the student's logits, of maps and labels [...]."""
        heads = [*self.network_heads, self.student_head]
        *of_members, student = (head(x.mean((-2, -1))) for head, x in zip(heads, maps, strict=True))
        members = torch.stack(of_members, dim=-2)  # [..., H, C]
        ensemble = self.ensemble_loss(members, base_labels, self.active(base_labels), label_smoothing)
        distillation = self.distillation_loss(student, members.detach(), base_labels, label_smoothing)
        return ensemble, distillation, student

    def ensemble_loss(self, logits: Tensor, labels: Tensor, active: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The sum of the members' cross-entropies, and their relation.

        Logits [..., H, C], labels [...], and `active` [..., H], 1 for members that take part, 0 for others.
        """
        target = labels.unsqueeze(-1).expand(active.shape).flatten()
        each = F.cross_entropy(logits.flatten(0, -2), target, reduction="none", label_smoothing=label_smoothing)
        together = (each.view(active.shape) * active).sum(-1).mean()
        return together + self.relation_weight * self.relation_of(logits, labels, active)

    def relation_of(self, logits: Tensor, labels: Tensor, active: Tensor) -> Tensor:
        """How members stand to one another in what they say of wrong classes, the mean over pairs of active members.

        Cooperation: the cross-entropy of one with the other. Diversity: the cosine.
        """
        p = (logits / self.relation_temperature).softmax(-1)
        wrong = p * (1 - F.one_hot(labels, p.shape[-1]).to(p)).unsqueeze(-2)
        if self.relation == "cooperation":
            pairs = -wrong @ (wrong + 1e-7).log().transpose(-1, -2)
        else:
            unit = wrong / (p.square().sum(-1, keepdim=True) + 1e-8).sqrt()
            pairs = unit @ unit.transpose(-1, -2)
        both = active.unsqueeze(-1) * active.unsqueeze(-2)
        both = both - torch.diag_embed(both.diagonal(dim1=-2, dim2=-1))
        return ((pairs * both).sum((-2, -1)) / both.sum((-2, -1)).clamp(min=1)).mean()

    def distillation_loss(
        self, student: Tensor, members: Tensor, labels: Tensor, label_smoothing: float = 0.0
    ) -> Tensor:
        """(1 - gamma) times the cross-entropy + gamma T^2 times that with the members' softened answers.

        Args:
            student: logits [..., C]. members: logits [..., H, C]. labels: [...].
        """
        t, gamma = self.distillation_temperature, self.distillation
        target = members if self.targets == "logits" else (members / t).softmax(-1)
        softened = -(target.mean(-2) * (student / t).log_softmax(-1)).sum(-1).mean()
        plain = F.cross_entropy(student.flatten(0, -2), labels.flatten(), label_smoothing=label_smoothing)
        return (1 - gamma) * plain + gamma * t**2 * softened


class _Active(Noise):
    """Which members take part for each image: labels [B, ...] to 0 or 1 [B, ..., H]; in evaluation all do."""

    def __init__(self, probability: float, members: int) -> None:
        super().__init__()
        self.probability, self.members = probability, members

    def forward(self, labels: Tensor) -> Tensor:
        if not self.training:
            return torch.ones(*labels.shape, self.members, device=labels.device)
        return (self.draw(labels, *labels.shape[1:], self.members) < self.probability).float()
