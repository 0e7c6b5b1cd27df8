"""DMF as the released code computes it: every pair of query and class by itself, all pairs in one batch.

The baseline of every comparison of speed. It works on whole tensors, without loops over pairs, with the kernels of
torch and torchvision, in float32 and NCHW. It does not use that convolution and sampling are linear, or that the
differential equation has a closed solution at kernel size 1.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchdiffeq import odeint
from torchvision.ops import deform_conv2d

from labkit.dmf.model import DMF
from labkit.methods.losses import Losses, few_shot_loss

SOLVERS: dict[str, dict[str, Any]] = {
    "rk4": {"method": "rk4", "options": {"step_size": 1.0}},
    "dopri5": {"method": "dopri5"},
}


class LiteralDMF(nn.Module):
    """The weights of `model`, in the literal form.

    Args:
        model: its alignment is ``"rk4"``, ``"dopri5"`` or ``"none"``.

    Raises:
        ValueError: another alignment, which the released code has not.
    """

    def __init__(self, model: DMF) -> None:
        super().__init__()
        if model.rule.name not in (*SOLVERS, "none"):
            raise ValueError(f"the released code has no alignment {model.rule}; it has {sorted(SOLVERS)}")
        self.model = model  # shared, not copied: both forms compute with the same weights

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Scores [E, Q, N] of images, as `DMF.forward`; shots are averaged."""
        return self.head(*self.embed(support, query)).mean((-2, -1))

    def embed(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """X_supp [E, N, c, h, w] and X_q [E, Q, c, h, w] of an episode's images, in NCHW memory."""
        together = torch.cat([support.flatten(1, 2), query], dim=1)
        features = self.model.backbone(together.flatten(0, 1).contiguous()).unflatten(0, together.shape[:2])
        of_support, x_q = features.split([support.shape[1:3].numel(), query.shape[1]], dim=1)
        return of_support.unflatten(1, support.shape[1:3]).mean(2), x_q

    def head(self, x_supp: Tensor, x_q: Tensor) -> Tensor:
        """Score maps [E, Q, N, h, w] of X_supp [E, N, c, h, w] and X_q [E, Q, c, h, w], border included."""
        e, n, q = *x_supp.shape[:2], x_q.shape[1]
        supports = x_supp[:, None].expand(e, q, *x_supp.shape[1:]).flatten(0, 2)  # [E Q N, c, h, w]
        queries = x_q[:, :, None].expand(e, q, n, *x_q.shape[2:]).flatten(0, 2)
        choices = self.model.choices
        aligned = queries if self.model.rule.name == "none" else self.align(queries, self.filters(supports, queries))
        pooled = F.normalize(supports, dim=1) if choices.class_weight == "normalised" else supports
        weights = pooled.mean((2, 3), keepdim=True) * choices.score_scale
        # A 1x1 convolution of its own for every pair: as many groups as there are pairs.
        maps = F.conv2d(aligned.flatten(0, 1)[None], weights, padding=int(choices.border), groups=len(aligned))
        return maps.view(e, q, n, *maps.shape[-2:])

    def filters(self, supports: Tensor, queries: Tensor) -> Tensor:
        """f_d of every pair, Eq. 4-6, [P, g k^2, h, w]: an offset and a deformable convolution for each."""
        model = self.model
        pair = (supports, queries) if model.choices.offset_input == "support-query" else (queries, supports)
        offsets = F.conv2d(torch.cat(pair, dim=1), model.offset_conv.weight, padding=2)
        if not model.choices.sampling:
            offsets = torch.zeros_like(offsets)
        filters: Tensor = deform_conv2d(supports, offsets, model.filter_conv.weight, padding=1).sigmoid()
        return filters

    def align(self, queries: Tensor, filters: Tensor) -> Tensor:
        """Eq. 9 on the maps [P, c, h, w] of all pairs at once."""
        model = self.model
        p, c, h, w = queries.shape
        k, g = model.choices.kernel, model.groups
        by_position = filters.view(p, g, k * k, h * w).permute(0, 1, 3, 2).reshape(-1, k * k, 1)

        def field(_: Tensor, x: Tensor) -> Tensor:
            patches = F.unfold(x, k, padding=k // 2).view(p, g, c // g, k * k, h * w)
            product = torch.bmm(patches.permute(0, 1, 4, 2, 3).reshape(-1, c // g, k * k), by_position)
            y = product.view(p, g, h * w, c // g).transpose(2, 3).reshape(p, c, h, w)
            return y.relu() if model.choices.relu else y

        clock = queries.new_tensor([0.0, 1.0])
        solver = SOLVERS[model.rule.name]
        end: Tensor = odeint(field, queries, clock, rtol=model.rule.rtol, atol=model.rule.atol, **solver)[-1]
        return end

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 10 as `DMF.loss` has it, where the global classifier reads the backbone, as released."""
        choices = self.model.choices
        if choices.global_reads != "backbone" and self.model.rule.name != "none":
            raise ValueError("the literal form's global classifier reads the backbone, as the released code's does")
        x_supp, x_q = self.embed(support, query)
        maps = self.head(x_supp, x_q)
        few_shot = few_shot_loss(maps, labels, choices.few_shot_loss)
        logits = self.model.global_classifier(x_q.flatten(0, 1))
        target = base_labels.flatten()[:, None, None].expand(-1, *logits.shape[-2:])
        auxiliary = F.cross_entropy(logits, target)
        weights = choices.loss_weights
        return Losses(weights[0] * few_shot + weights[1] * auxiliary, few_shot, auxiliary, maps.mean((-2, -1)))
