"""Deep Subspace Networks (Simon et al., "Adaptive Subspaces for Few-Shot Learning", CVPR 2020).

Code of the authors: chrysts/dsn_fewshot, with a folder for Conv4 and one for ResNet-12, which are two methods. Both
read the flattened map, and both show a class of one shot with its mirror image. Oddities that are not copied: the
one-shot test script for Conv4 projects on no direction at all (its training on one); that for ResNet-12 turns the
second picture upside down instead of mirroring it; the training for ResNet-12 sees the validation classes and selects
on the test classes.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.authors import AuthorsTraining, Trainings, stairs
from labkit.methods.base import Method, read_out
from labkit.methods.losses import Losses

RIDGE = 1e-10  # of the trace: equal pictures span nothing, and must not divide by nothing
TIE, NOTHING = 1e-15, 1e-12  # of the trace: what parts eigenvalues that are 0, and what counts as 0

# Of the form for ResNet-12: 80 epochs of 1000 steps, 15 shots whatever the test has. The rate is 0.1, from epoch 12 on
# 0.0025, from 30 0.00032, from 45 0.00014 and from 57 0.000052.
_EPISODES = {"size": 8, "way": 5, "shot": 15, "query": 5, "weight_decay": 5e-4, "validate_every": 1000}
_RATES = ((12_000, 0.1), (18_000, 0.0025), (15_000, 0.00032), (12_000, 0.00014), (23_000, 0.000052))
AUTHORS_TRAINING: Trainings = {shot: AuthorsTraining(stairs(_EPISODES, *_RATES)) for shot in (1, 5)}

# Of the form for Conv4: 600 epochs of 100 episodes of 15 queries, one a step, with shots as in the test.
_ADAM = {"optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "steps", "decay": 0.5}
_CONV4 = _ADAM | {"steps": 60_000, "size": 1, "way": 5, "query": 15, "validate_every": 100}
CONV4_TRAINING: Trainings = {
    shot: AuthorsTraining(
        [_CONV4 | {"shot": shot, "milestones": tuple(range(epochs * 100, 60_000, epochs * 100))}], {"form": "conv4"}
    )
    for shot, epochs in ((1, 100), (5, 50))
}


class DSN(Method):
    """A class is the subspace that its support spans; a score, the distance from it (Eq. 3-4).

    Args:
        form: ``"resnet12"``, which made the published 64.6 and 79.5 % beside DMF: the subspace through the origin of
            all directions but the weakest, and the squared distance over the number of dimensions, times a learned
            scale. ``"conv4"``, as the paper writes it: the affine subspace around the class's mean, the distance
            itself, and the term that keeps subspaces apart.
        scale: start of the learned scale of the form ``"resnet12"``.
        discriminative: weight of the term of the form ``"conv4"`` (Eq. 5-6).

    Raises:
        ValueError: another form.
    """

    auxiliary_name = "overlap of subspaces"
    authors_training: ClassVar = AUTHORS_TRAINING
    form: Literal["resnet12", "conv4"] = "resnet12"
    scale: float = 1.0
    discriminative: float = 0.03

    def build(self) -> None:
        self.gamma = nn.Parameter(torch.tensor(float(self.scale))) if self.form == "resnet12" else None

    def shows_mirrored(self, shots: int) -> bool:
        """With one shot: one vector alone spans no subspace."""
        return shots == 1

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`; support of one shot comes with its mirror image as the second (`shows_mirrored`)."""
        with torch.autocast(support.device.type, enabled=False):
            return self._score(*self.subspaces(support, support_mask), read_out(query, "map"))

    def subspaces(self, support: Tensor, support_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Origin [E, N, D] and orthonormal basis [E, N, D, d], d <= K, of every class, of maps [E, N, K, c, h, w].

        Missing shots span nothing; the columns left over are zeros. A single shot, of which `score` was given no mirror
        image, is in the form ``"resnet12"`` the line through it.
        """
        vectors = read_out(support, "map")  # [E, N, K, D]
        present = vectors.new_ones(vectors.shape[:3]) if support_mask is None else support_mask.to(vectors)
        counts = present.sum(-1)  # [E, N]
        if self.form == "resnet12":
            rows = (vectors * present.unsqueeze(-1)).double()  # the released code takes singular vectors of these
            gram = rows @ rows.transpose(-1, -2)  # [E, N, K, K]
            size = gram.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) + torch.finfo(gram.dtype).tiny
            number = torch.arange(gram.shape[-1], device=gram.device)
            # Equal shots, and missing ones, give the eigenvalue 0, more than one of which has no gradient: they are
            # told apart, and what they would span is left out.
            values, vectors_of = torch.linalg.eigh(gram + torch.diag_embed(TIE * size * (number + 1)))
            values, vectors_of = values.flip(-1), vectors_of.flip(-1)
            kept = (number < (counts - 1).clamp(min=1).unsqueeze(-1)) & (values > NOTHING * size)
            lengths = torch.where(kept, values, torch.ones_like(values)).sqrt()
            directions = rows.transpose(-1, -2) @ vectors_of * (kept / lengths).unsqueeze(-2)
            width = max(support.shape[2] - 1, 1)
            return torch.zeros_like(vectors[:, :, 0]), directions.to(vectors.dtype)[..., :width]
        exact = vectors.double()  # a Gram matrix has the square of the condition
        mean = (exact * present.unsqueeze(-1)).sum(2) / counts.unsqueeze(-1)
        spread = (exact - mean.unsqueeze(2)) * present.unsqueeze(-1)
        gram = spread @ spread.transpose(-1, -2)  # [E, N, K, K], of rank K - 1
        ridge = RIDGE * gram.diagonal(dim1=-2, dim2=-1).sum(-1) + torch.finfo(gram.dtype).tiny
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        # The released code takes singular vectors; any orthonormal basis of the same span gives the same numbers.
        lower = torch.linalg.cholesky_ex(gram + ridge[..., None, None] * eye).L
        basis = torch.linalg.solve_triangular(lower, spread, upper=False).transpose(-1, -2)
        return mean.to(vectors.dtype), basis.to(vectors.dtype)

    def _score(self, origin: Tensor, basis: Tensor, query: Tensor) -> Tensor:
        apart = query.unsqueeze(2) - origin.unsqueeze(1)  # [E, Q, N, D]
        inside = torch.einsum("eqnd,endk->eqnk", apart, basis)
        rest = (apart.square().sum(-1) - inside.square().sum(-1)).clamp(min=0)
        if self.gamma is None:
            return -(rest + 1e-12).sqrt()
        return -self.gamma * rest / query.shape[-1]

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of the distances (Eq. 4) and, of the form ``"conv4"``, the overlap of subspaces (Eq. 5-6).

        The overlap is the sum over ordered pairs of different classes of |U_i' U_j|^2.
        """
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            origin, basis = self.subspaces(of_support)
            scores = self._score(origin, basis, read_out(of_query, "map"))
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            if self.form == "resnet12":
                return Losses.of_queries(few_shot, scores)
            overlap = torch.einsum("endk,emdl->enmkl", basis, basis).square().sum((-2, -1))
            own = torch.eye(overlap.shape[-1], dtype=overlap.dtype, device=overlap.device)
            auxiliary = (overlap * (1 - own)).sum((-2, -1)).mean()
            return Losses(few_shot + self.discriminative * auxiliary, few_shot, auxiliary, scores)
