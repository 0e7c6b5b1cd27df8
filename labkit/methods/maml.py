"""MAML (Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017).

Its learner is a network with a linear layer for N classes. An episode trains it by a few steps of gradient descent on
the support, and what is learned over episodes are the weights those steps start from.

The golden numbers are of wyharveychen/CloserLookFewShot, a re-implementation in PyTorch; it takes 5 steps in the test
as well (100 by an option), where the authors take 10.
"""

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Times
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, read_out
from labkit.methods.checked import weights_dtype
from labkit.methods.noise import Noise

Weights = dict[str, Tensor]

# The training of that re-implementation: 100 episodes an epoch, 600 epochs at one shot and 400 at five. It adds the
# losses of four episodes up, where a phase takes their mean; Adam does not mind. Conv4, pooled four times.
_EPISODES = {"size": 4, "way": 5, "query": 16, "schedule": "constant"}
_ADAM = {"optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 0.0}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_EPISODES | _ADAM | {"shot": shot, "steps": steps}])
    for shot, steps in ((1, 15_000), (5, 10_000))
}


class MAML(Method):
    """Weights from which a few steps lead to a classifier of any episode's classes (Eq. 1, Algorithm 2).

    No picture has features without the episode it is in, since all layers are adapted: `embed` gives images back as
    they are, `score` takes images where other methods take features, and evaluation embeds nothing once and for all.

    Dropout is left out, as the authors do.

    Args:
        backbone, classes, backbone_options: see `Method`; it has no global classifier, so `classes` is ignored. The
            backbone's layers of batch normalisation are exchanged, its dropout is removed; a backbone that is given as
            a module is copied first.
        way: N, the one number of classes that it can tell apart; which output a class gets is arbitrary.
        steps, test_steps: of gradient descent on the support, in training and in test.
        inner_rate: alpha, the learning rate of those steps.
        first_order: take the gradient at the adapted weights for that at the first ones (its section 5.2), which
            leaves out the derivative of the steps themselves.
        statistics: of batch normalisation, in training and in test: ``"batch"``, the support's own for the support and
            the queries' own for the queries, as the authors do, so that in the test queries see one another, which
            makes the published numbers better than one query at a time would be; ``"support"``, the support's for both.
        read: what the last layer reads: ``"map"``, the flattened map, as the authors do, or its ``"mean"``.
        cells: h w of the map where it is read flattened.

    Raises:
        ValueError: unknown names.
    """

    authors_training: ClassVar = AUTHORS_TRAINING
    options_before: ClassVar = {"statistics": "support", "read": "mean"}
    way: int = 5
    steps: Times = 5
    test_steps: Times = 10
    inner_rate: float = 0.01
    first_order: bool = False
    statistics: Literal["batch", "support"] = "batch"
    read: Literal["map", "mean"] = "map"
    cells: int = 25

    def build(self) -> None:
        if self.backbone_name is None:
            self.backbone = copy.deepcopy(self.backbone)  # it may be another model's too
        _prepare(self.backbone)
        self.head = nn.Linear(self.channels * (self.cells if self.read == "map" else 1), self.way)

    @property
    def channels_of_maps(self) -> int | None:
        return self.channels_of_images

    def embed(self, images: Tensor) -> Tensor:
        """The images themselves: MAML has no features of a picture alone."""
        dtype = weights_dtype(self)
        return images if dtype is None else images.to(dtype)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # derivatives of derivatives
    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Outputs of the adapted learner: images [E, N, K, 3, H, W], [E, Q, 3, H, W] to [E, Q, N].

        It takes gradients whatever mode it is called in.

        Raises:
            ValueError: another number of classes than it has outputs for, or of cells than its last layer reads.
        """
        e, n, k = support.shape[:3]
        if n != self.way:
            raise ValueError(f"this MAML tells {self.way} classes apart, and was given {n}")
        labels = torch.arange(n, device=support.device).repeat_interleave(k)
        tracked = torch.is_grad_enabled()
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(tracked),
            torch.autocast(support.device.type, enabled=False),
        ):
            # What was made in inference mode cannot be part of a gradient; copies can.
            pictures, queries = (x.clone() if x.is_inference() else x for x in (support.flatten(1, 2), query))
            scores = []
            for i in range(e):
                there = slice(None) if support_mask is None else support_mask[i].flatten()
                scores.append(self._episode(pictures[i][there], labels[there], queries[i]))
            return torch.stack(scores)

    def _episode(self, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
        weights = self.adapt(dict(self.named_parameters()), support, labels)
        if self.statistics == "batch":
            return self.outputs(weights, query, len(query))
        return self.outputs(weights, torch.cat([support, query]), len(support))[len(support) :]

    def adapt(self, weights: Weights, support: Tensor, labels: Tensor) -> Weights:
        """theta' = theta - alpha grad L(theta), as often as there are steps, on one support [M, 3, H, W]."""

        def loss(w: Weights) -> Tensor:
            return F.cross_entropy(self.outputs(w, support, len(support)), labels)

        for _ in range(self.steps if self.training else self.test_steps):
            gradients: Weights = torch.func.grad(loss)(weights)
            if self.first_order:
                gradients = {name: g.detach() for name, g in gradients.items()}
            weights = {name: w - self.inner_rate * gradients[name] for name, w in weights.items()}
        return weights

    def outputs(self, weights: Weights, images: Tensor, support: int) -> Tensor:
        """The learner with other weights than its own, on images normalised by the first `support` of them."""
        for layer in self.modules():
            if isinstance(layer, SupportNorm):
                layer.support = support
        own = {name.removeprefix("backbone."): w for name, w in weights.items() if name.startswith("backbone.")}
        flat = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = torch.func.functional_call(self.backbone, own, (flat,))
        read = read_out(features, self.read)
        if read.shape[-1] != self.head.in_features:
            cells = features.shape[-2] * features.shape[-1]
            raise ValueError(f"this MAML was made for maps of {self.cells} cells, and was given {cells}: set `cells`")
        return F.linear(read, weights["head.weight"], weights["head.bias"])


class SupportNorm(nn.Module):
    """Batch normalisation by the mean and variance of the first `support` images of a batch, for all of them.

    It takes the place of `before`, with its weight and bias.
    """

    support: int | None

    def __init__(self, before: nn.BatchNorm2d) -> None:
        super().__init__()
        ones, zeros = torch.ones(before.num_features), torch.zeros(before.num_features)
        self.weight = nn.Parameter(ones if before.weight is None else before.weight.detach().clone())
        self.bias = nn.Parameter(zeros if before.bias is None else before.bias.detach().clone())
        self.eps, self.support = before.eps, None

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x[: self.support], (0, 2, 3), correction=0, keepdim=True)
        scale = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return (x - mean) * scale + self.bias[:, None, None]


def _prepare(module: nn.Module) -> None:
    """Exchange batch normalisation for `SupportNorm` and take dropout out, at any depth."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SupportNorm(child))
        elif isinstance(child, Noise | nn.Dropout | nn.Dropout2d):
            setattr(module, name, nn.Identity())
        else:
            _prepare(child)
