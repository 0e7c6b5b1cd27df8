"""DeepEMD (Zhang et al., "DeepEMD: Few-Shot Image Classification With Differentiable Earth Mover's Distance and
Structured Classifiers", CVPR 2020).

Two pictures are two heaps of earth, a cell's feature with its weight each; how alike they are is how cheaply one is
made of the other. This is the form with the cells of a feature map (its "FCN"), and structured prototypes for K > 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.base import Losses, Method, mean_of_shots, pooled_global_loss

FLOOR = 1e-3  # added to every weight of Eq. 6, or a map of weights that are all 0 had nothing to be moved


class DeepEMD(Method):
    """The optimal transport between the cells of a query and of a class (Eq. 1-6).

    A class of several shots is a map of features learned for the episode, the "structured fully connected layer"
    (section 3.4): from the mean of the shots, by gradient descent on the cross-entropy of the support. In training
    the mean itself is taken, so that the gradient reaches the support.

    Args:
        backbone, classes, backbone_options: see `Method`.
        temperature: multiplies the similarity; the authors' 12.5.
        sfc_steps, sfc_rate: of the gradient descent, on all support pictures at once. The authors take some 700 steps
            on four at a time, at 0.1 and dampened; ten at this rate lead about as far.
        global_weight: of a classification of all base classes beside it. The authors' backbone is pre-trained by one;
            here both are learned together, in one loop.
    """

    auxiliary_name = "global classification"
    temperature: float = 12.5
    sfc_steps: int = 10
    sfc_rate: float = 1.7
    global_weight: float = 0.0

    def build(self) -> None:
        """See `Method.build`."""
        self.global_classifier = nn.Linear(self.channels, self.classes) if self.global_weight else None

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`. With several shots it takes gradients whatever mode it is called in, but in training."""
        with torch.autocast(support.device.type, enabled=False):
            if self.training or support.shape[2] == 1:
                return self.similarity(mean_of_shots(support, support_mask), query)
            return self.similarity(self.structured_prototypes(support, support_mask), query)

    def similarity(self, x_supp: Tensor, x_q: Tensor) -> Tensor:
        """Eq. 5 and 7: maps [E, N, c, h, w], [E, Q, c, h, w] to temperature times sum (1 - c_ij) x_ij, [E, Q, N]."""
        v, u = x_supp.flatten(-2), x_q.flatten(-2)  # cells last
        # Eq. 6: a cell weighs what it has in common with the other picture's mean.
        supply = torch.einsum("eqci,enc->eqni", u, v.mean(-1)).relu() + FLOOR
        demand = torch.einsum("encj,eqc->eqnj", v, u.mean(-1)).relu() + FLOOR
        # Centred over channels, as in the authors' code: features after a ReLU are all alike to a cosine.
        u, v = (F.normalize(x - x.mean(2, keepdim=True), dim=2) for x in (u, v))
        cost = 1 - torch.einsum("eqci,encj->eqnij", u, v)  # Eq. 5
        supply, demand = (w / w.sum(-1, keepdim=True) for w in (supply, demand))
        moved: Tensor = transport_cost(cost, supply, demand)
        return self.temperature * (1 - moved)

    def structured_prototypes(self, support: Tensor, mask: Tensor | None = None) -> Tensor:
        """A map for every class that tells the support apart (section 3.4): [E, N, K, c, h, w] to [E, N, c, h, w]."""
        e, n, k = support.shape[:3]
        with torch.inference_mode(False), torch.enable_grad():
            pictures = support.detach().clone().flatten(1, 2)
            prototypes = mean_of_shots(support.detach().clone(), mask).requires_grad_()
            labels = torch.arange(n, device=support.device).repeat_interleave(k).repeat(e)
            there = torch.ones(e, n * k, device=support.device) if mask is None else mask.clone().flatten(1).float()
            share = there / there.sum(1, keepdim=True)
            optimiser = torch.optim.SGD([prototypes], lr=self.sfc_rate, momentum=0.9)
            for _ in range(self.sfc_steps):
                scores = self.similarity(prototypes, pictures).flatten(0, 1)
                loss = (F.cross_entropy(scores, labels, reduction="none") * share.flatten()).sum()
                (prototypes.grad,) = torch.autograd.grad(loss, prototypes)
                optimiser.step()
        return prototypes.detach()

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of the queries, and of all base classes where that has a weight."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.similarity(mean_of_shots(of_support), of_query)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            if self.global_classifier is None:
                return Losses(few_shot, few_shot, torch.zeros_like(few_shot), scores)
            auxiliary = pooled_global_loss(self.global_classifier, of_query, base_labels)
            return Losses(few_shot + self.global_weight * auxiliary, few_shot, auxiliary, scores)


def plans(cost: Tensor, supply: Tensor, demand: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cheapest way to move `supply` onto `demand`, exactly, by the network simplex method of POT (`ot.emd`).

    It runs on the processor in double precision, a pair after the other: a 25 x 25 problem takes a tenth of a
    millisecond, a fiftieth of what a general linear program takes. A GPU waits for it.

    Args:
        cost: [..., m, m'].
        supply, demand: [..., m] and [..., m'], of equal sums.

    Returns:
        flows [..., m, m'], and the prices of supply [..., m] and demand [..., m']: the derivative of the whole cost by
        them, up to a constant that adding to both sides leaves without effect.
    """
    import ot  # here, since it takes seconds and nothing else needs it

    lead, (m, n) = cost.shape[:-2], cost.shape[-2:]
    costs, supplies, demands = (x.detach().double().cpu().numpy() for x in (cost, supply, demand))
    flows, of_supply, of_demand = np.empty((*lead, m, n)), np.empty((*lead, m)), np.empty((*lead, n))
    for i in np.ndindex(*lead):
        a, b = supplies[i] / supplies[i].sum(), demands[i] / demands[i].sum()  # equal to the last digit
        flows[i], log = ot.emd(a, b, costs[i], log=True)
        of_supply[i], of_demand[i] = log["u"], log["v"]
    return tuple(torch.from_numpy(x).to(cost) for x in (flows, of_supply, of_demand))  # type: ignore[return-value]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def transport_cost(cost: Tensor, supply: Tensor, demand: Tensor) -> Tensor:
    """The cost of the cheapest `plans` [...], differentiable, for supply and demand that sum to 1."""
    moved: Tensor = _Transport.apply(cost, supply, demand)
    return moved


class _Transport(torch.autograd.Function):
    """The gradient by the cost is the flow, by supply and demand their prices (the envelope theorem): no derivative of
    the flow itself is needed.
    """

    @staticmethod
    def forward(ctx: Any, cost: Tensor, supply: Tensor, demand: Tensor) -> Tensor:
        flow, of_supply, of_demand = plans(cost, supply, demand)
        ctx.save_for_backward(flow, of_supply, of_demand)
        return (flow * cost).sum((-2, -1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flow, of_supply, of_demand = ctx.saved_tensors
        g = gradient.unsqueeze(-1)
        return g.unsqueeze(-1) * flow, g * of_supply, g * of_demand
