"""DeepEMD (Zhang et al., "DeepEMD: Few-Shot Image Classification With Differentiable Earth Mover's Distance and
Structured Classifiers", CVPR 2020).

Two pictures are two heaps of earth, a cell's feature with its weight each; how alike they are is how cheaply one is
made of the other. This is the form with the cells of a feature map (its "FCN"), and structured prototypes for K > 1.

Code of the authors: icoz69/DeepEMD. By its default options, with which the defaults here agree, it takes the flow of
OpenCV's solver for a constant in training too, so that the gradient flows through the costs alone; the paper
differentiates the linear program, as an option of the code does (`gradient`).
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common import checks
from labkit.common.checks import Times
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots

FLOOR = 1e-3  # added to every weight of Eq. 6, or a map of weights that are all 0 had nothing to be moved
FLOOR_OF_CONSTANT = 1e-5  # and once more, relative to a mean of 1, before the solver whose flow is a constant
EMPTY = torch.empty(0, dtype=torch.long)

# Classification of the base classes, 120 epochs of 300 batches of 128 of 38,400 pictures; then 100 epochs of 50
# episodes, one a step, with shots as in the test.
_BASE = {"batch": "pictures", "size": 128, "steps": 36_000, "learning_rate": 0.1, "selection": "nearest mean"}
_FIFTHS = {"schedule": "steps", "decay": 0.2, "milestones": (9000, 18_000, 27_000), "weight_decay": 5e-4}
_EPISODES = {"size": 1, "way": 5, "query": 15, "steps": 5000, "learning_rate": 5e-4, "weight_decay": 5e-4}
_HALVED = {"schedule": "steps", "decay": 0.5, "milestones": tuple(range(500, 5000, 500)), "validate_every": 50}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_BASE | _FIFTHS, _EPISODES | _HALVED | {"shot": shot}], {"pretrain": True})
    for shot in (1, 5)
}


class DeepEMD(Method):
    """The optimal transport between the cells of a query and of a class (Eq. 1-6).

    A class of several shots is a map of features learned for the episode, the "structured fully connected layer"
    (section 3.4): from the mean of the shots, by stochastic gradient descent with momentum 0.9 on the cross-entropy of
    the support. Nothing of it reaches the backbone, whose gradient then comes from the queries alone.

    Args:
        temperature: multiplies the similarity; the authors' 12.5.
        gradient: through ``"costs"`` alone, the flow a constant, or through the whole ``"program"``: costs and weights.
        sfc_epochs: passes over the support; 0 takes the mean of the shots.
        sfc_batch: pictures in a step, in an order that is drawn once and for all; None takes all at once.
        sfc_rate, sfc_test_rate: learning rate in training, and in evaluation (the authors' scripts differ).
        sfc_dampening: of later steps' gradients; the authors' 0.9 leaves a tenth of them.
        sfc_in_training: learn the map in training too; otherwise the mean is taken there.
        global_weight: of a classification of all base classes beside it, which the authors have not.
        pretrain: have a classifier of base classes for `classification_loss`, to start as the authors do.

    Raises:
        ValueError: an unknown `gradient`.
    """

    auxiliary_name = "global classification"
    authors_training: ClassVar = AUTHORS_TRAINING
    options_before: ClassVar = {
        "gradient": "program",
        "sfc_epochs": 10,
        "sfc_batch": None,
        "sfc_test_rate": 1.7,
        "sfc_dampening": 0.0,
        "sfc_in_training": False,
    }
    temperature: float = 12.5
    gradient: Literal["costs", "program"] = "costs"
    sfc_epochs: Times = 100
    sfc_batch: int | None = 4
    sfc_rate: float = 0.1
    sfc_test_rate: float = 100.0
    sfc_dampening: float = 0.9
    sfc_in_training: bool = True
    global_weight: float = 0.0
    pretrain: bool = False

    def build(self) -> None:
        if self.sfc_batch is not None:
            checks.check_int("sfc_batch", self.sfc_batch)
        classifier = self.global_weight or self.pretrain
        self.global_classifier = nn.Linear(self.channels, self.classes) if classifier else None

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """See `Method.score`. With several shots it takes gradients whatever mode it is called in."""
        with torch.autocast(support.device.type, enabled=False):
            learned = support.shape[2] > 1 and (self.sfc_in_training or not self.training)
            prototypes = self.structured_prototypes if learned else mean_of_shots
            return self.similarity(prototypes(support, support_mask), query)

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
        if self.gradient == "costs":
            supply, demand = (w.detach() + FLOOR_OF_CONSTANT / w.shape[-1] for w in (supply, demand))
            supply, demand = (w / w.sum(-1, keepdim=True) for w in (supply, demand))
        moved: Tensor = transport_cost(cost, supply, demand)
        return self.temperature * (1 - moved)

    def structured_prototypes(self, support: Tensor, mask: Tensor | None = None, order: Tensor | None = None) -> Tensor:
        """A map for every class that tells the support apart (section 3.4): [E, N, K, c, h, w] to [E, N, c, h, w].

        `order`, [epochs, N K], says in which order pictures are taken, numbered shot by shot, the class fastest; by
        default it is drawn from a fixed seed, so that the same episode has the same prototypes.
        """
        e, n, k = support.shape[:3]
        rate = self.sfc_rate if self.training else self.sfc_test_rate
        if order is None:
            drawn = torch.Generator().manual_seed(0)
            order = torch.stack([torch.randperm(n * k, generator=drawn) for _ in range(self.sfc_epochs)] or [EMPTY])
        with torch.inference_mode(False), torch.enable_grad():
            pictures = support.detach().clone().transpose(1, 2).flatten(1, 2)
            prototypes = mean_of_shots(support.detach().clone(), mask).requires_grad_()
            labels = torch.arange(n, device=support.device).repeat(k)
            there = (
                pictures.new_ones(e, n * k) if mask is None else mask.clone().transpose(1, 2).flatten(1).to(pictures)
            )
            optimiser = torch.optim.SGD([prototypes], lr=rate, momentum=0.9, dampening=self.sfc_dampening)
            for batch in (part for epoch in order.to(support.device) for part in epoch.split(self.sfc_batch or n * k)):
                scores = self.similarity(prototypes, pictures[:, batch]).flatten(0, 1)
                losses = F.cross_entropy(scores, labels[batch].repeat(e), reduction="none").view(e, -1)
                share = there[:, batch] / there[:, batch].sum(1, keepdim=True).clamp(min=1)
                (prototypes.grad,) = torch.autograd.grad((losses * share).sum(), prototypes)
                optimiser.step()
        return prototypes.detach()


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
