"""Dynamic Meta-Filter (Xu et al., CVPR 2021), section 4, in the paper's order and symbols.

Shapes use E episodes, N classes (way), K shots, Q queries (of all classes together), c channels in g groups, feature
maps of h x w cells, kernel size k. X_supp is a class's mean support map, X_q a query's map.

The literal form makes an offset, a filter and an aligned map for every pair of query and class. Here the same numbers
come from two identities, so the pairs are met only in g channels instead of c:

* the offset convolution over X_supp || X_q (Eq. 4) is linear: conv(X_supp) + conv(X_q), N + Q convolutions;
* sampling is linear too, so psi may come first: each of its 9 taps projects X_supp to g k^2 channels once a class, and
  the filter is the sum of the nine projections, each sampled at its own point (Eq. 5-6).

At k = 1 the alignment multiplies each channel by a gain that its group shares, and the meta-classifier's dot product
moves inside: score = sum over groups of gain x (class weight . X_q), so no aligned map is ever made.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit import alignment
from labkit.backbones import Conv4, ResNet12
from labkit.choices import PRESETS, replace_choices
from labkit.preprocessing import Preprocessing
from labkit.sampling import TAPS, dynamic_convolution, regular_grid, sample
from labkit.trace import Trace

PAIR_BYTES = 256 * 2**20  # of one tensor over pairs of query and class, where no gradient is kept; some five exist


@dataclass(frozen=True)
class Losses:
    """Eq. 10: `total` is the weighted sum of `few_shot` and `globally`; `scores` [E, Q, N] serve the accuracy."""

    total: Tensor
    few_shot: Tensor
    globally: Tensor
    scores: Tensor


class DMF(nn.Module):
    """The network of Fig. 2: backbone, dynamic meta-filter, alignment, meta-classifier, global classifier.

    Args:
        backbone: ``"resnet12"``, ``"conv4"``, or a module from [B, 3, h, w] to [B, c, h', w'].
        groups: g; divides c.
        preset: ``"paper"`` or ``"released"``.
        classes: base classes of the global classifier.
        backbone_options: passed to a backbone given by name, for example ``{"width": 0.25}``.
        changes: fields of `Choices` that differ from the preset.

    Raises:
        ValueError: groups that do not divide the channels, unknown names, impossible choices.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet12",
        groups: int = 64,
        preset: str = "paper",
        *,
        classes: int = 64,
        backbone_options: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {preset!r}")
        self.choices = replace_choices(PRESETS[preset], changes)
        self.rule = alignment.parse_rule(self.choices.alignment, self.choices.rtol, self.choices.atol)
        self.backbone_name = backbone if isinstance(backbone, str) else None
        self.backbone_options = dict(backbone_options or {})
        self.backbone = _make_backbone(backbone, self.backbone_options)
        c = channels_of(self.backbone)
        if groups < 1 or c % groups:
            divisors = [d for d in range(1, c + 1) if c % d == 0]
            raise ValueError(f"groups must divide the backbone's {c} channels: one of {divisors}, got {groups}")
        self.groups, self.classes, self.preset = groups, classes, preset
        self.preprocessing: Preprocessing | None = None  # set by training: what its images were
        # eta of Eq. 4 and psi of Eq. 2 and 6; no biases, as released.
        self.offset_conv = nn.Conv2d(2 * c, 2 * TAPS, 5, padding=2, bias=False)
        self.filter_conv = nn.Conv2d(c, groups * self.choices.kernel**2, 3, padding=1, bias=False)
        self.global_classifier = nn.Conv2d(c, classes, 1)
        with torch.no_grad():
            self.offset_conv.weight *= self.choices.offset_scale

    def recipe(self) -> dict[str, Any]:
        """Keyword arguments, in JSON types, that build this model again without its weights.

        Raises:
            ValueError: the backbone was given as a module, which no file of ours can describe.
        """
        if self.backbone_name is None:
            raise ValueError("only a model whose backbone was given by name can be described in a file")
        return {
            "backbone": self.backbone_name,
            "groups": self.groups,
            "preset": self.preset,
            "classes": self.classes,
            "backbone_options": self.backbone_options,
        } | {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.choices).items()}

    def variant(self, **changes: Any) -> DMF:
        """This model, sharing its weights, with other `Choices` that need no other weights, in the same mode.

        Raises:
            ValueError: unknown or impossible choices, or another kernel, which has other weights.
        """
        choices = replace_choices(self.choices, changes)
        if choices.kernel != self.choices.kernel:
            raise ValueError(
                f"a kernel of {choices.kernel} needs other weights than this model's {self.choices.kernel}"
            )
        other = copy.copy(self)
        other.choices, other.rule = choices, alignment.parse_rule(choices.alignment, choices.rtol, choices.atol)
        return other

    # Every method offers embed, score, loss, and forward made of them.

    def embed(self, images: Tensor) -> Tensor:
        """f_emb: normalised images [..., 3, H, W] to feature maps [..., c, h, w], in single precision at least."""
        lead = images.shape[:-3]
        flat = images.reshape(-1, *images.shape[-3:]).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(flat)
        if features.dtype in (torch.bfloat16, torch.float16):
            features = features.float()
        return features.view(*lead, *features.shape[-3:])

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Similarity of every query to every class: features [E, N, K, c, h, w], [E, Q, c, h, w] to [E, Q, N]."""
        with torch.autocast(support.device.type, enabled=False):
            x_supp = mean_of_shots(support, support_mask)
            parts = query.split(self._queries_at_once(x_supp, query), dim=1)
            maps = [self.score_maps(x_supp, x_q, self._filters_if_used(x_supp, x_q)) for x_q in parts]
            return torch.cat([m.mean((-2, -1)) for m in maps], dim=1)

    def _queries_at_once(self, x_supp: Tensor, query: Tensor) -> int:
        """How many queries to score together: as many as fit `PAIR_BYTES`, and all where a gradient is wanted.

        dopri5 chooses its steps for an episode as a whole, so it is given the whole.
        """
        if torch.is_grad_enabled() or self.rule.name == "dopri5":
            return query.shape[1]
        channels = self.groups if self.choices.kernel == 1 else query.shape[2] * self.choices.kernel**2
        of_a_query = x_supp.shape[:2].numel() * channels * query.shape[-2:].numel() * query.element_size()
        return max(1, PAIR_BYTES // of_a_query)

    def forward(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scores [E, Q, N] of normalised images, support [E, N, K, 3, H, W] and query [E, Q, 3, H, W].

        `support_mask`, bool [E, N, K], marks the shots that exist where classes have unequal numbers.
        """
        return self.score(*self._embed_together(support, query), support_mask)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 10 on images, as `forward` takes them.

        `labels` [E, Q] say which of the N classes a query belongs to, `base_labels` [E, Q] which of the base classes.
        """
        with_shots, x_q = self._embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            x_supp = mean_of_shots(with_shots)
            filters = self._filters_if_used(x_supp, x_q)
            maps = self.score_maps(x_supp, x_q, filters)
            few_shot = few_shot_loss(maps, labels, self.choices.few_shot_loss)
            read = x_q
            if filters is not None and self.choices.global_reads == "aligned":
                read = self._aligned_with_own_class(x_q, filters, labels)
            logits = self.global_classifier(read.flatten(0, 1))
            target = base_labels.flatten()[:, None, None].expand(-1, *logits.shape[-2:])
            globally = F.cross_entropy(logits, target)
            weights = self.choices.loss_weights
            return Losses(weights[0] * few_shot + weights[1] * globally, few_shot, globally, maps.mean((-2, -1)))

    # Section 4.2.

    def offsets(self, x_supp: Tensor, x_q: Tensor) -> Tensor:
        """M = f_eta(X_supp || X_q), Eq. 4, as (dy, dx) in feature cells: [E, Q, N, 9, 2, h, w]."""
        (e, n), (q, (h, w)) = x_supp.shape[:2], (x_q.shape[1], x_q.shape[-2:])
        if not self.choices.sampling:
            return x_q.new_zeros(()).expand(e, q, n, TAPS, 2, h, w)
        first, second = self.offset_conv.weight.chunk(2, dim=1)
        of_supp, of_q = (first, second) if self.choices.offset_input == "support-query" else (second, first)
        from_supp = F.conv2d(x_supp.flatten(0, 1), of_supp, padding=2).view(e, 1, n, TAPS, 2, h, w)
        from_q = F.conv2d(x_q.flatten(0, 1), of_q, padding=2).view(e, q, 1, TAPS, 2, h, w)
        return from_supp + from_q

    def filters(self, x_supp: Tensor, x_q: Tensor) -> Tensor:
        """f_d = sigma(psi * B_3(X_supp)), Eq. 6 (Eq. 2 without sampling): [E, Q, N, g, k^2, h, w].

        Without sampling the filter is the same for every query, and the second dimension is 1.
        """
        e, n, c, h, w = x_supp.shape
        psi = self.filter_conv.weight
        if not self.choices.sampling:
            responses = F.conv2d(x_supp.flatten(0, 1), psi, padding=1).view(e, 1, n, -1, h, w)
        else:
            by_tap = psi.permute(2, 3, 0, 1).reshape(-1, c, 1, 1)
            projected = F.conv2d(x_supp.flatten(0, 1), by_tap).view(e * n, TAPS, -1, h, w)
            points = self.offsets(x_supp, x_q).transpose(1, 2).flatten(0, 1) + regular_grid(h, w, x_supp)
            responses = sample(projected, points).view(e, n, -1, *projected.shape[2:]).transpose(1, 2)
        filters: Tensor = responses.sigmoid().unflatten(3, (self.groups, self.choices.kernel**2))
        return filters

    def _filters_if_used(self, x_supp: Tensor, x_q: Tensor) -> Tensor | None:
        return None if self.rule.name == "none" else self.filters(x_supp, x_q)

    def align(self, x_q: Tensor, filters: Tensor) -> tuple[Tensor, list[int]]:
        """X_q aligned with every class, Eq. 7-9: [E, Q, N, c, h, w], and the NFE of each episode.

        Costs N times the memory of X_q; at k = 1 `score_maps` does without.
        """
        e, q, n = x_q.shape[0], x_q.shape[1], filters.shape[2]
        filters = filters.expand(e, q, n, *filters.shape[3:])
        start = x_q.unsqueeze(2).expand(e, q, n, *x_q.shape[2:])
        if self.choices.kernel == 1:
            gain, nfe = alignment.gain(filters, self.rule)
            grown = dynamic_convolution(start.contiguous(), gain)
            return torch.where(start > 0, grown, start) if self.choices.relu else grown, nfe
        solved = [self._integrate(start[i], filters[i]) for i in range(e)]
        return torch.stack([x for x, _ in solved]), [nfe for _, nfe in solved]

    def _integrate(self, start: Tensor, filters: Tensor) -> tuple[Tensor, int]:
        def field(x: Tensor) -> Tensor:
            y = dynamic_convolution(x, filters)
            return y.relu() if self.choices.relu else y

        return alignment.integrate(field, start, self.rule)

    # Section 4.3.

    def class_weights(self, x_supp: Tensor) -> Tensor:
        """The meta-classifier's weights, X_supp pooled over positions: [E, N, c]."""
        if self.choices.class_weight == "normalised":
            x_supp = F.normalize(x_supp, dim=2)
        return x_supp.mean((-2, -1))

    def score_maps(self, x_supp: Tensor, x_q: Tensor, filters: Tensor | None) -> Tensor:
        """X tilde: the meta-classifier on the aligned query, [E, Q, N, h, w] (border included); no filters, X_q."""
        weights = self.class_weights(x_supp)
        if filters is None:
            maps = torch.einsum("eqchw,enc->eqnhw", x_q, weights)
        elif self.choices.kernel > 1:
            maps = torch.einsum("eqnchw,enc->eqnhw", self.align(x_q, filters)[0], weights)
        else:
            gain, _ = alignment.gain(filters.squeeze(4), self.rule)
            grouped = x_q.unflatten(2, (self.groups, -1))
            weights_by_group = weights.unflatten(2, (self.groups, -1))
            growing = grouped.relu() if self.choices.relu else grouped
            maps = (gain * torch.einsum("eqgdhw,engd->eqnghw", growing, weights_by_group)).sum(3)
            if self.choices.relu:  # negative features do not grow: F(X) = relu(f X) = 0 there
                maps = maps + torch.einsum("eqchw,enc->eqnhw", x_q.clamp(max=0), weights)
        return self._finish(maps)

    def _finish(self, maps: Tensor) -> Tensor:
        maps = maps * self.choices.score_scale
        return F.pad(maps, (1, 1, 1, 1)) if self.choices.border else maps

    def _aligned_with_own_class(self, x_q: Tensor, filters: Tensor, labels: Tensor) -> Tensor:
        """X_q aligned with the class it belongs to, which the global classifier reads: [E, Q, c, h, w]."""
        own = labels[:, :, None, None, None, None, None].expand(-1, -1, 1, *filters.shape[3:])
        chosen = filters.expand(-1, x_q.shape[1], *filters.shape[2:]).gather(2, own)
        return self.align(x_q, chosen)[0].squeeze(2)

    def _embed_together(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both, episode after episode, so that in training batch normalisation sees them together."""
        n, k = support.shape[1:3]
        features = self.embed(torch.cat([support.flatten(1, 2), query], dim=1))
        of_support, of_query = features.split([n * k, query.shape[1]], dim=1)
        return of_support.unflatten(1, (n, k)), of_query

    @torch.no_grad()
    def trace(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Trace:
        """Run `forward` and keep everything; see `Trace`. Images as `forward` takes them."""
        with_shots, x_q = self._embed_together(support, query)
        x_supp = mean_of_shots(with_shots, support_mask)
        h, w = x_q.shape[-2:]
        offsets = self.offsets(x_supp, x_q)
        points = offsets + regular_grid(h, w, x_q)
        filters = self.filters(x_supp, x_q)
        filters = filters.expand(-1, x_q.shape[1], *filters.shape[2:])
        aligned, nfe = self.align(x_q, filters)
        weights = self.class_weights(x_supp)
        maps = self._finish(torch.einsum("eqnchw,enc->eqnhw", aligned, weights))
        before = self._finish(torch.einsum("eqchw,enc->eqnhw", x_q, weights))
        stride = getattr(self.backbone, "stride", None) or query.shape[-1] / w
        points_px = stride * points + (stride - 1) / 2
        return Trace(x_supp, x_q, offsets, points, points_px, filters, aligned, maps, before, maps.mean((-2, -1)), nfe)


def mean_of_shots(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """X_supp of each class, the mean over its shots: [E, N, K, c, h, w] to [E, N, c, h, w]."""
    if mask is None:
        return features.mean(2)
    weights = mask.to(features.dtype)[..., None, None, None]
    return (features * weights).sum(2) / weights.sum(2)


def few_shot_loss(maps: Tensor, labels: Tensor, form: str = "softmax") -> Tensor:
    """The few-shot loss over all positions of the score maps.

    Eq. 12 reads log(e^-x / sum (1 + e^-x)), with x the score of the true class: raising a score lowers it without
    bound. ``"softmax"`` is what is meant (and released): -log(e^x / sum e^x) at every position.

    Args:
        maps: [E, Q, N, h, w].
        labels: [E, Q], true class of each query.
        form: ``"softmax"`` or ``"printed"``.
    """
    flat = maps.flatten(0, 1)
    target = labels.flatten()[:, None, None].expand(-1, *flat.shape[-2:])
    if form == "softmax":
        return F.cross_entropy(flat, target)
    true = flat.gather(1, target.unsqueeze(1)).squeeze(1)
    return (-true - torch.logsumexp(F.softplus(-flat), dim=1)).mean()  # 1 + e^-x = exp(softplus(-x))


def channels_of(backbone: nn.Module) -> int:
    """Channels of a backbone's feature maps: its `channels`, or found by passing one image through.

    Raises:
        ValueError: it does not give feature maps [B, c, h, w].
    """
    known = getattr(backbone, "channels", None)
    if isinstance(known, int):
        return known
    mode = backbone.training
    with torch.no_grad():
        parameter = next(backbone.parameters(), torch.zeros(()))
        out = backbone.eval()(torch.zeros(1, 3, 84, 84, dtype=parameter.dtype, device=parameter.device))
    backbone.train(mode)
    if not isinstance(out, Tensor) or out.ndim != 4:
        shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"a backbone must give feature maps [B, c, h, w]; this one gives {shape}")
    return int(out.shape[1])


def _make_backbone(backbone: str | nn.Module, options: dict[str, Any]) -> nn.Module:
    if isinstance(backbone, nn.Module):
        if options:
            raise ValueError("backbone_options go with a backbone given by name")
        return backbone
    known: dict[str, type[nn.Module]] = {"resnet12": ResNet12, "conv4": Conv4}
    if backbone not in known:
        raise ValueError(f"backbone must be one of {sorted(known)} or a module, got {backbone!r}")
    return known[backbone](**options)
