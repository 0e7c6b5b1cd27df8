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
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common import checks
from labkit.dmf import alignment
from labkit.dmf.options import PRESETS, replace_choices
from labkit.dmf.sampling import TAPS, best_match, dynamic_convolution, of_pairs, regular_grid, sample
from labkit.dmf.trace import Trace
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.cells import Cells
from labkit.methods.losses import Losses, at_every_position, few_shot_loss

PAIR_BYTES = 256 * 2**20  # of one tensor over pairs of query and class, where no gradient is kept; some five exist

# Section 5.1 and the released code: 95 epochs of 300 steps. Groups are 64 at one shot and 160 at five.
_EPISODES = {"steps": 95 * 300, "warmup": 5 * 300, "size": 4, "way": 5, "query": 6, "learning_rate": 0.35}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_EPISODES | {"shot": shot}], {"groups": groups}) for shot, groups in ((1, 64), (5, 160))
}


class DMF(Method):
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

    auxiliary_name = "global classification, Eq. 11"
    authors_training: ClassVar = AUTHORS_TRAINING

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
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {preset!r}")
        choices = replace_choices(PRESETS[preset], checks.plain(changes))
        super().__init__(backbone, classes=classes, backbone_options=backbone_options)
        self.choices, self.preset = choices, preset
        self.rule = alignment.parse_rule(self.choices.alignment, self.choices.rtol, self.choices.atol)
        c = self.channels
        groups = checks.check_int("groups", groups)
        if c % groups:
            divisors = [d for d in range(1, c + 1) if c % d == 0]
            raise ValueError(f"groups must divide the backbone's {c} channels: one of {divisors}, got {groups}")
        self.groups = groups
        # eta of Eq. 4 and psi of Eq. 2 and 6; no biases, as released.
        self.offset_conv = nn.Conv2d(2 * c, 2 * TAPS, 5, padding=2, bias=False)
        self.filter_conv = nn.Conv2d(c, groups * self.choices.kernel**2, 3, padding=1, bias=False)
        self.global_classifier = nn.Conv2d(c, self.classes, 1)
        with torch.no_grad():
            self.offset_conv.weight *= self.choices.offset_scale

    def recipe(self) -> dict[str, Any]:
        choices = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.choices).items()}
        return super().recipe() | {"groups": self.groups, "preset": self.preset} | choices

    def variant(self, **changes: Any) -> DMF:
        """This model, sharing its weights, with other `Choices` that need no other weights, in the same mode.

        Raises:
            ValueError: unknown or impossible choices, or another kernel, which has other weights.
        """
        choices = replace_choices(self.choices, checks.plain(changes))
        if choices.kernel != self.choices.kernel:
            raise ValueError(
                f"a kernel of {choices.kernel} needs other weights than this model's {self.choices.kernel}"
            )
        other = copy.copy(self)
        other.choices, other.rule = choices, alignment.parse_rule(choices.alignment, choices.rtol, choices.atol)
        return other

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        with torch.autocast(support.device.type, enabled=False):
            x_supp = mean_of_shots(support, support_mask)
            parts = query.split(self.queries_at_once(x_supp, query), dim=1)
            maps = [self.score_maps(x_supp, x_q, self._filters_if_used(x_supp, x_q)) for x_q in parts]
            return torch.cat([m.mean((-2, -1)) for m in maps], dim=1)

    def queries_at_once(self, x_supp: Tensor, query: Tensor) -> int:
        """How many queries to score together: as many as fit `PAIR_BYTES`, and all where a gradient is wanted.

        dopri5 chooses its steps for an episode as a whole, so it is given the whole.
        """
        if torch.is_grad_enabled() or self.rule.name == "dopri5":
            return query.shape[1]
        channels = self.groups if self.choices.kernel == 1 else query.shape[2] * self.choices.kernel**2
        of_a_query = x_supp.shape[:2].numel() * channels * query.shape[-2:].numel() * query.element_size()
        return max(1, PAIR_BYTES // of_a_query)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Eq. 10; see `Method.loss`."""
        with_shots, x_q = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            x_supp = mean_of_shots(with_shots)
            filters = self._filters_if_used(x_supp, x_q)
            maps = self.score_maps(x_supp, x_q, filters)
            few_shot = few_shot_loss(maps, labels, self.choices.few_shot_loss)
            read = x_q
            if filters is not None and self.choices.global_reads == "aligned":
                read = self.align_with_own_class(x_q, filters, labels)
            logits = self.global_classifier(read.flatten(0, 1))
            auxiliary = F.cross_entropy(logits, at_every_position(base_labels, logits))
            weights = self.choices.loss_weights
            return Losses(weights[0] * few_shot + weights[1] * auxiliary, few_shot, auxiliary, maps.mean((-2, -1)))

    # Section 4.2.

    def offsets(self, x_supp: Tensor, x_q: Tensor, eta: Tensor | None = None) -> Tensor:
        """M = f_eta(X_supp || X_q), Eq. 4, as (dy, dx) in feature cells: [E, Q, N, 9, 2, h, w].

        By other weights `eta` [18, 2 c, 5, 5] than the model's own, if they are given.
        """
        (e, n), (q, (h, w)) = x_supp.shape[:2], (x_q.shape[1], x_q.shape[-2:])
        if not self.choices.sampling:
            return x_q.new_zeros(()).expand(e, q, n, TAPS, 2, h, w)
        halves = (self.offset_conv.weight if eta is None else eta).chunk(2, dim=1)
        of_supp, of_q = halves if self.choices.offset_input == "support-query" else halves[::-1]
        offsets: Tensor = of_pairs(x_supp, x_q, of_supp, of_q).unflatten(3, (TAPS, 2))
        return offsets

    def starts(self, x_supp: Tensor, x_q: Tensor) -> Tensor:
        """B_3, the 3 x 3 cells from which the offsets lead: [E, Q, N, 9, 2, h, w], some of E, Q, N perhaps 1.

        Around the query's own cell, or around the support cell most like it.
        """
        h, w = x_q.shape[-2:]
        grid = regular_grid(h, w, x_q)
        if self.choices.start == "same":
            return grid[None, None, None]
        at = best_match(x_supp, x_q)
        return torch.stack([at // w, at % w], 3).unsqueeze(3) + (grid - grid[4])

    def filters(self, x_supp: Tensor, x_q: Tensor, points: Tensor | None = None) -> Tensor:
        """f_d = sigma(psi * B_3(X_supp)), Eq. 6 (Eq. 2 without sampling): [E, Q, N, g, k^2, h, w].

        Without sampling the filter is the same for every query, and the second dimension is 1. Other `points` than
        the learned ones, (y, x) in feature cells [E, Q, N, 9, 2, h, w], answer what would be if it looked elsewhere.

        Raises:
            TypeError: points that are no tensor.
            ValueError: points of another shape, or that are not finite.
        """
        (e, n, _, h, w), psi = x_supp.shape, self.filter_conv.weight
        if points is not None:
            checks.points(points, (e, x_q.shape[1], n, TAPS, 2, h, w))
            points = points.to(x_supp)
        with torch.autocast(x_supp.device.type, enabled=False):
            if points is None and not self.choices.sampling:
                responses = F.conv2d(x_supp.flatten(0, 1), psi, padding=1).view(e, 1, n, -1, h, w)
            else:
                if points is None:
                    points = self.starts(x_supp, x_q) + self.offsets(x_supp, x_q)
                by_class = points.transpose(1, 2).flatten(0, 1)
                responses = sample(self.projected(x_supp).flatten(0, 1), by_class).unflatten(0, (e, n)).transpose(1, 2)
            filters: Tensor = responses.sigmoid().unflatten(3, (self.groups, self.choices.kernel**2))
        return filters

    def projected(self, x_supp: Tensor) -> Tensor:
        """What each of psi's nine taps makes of every support cell: [E, N, 9, g k^2, h, w].

        A filter, before its sigmoid, is the sum of the nine, each sampled at its own point (Eq. 5-6).
        """
        by_tap = self.filter_conv.weight.permute(2, 3, 0, 1).reshape(-1, x_supp.shape[2], 1, 1)
        each: Tensor = F.conv2d(x_supp.flatten(0, 1), by_tap)
        return each.view(*x_supp.shape[:2], TAPS, -1, *x_supp.shape[-2:])

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

    def align_with_own_class(self, x_q: Tensor, filters: Tensor, labels: Tensor) -> Tensor:
        """X_q aligned with the class it belongs to, which the global classifier reads: [E, Q, c, h, w]."""
        own = labels[:, :, None, None, None, None, None].expand(-1, -1, 1, *filters.shape[3:])
        chosen = filters.expand(-1, x_q.shape[1], *filters.shape[2:]).gather(2, own)
        return self.align(x_q, chosen)[0].squeeze(2)

    @torch.no_grad()
    def trace(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Trace:
        """Run `forward` and keep everything; see `Trace`. Images as `forward` takes them."""
        with_shots, x_q = self.embed_together(support, query)
        checks.mask(support_mask, support)
        with torch.autocast(x_q.device.type, enabled=False):
            return self._trace(mean_of_shots(with_shots, support_mask), x_q)

    def _trace(self, x_supp: Tensor, x_q: Tensor) -> Trace:
        offsets = self.offsets(x_supp, x_q)
        points = self.starts(x_supp, x_q) + offsets
        filters = self.filters(x_supp, x_q)
        filters = filters.expand(-1, x_q.shape[1], *filters.shape[2:])
        aligned, nfe = self.align(x_q, filters)
        weights = self.class_weights(x_supp)
        maps = self._finish(torch.einsum("eqnchw,enc->eqnhw", aligned, weights))
        before = self._finish(torch.einsum("eqchw,enc->eqnhw", x_q, weights))
        points_px = Cells.of(self).to_pixels(points)
        return Trace(x_supp, x_q, offsets, points, points_px, filters, aligned, maps, before, maps.mean((-2, -1)), nfe)
