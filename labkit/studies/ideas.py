"""Ideas in the spirit of DMF, each a head of a few lines that `labkit.studies.your_method.try_head` trains.

Each changes one step of `labkit.dmf.model.DMF` and leaves the others as they are; what its methods take and give is as
there. Shapes: E episodes, N classes, Q queries, c channels in g groups, maps of h x w cells.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.dmf import alignment
from labkit.dmf.model import DMF
from labkit.dmf.sampling import TAPS, likeness, of_pairs, regular_grid
from labkit.methods.noise import Noise
from labkit.studies.tables.heads import OF_DMF


class Idea(DMF):
    """DMF in the setting that the tables have on one backbone, and what `own` adds to it.

    Groups of 16, or of the largest number below it that divides the channels.
    """

    setting: ClassVar[dict[str, Any]] = OF_DMF

    def __init__(self, backbone: str | nn.Module = "resnet12", groups: int | None = None, **more: Any) -> None:
        super().__init__(backbone, 1, **OF_DMF | self.setting | more)
        self.groups = math.gcd(16, self.channels) if groups is None else groups
        if self.channels % self.groups:
            raise ValueError(f"groups must divide the backbone's {self.channels} channels, got {self.groups}")
        self.filter_conv = nn.Conv2d(self.channels, self.groups, 3, padding=1, bias=False)
        self.own()

    def own(self) -> None:
        """Make the layers that the idea adds."""


class NormalisedWeights(Idea):
    """Class weights of length 1 with a learned scale: a class must not win because its features are large.

    After cosine classifiers; the query keeps its length, so bright cells count more."""

    def own(self) -> None:
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def class_weights(self, x_supp: Tensor) -> Tensor:
        weights: Tensor = self.log_scale.exp() * F.normalize(super().class_weights(x_supp), dim=-1)
        return weights


class SoftBestMatch(Idea):
    """Sampling starts at the best match, softly: at the mean place of the support's cells, weighed by likeness.

    A hard choice (`start="match"`) jumps between cells; this one has a gradient and a learned sharpness."""

    def own(self) -> None:
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def starts(self, x_supp: Tensor, x_q: Tensor) -> Tensor:
        h, w = x_q.shape[-2:]
        grid = regular_grid(h, w, x_q)  # [9, 2, h, w], tap 4 in the middle
        share = (self.log_sharpness.exp() * likeness(x_supp, x_q)).softmax(-1)
        place: Tensor = torch.einsum("eqnrp,dp->eqndr", share, grid[4].flatten(1)).unflatten(-1, (h, w))
        return place.unsqueeze(3) + (grid - grid[4])


class SeveralOffsets(Idea):
    """Two sets of offsets, and the filter is the mean of what both find: an object has more than one part.

    The second set has an offset convolution of its own."""

    def own(self) -> None:
        self.second = nn.Conv2d(2 * self.channels, 2 * TAPS, 5, padding=2, bias=False)

    def filters(self, x_supp: Tensor, x_q: Tensor, points: Tensor | None = None) -> Tensor:
        found = super().filters(x_supp, x_q, points)
        if points is not None:
            return found
        moved = of_pairs(x_supp, x_q, *self.second.weight.chunk(2, dim=1)).unflatten(3, (TAPS, 2))
        return (found + super().filters(x_supp, x_q, self.starts(x_supp, x_q) + moved)) / 2


class FiltersOfBoth(Idea):
    """Filters from query and support together: what is important depends on what is asked.

    A 1 x 1 convolution of the query is added before the sigmoid; it starts at zero, as DMF."""

    def own(self) -> None:
        self.of_query = nn.Conv2d(self.channels, self.groups, 1)
        nn.init.zeros_(self.of_query.weight)
        nn.init.zeros_(self.of_query.bias)  # type: ignore[arg-type]

    def filters(self, x_supp: Tensor, x_q: Tensor, points: Tensor | None = None) -> Tensor:
        of_query = self.of_query(x_q.flatten(0, 1)).unflatten(0, x_q.shape[:2])
        responses: Tensor = super().filters(x_supp, x_q, points).logit(1e-6) + of_query[:, :, None, :, None]
        return responses.sigmoid()


class BothSides(Idea):
    """Alignment of both sides: the query with every class, and every class with the query, in equal shares.

    The roles are exchanged and the two score maps are averaged; no weights are added."""

    def score_maps(self, x_supp: Tensor, x_q: Tensor, filters: Tensor | None) -> Tensor:
        there = super().score_maps(x_supp, x_q, filters)
        back = super().score_maps(x_q, x_supp, self.filters(x_q, x_supp)).transpose(1, 2)
        return (there + back) / 2


class SignedGain(Idea):
    """A gain with negative values: a filter may turn a group of channels round, where DMF can only let it grow.

    One step with filters between -a and a, a learned and 2 at first; the gain is 1 - a to 1 + a."""

    setting: ClassVar[dict[str, Any]] = {"alignment": "euler(1)"}

    def own(self) -> None:
        self.amplitude = nn.Parameter(torch.tensor(2.0))

    def filters(self, x_supp: Tensor, x_q: Tensor, points: Tensor | None = None) -> Tensor:
        return self.amplitude * (2 * super().filters(x_supp, x_q, points) - 1)


class SupportAgreement(Idea):
    """Positions of the support weighed by their own agreement: cells like the class's mean make its weights.

    Background differs from cell to cell and counts less; the sharpness is learned."""

    def own(self) -> None:
        self.log_sharpness = nn.Parameter(torch.tensor(0.0))

    def class_weights(self, x_supp: Tensor) -> Tensor:
        mean = x_supp.mean((-2, -1), keepdim=True)
        agree = self.log_sharpness.exp() * F.cosine_similarity(x_supp, mean, dim=2).flatten(-2)
        return torch.einsum("encp,enp->enc", x_supp.flatten(-2), agree.softmax(-1))


class QueryAttention(Idea):
    """Positions of the query weighed by how well the class knows them: cells without a match count less.

    The weight is the likeness of the best matching cell of the support, and its mean over cells is one."""

    def own(self) -> None:
        self.log_sharpness = nn.Parameter(torch.tensor(0.0))

    def score_maps(self, x_supp: Tensor, x_q: Tensor, filters: Tensor | None) -> Tensor:
        maps = super().score_maps(x_supp, x_q, filters)
        best = likeness(x_supp, x_q).amax(-1)
        share = (self.log_sharpness.exp() * best).softmax(-1) * best.shape[-1]
        return maps * share.view(maps.shape)


class Contrast(Idea):
    """Class weights minus a learned share of their mean over the episode: what all classes have tells none apart.

    The share starts at a half."""

    def own(self) -> None:
        self.share = nn.Parameter(torch.tensor(0.5))

    def class_weights(self, x_supp: Tensor) -> Tensor:
        weights = super().class_weights(x_supp)
        return weights - self.share * weights.mean(1, keepdim=True)


class CentredCosine(Idea):
    """Angles instead of lengths: a learned centre is taken from both, and the aligned query's length divides its score.

    The gain begins nearly even, so it starts as a cosine without alignment and learns only what is better than that."""

    def own(self) -> None:
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.centre = nn.Parameter(torch.zeros(self.channels, 1, 1))
        with torch.no_grad():
            self.filter_conv.weight *= 0.1

    def score_maps(self, x_supp: Tensor, x_q: Tensor, filters: Tensor | None) -> Tensor:
        if filters is None:
            filters = self.filters(x_supp, x_q)
        shape = (self.groups, -1)
        weights = F.normalize((x_supp - self.centre).mean((-2, -1)), dim=-1).unflatten(2, shape)
        cells = (x_q - self.centre).unflatten(2, shape)
        gain = alignment.gain(filters.squeeze(4), self.rule)[0].expand(-1, x_q.shape[1], *filters.shape[2:4], -1, -1)
        maps = (gain * torch.einsum("eqgdhw,engd->eqnghw", cells, weights)).sum(3)
        aligned = torch.einsum("eqnghw,eqgdhw->eqngd", gain, cells) / maps.shape[-2:].numel()
        length = torch.linalg.vector_norm(aligned, dim=(-2, -1)).clamp(min=1e-6)
        scored: Tensor = self.log_scale.exp() * maps / length[..., None, None]
        return scored


class HiddenChannels(CentredCosine):
    """`CentredCosine`, and in training a third of the channels is hidden, the same of support and query.

    A frozen backbone tells its base classes apart too easily: whole, their maps teach a head little about new ones."""

    hidden = 1 / 3

    def own(self) -> None:
        super().own()
        self.hide = Noise()

    def embed_together(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        of_support, of_query = super().embed_together(support, query)
        if not self.training:
            return of_support, of_query
        kept = (self.hide.draw(of_query, self.channels) >= self.hidden).to(of_query.dtype) / (1 - self.hidden)
        return of_support * kept[:, None, None, :, None, None], of_query * kept[:, None, :, None, None]


class LearnedMetric(CentredCosine):
    """`CentredCosine` after a learned change of the channels, X + W X, of support and query alike.

    W starts at zero; alignment can only weigh groups of channels, and cannot say which of them belong together."""

    def own(self) -> None:
        super().own()
        self.change = nn.Conv2d(self.channels, self.channels, 1, bias=False)
        nn.init.zeros_(self.change.weight)

    def score_maps(self, x_supp: Tensor, x_q: Tensor, filters: Tensor | None) -> Tensor:
        if filters is None:
            filters = self.filters(x_supp, x_q)
        supp, q = (x + self.change(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in (x_supp, x_q))
        return super().score_maps(supp, q, filters)


IDEAS: tuple[type[Idea], ...] = (
    NormalisedWeights,
    SoftBestMatch,
    SeveralOffsets,
    FiltersOfBoth,
    BothSides,
    SignedGain,
    SupportAgreement,
    QueryAttention,
    Contrast,
    CentredCosine,
    HiddenChannels,
    LearnedMetric,
)
