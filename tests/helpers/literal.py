"""The head of the paper in its literal form: every pair of query and class by itself, nothing factorised.

Slow and plain on purpose. The fast form of `labkit.dmf.model` is held to it, forward and in every gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchdiffeq import odeint
from torchvision.ops import deform_conv2d

from labkit.dmf.model import DMF


def literal_dynamic_convolution(x: Tensor, filters: Tensor) -> Tensor:
    """Eq. 3 for one map [c, h, w] and its filters [g, k^2, h, w], one tap at a time."""
    c, h, w = x.shape
    g, taps = filters.shape[:2]
    k = round(taps**0.5)
    padded = F.pad(x, [k // 2] * 4)
    per_channel = filters.repeat_interleave(c // g, dim=0)
    shifted = [padded[:, t // k : t // k + h, t % k : t % k + w] * per_channel[:, t] for t in range(taps)]
    return torch.stack(shifted).sum(0)


def literal_alignment(x: Tensor, filters: Tensor, model: DMF) -> Tensor:
    """X_q aligned with one class: the full map goes through the solver."""
    rule = model.rule

    def field(_: object, state: Tensor) -> Tensor:
        y = literal_dynamic_convolution(state, filters)
        return y.relu() if model.choices.relu else y

    clock = torch.tensor([0.0, 1.0], dtype=x.dtype)
    if rule.name == "none":
        return x
    if rule.name in ("recurrent", "euler"):
        for _ in range(rule.steps):
            x = x + field(None, x) / (rule.steps if rule.name == "euler" else 1)
        return x
    if rule.name == "rk4":
        return odeint(field, x, clock, method="rk4", options={"step_size": 1.0})[-1]
    return odeint(field, x, clock, method="dopri5", rtol=1e-11, atol=1e-11)[-1]


def literal_pair(x_supp: Tensor, x_q: Tensor, model: DMF) -> dict[str, Tensor]:
    """Offsets [18, h, w], filter [g, k^2, h, w], aligned [c, h, w] and score map of one class and one query."""
    choices = model.choices
    pair = (x_supp, x_q) if choices.offset_input == "support-query" else (x_q, x_supp)
    offsets = F.conv2d(torch.cat(pair)[None], model.offset_conv.weight, padding=2)
    if not choices.sampling:
        offsets = offsets * 0
    filters = deform_conv2d(x_supp[None], offsets, model.filter_conv.weight, padding=1).sigmoid()[0]
    filters = filters.unflatten(0, (model.groups, choices.kernel**2))
    aligned = literal_alignment(x_q, filters, model)
    pooled = F.normalize(x_supp, dim=0) if choices.class_weight == "normalised" else x_supp
    weight = pooled.mean((1, 2)) * choices.score_scale
    score_map = F.conv2d(aligned[None], weight.view(1, -1, 1, 1), padding=int(choices.border))[0, 0]
    return {"offsets": offsets[0], "filters": filters, "aligned": aligned, "score_map": score_map}


def literal_head(support: Tensor, query: Tensor, model: DMF) -> dict[str, Tensor]:
    """Every intermediate for features [E, N, K, c, h, w] and [E, Q, c, h, w], leading [E, Q, N]."""
    of_pairs = [
        [[literal_pair(shots.mean(0), x_q, model) for shots in support_of] for x_q in queries_of]
        for support_of, queries_of in zip(support, query, strict=True)
    ]
    names = of_pairs[0][0][0]
    return {
        name: torch.stack([torch.stack([torch.stack([p[name] for p in row]) for row in rows]) for rows in of_pairs])
        for name in names
    }
