"""Cross Attention Network (Hou et al., "Cross Attention Network for Few-shot Classification", NeurIPS 2019).

Two maps look at each other: every cell of one is compared with all cells of the other, a small network decides how to
weigh those comparisons, and what results is one attention value for each cell, by which all its channels grow alike.
That is the position-specific alignment to which DMF adds the channels (its section 4.1).

Code of the authors: blue-blue272/fewshot-CAN. Where it departs from the paper, the defaults here are the code's, which
made the published numbers: a cell's comparisons are weighed and averaged, where Eq. 2 reads as a sum (`fuse`; with a
temperature of 0.025 the sum's softmax is m times sharper), the fusion network has batch normalisation
(`fusion_norm`), and cosines are multiplied by 7. Its model selection looks at the test classes; ours must not.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common import checks
from labkit.common.checks import Positive, Size
from labkit.methods.authors import AuthorsTraining, Trainings, stairs
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.losses import Losses, at_every_position, few_shot_loss

# 90 epochs of 1200 episodes, four a step, no pre-training. Their rate is 0.1, from epoch 60 on 0.006, from 70 0.0012
# and from 80 0.00024. Their ResNet-12 has 64 to 512 channels, ReLU, and 6 x 6 cells.
_EPOCH = 300  # steps
_EPISODES = {"size": 4, "way": 5, "query": 6, "weight_decay": 5e-4, "validate_every": _EPOCH}
_RATES = ((60 * _EPOCH, 0.1), (10 * _EPOCH, 0.006), (10 * _EPOCH, 0.0012), (10 * _EPOCH, 0.00024))
AUTHORS_TRAINING: Trainings = {shot: AuthorsTraining(stairs(_EPISODES | {"shot": shot}, *_RATES)) for shot in (1, 5)}


class CAN(Method):
    """Backbone, cross attention (its section 3.2), cosine classifier and global classifier (its section 4).

    Args:
        cells: m, positions of a feature map: 121 for 84 px images, 25 for 40 px. The fusion network has weights for
            each.
        reduction: r of the fusion network's hidden layer.
        temperature: tau of the attention's softmax (Eq. 2).
        scale: multiplies the cosines; the paper writes none, its code uses 7.
        loss_weight: lambda of the few-shot loss (Eq. 6).
        fuse: ``"mean"``, as released, or ``"sum"`` over the comparisons of a cell.
        fusion_norm: batch normalisation in the fusion network, as released.
        transductive: for CAN+T, how many queries join the support in each round; the paper's are [35, 70] of 75. None
            is CAN, without any.

    Raises:
        ValueError: unknown names, or a map of another number of cells.
    """

    auxiliary_name = "global classification"
    authors_training: ClassVar = AUTHORS_TRAINING
    options_before: ClassVar = {"fuse": "sum", "fusion_norm": False, "transductive": None}
    cells: Size = 121
    reduction: Size = 6
    temperature: Positive = 0.025
    scale: float = 7.0
    loss_weight: float = 0.5
    fuse: Literal["mean", "sum"] = "mean"
    fusion_norm: bool = True
    transductive: list[int] | None = None

    def build(self) -> None:
        joining = () if self.transductive is None else self.transductive
        for count in checks.several("transductive", joining, "a list of whole numbers, or None", least=0):
            checks.check_int("the queries that join the support", count)
        m, hidden = self.cells, max(1, self.cells // self.reduction)
        norm = [nn.BatchNorm1d(hidden)] if self.fusion_norm else []
        self.fusion = nn.Sequential(nn.Linear(m, hidden), *norm, nn.ReLU(), nn.Linear(hidden, m))  # W1, W2
        self.global_classifier = nn.Conv2d(self.channels, self.classes, 1)

    def attention(self, x_supp: Tensor, x_q: Tensor) -> tuple[Tensor, Tensor]:
        """A^p of every class and A^q of every query, for every pair of them; each sums to 1 over its cells.

        P [E, N, c, h, w] and Q [E, Q, c, h, w] to twice [E, Q, N, h, w].
        """
        h, w = x_q.shape[-2:]
        if h * w != self.cells:
            raise ValueError(f"this CAN was made for maps of {self.cells} cells, and was given {h} x {w}")
        p, q = (F.normalize(x.flatten(-2), dim=2) for x in (x_supp, x_q))
        correlation = torch.einsum("encp,eqcr->eqnpr", p, q)  # Eq. 1: cell p of the class with cell r of the query
        of_p = self._fuse(correlation.transpose(-1, -2))  # columns are compared: R^p = R^T
        of_q = self._fuse(correlation)
        return of_p.unflatten(-1, (h, w)), of_q.unflatten(-1, (h, w))

    def _fuse(self, correlation: Tensor) -> Tensor:
        """Eq. 2-3: [..., m, m], a column for each cell of the own map, to attention [..., m] over those cells."""
        pooled = correlation.mean(-1)  # over the own cells
        # w: one weight for each other cell. To batch normalisation, episodes, queries and classes are the batch.
        kernel = self.fusion(pooled.flatten(0, -2)).view(pooled.shape) if self.fusion_norm else self.fusion(pooled)
        fused = torch.einsum("...o,...oi->...i", kernel, correlation)
        if self.fuse == "mean":
            fused = fused / self.cells
        return (fused / self.temperature).softmax(-1)

    def align(self, x_q: Tensor, attention: Tensor) -> Tensor:
        """Q bar = Q (1 + A^q): the query as each class sees it, [E, Q, N, c, h, w]."""
        return x_q.unsqueeze(2) * (1 + attention.unsqueeze(3))

    def class_weights(self, x_supp: Tensor, attention: Tensor) -> Tensor:
        """GAP(P bar) of every pair, P bar = P (1 + A^p): [E, Q, N, c]."""
        together = torch.einsum("enchw,eqnhw->eqnc", x_supp, 1 + attention)
        return together / self.cells

    def score_maps(self, x_supp: Tensor, x_q: Tensor, attention: Tensor) -> Tensor:
        """Scaled cosines of every query cell with every class, Eq. 4: [E, Q, N, h, w].

        A cell's own attention is a positive factor and leaves its cosine as it is.
        """
        weights = F.normalize(self.class_weights(x_supp, attention), dim=-1)
        return self.scale * torch.einsum("eqchw,eqnc->eqnhw", F.normalize(x_q, dim=2), weights)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scaled cosines of the pooled, attended maps; see `Method.score`. With CAN+T queries see one another."""
        with torch.autocast(support.device.type, enabled=False):
            scores = self._score(mean_of_shots(support, support_mask), query)[0]
            for count in self.transductive or ():
                scores = self._score(self._joined(support, query, support_mask, scores, count), query)[0]
            return scores

    def _joined(self, support: Tensor, query: Tensor, mask: Tensor | None, scores: Tensor, count: int) -> Tensor:
        """X_supp of CAN+T (its section 4.3): the means of the shots and of the `count` queries scored highest.

        A query joins the class of its highest score. It is as the paper tells it; no numbers of the authors' code have
        been compared.
        """
        highest, guess = scores.max(-1)  # [E, Q]
        sure = highest.topk(min(count, query.shape[1]), dim=1).indices
        joins = torch.zeros_like(highest).scatter(1, sure, 1.0).unsqueeze(-1) * F.one_hot(guess, scores.shape[-1])
        own = support.new_ones(support.shape[:3]) if mask is None else mask.to(support)
        together = torch.einsum("enk,enkchw->enchw", own, support) + torch.einsum("eqn,eqchw->enchw", joins, query)
        return together / (own.sum(2) + joins.sum(1))[..., None, None, None]

    def _score(self, x_supp: Tensor, x_q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        of_p, of_q = self.attention(x_supp, x_q)
        weights = self.class_weights(x_supp, of_p)
        pooled = torch.einsum("eqchw,eqnhw->eqnc", x_q, 1 + of_q)
        return self.scale * F.cosine_similarity(pooled, weights, dim=-1), of_p, of_q

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 4-6: lambda times the few-shot loss at every query cell, and the global loss of the attended query."""
        with_shots, x_q = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            x_supp = mean_of_shots(with_shots)
            scores, of_p, of_q = self._score(x_supp, x_q)
            few_shot = few_shot_loss(self.score_maps(x_supp, x_q, of_p), labels)
            own = labels[:, :, None, None, None].expand(-1, -1, 1, *of_q.shape[-2:])
            seen = self.align(x_q, of_q.gather(2, own)).squeeze(2)
            logits = self.global_classifier(seen.flatten(0, 1))
            auxiliary = F.cross_entropy(logits, at_every_position(base_labels, logits))
            return Losses(self.loss_weight * few_shot + auxiliary, few_shot, auxiliary, scores)
