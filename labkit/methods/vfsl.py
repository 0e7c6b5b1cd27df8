"""VFSL (Zhang et al., "Variational Few-Shot Learning", ICCV 2019).

Of all methods here this one may be furthest from its paper. It was written from the paper's published description as
known to us, without its text and without any code of it, and there are no numbers of the authors' to hold it to: no
equation is cited, since none could be looked up. What is known of the idea: a class is a distribution and not a single
mean, which few shots place badly; the distribution is inferred by stochastic variational inference; and a query is
classified by the distributions' statistics, without weights of a classifier. All else is assumed here:
    A class has a hidden centre z with the prior N(m, diag p), and its pictures' pooled features x are N(z, s I). A
        network says for each shot how far it is from being the centre, the variances v(x); then q(z | shots) is the
        product of the prior and of N(x_k, diag v(x_k)), by which a class of few or of unsure shots stays near what
        classes are like.
    The loss is E_q log p(label | query, z) - KL(q || prior), the bound, with sampled centres (reparameterised), and
        with m, p, s and v all learned. The weight of the divergence is an option.
    A score is the log-density of the query under its class's distribution, the centre integrated out: log N(x; mean of
        q, variance of q + s).
How the authors trained is not known to us either. Read its row of Table 1 as that of a method like theirs.
"""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Between, Positive
from labkit.methods.base import Method
from labkit.methods.losses import Losses
from labkit.methods.noise import Noise


class VFSL(Method):
    """A distribution for each class, inferred from its shots, in place of a class mean.

    Args:
        spread: s and p at the start, variances of features about their centre and of centres about their prior.
        draws: centres drawn for each class of a training episode.
        divergence_weight: of the divergence in the loss; 1 is the variational bound. The default is ours, and Table 1
            tries both.
    """

    auxiliary_name = "divergence from the prior"
    spread: Positive = 32.0
    draws: Annotated[int, Between(1, 10_000)] = 5
    divergence_weight: float = 0.01

    def build(self) -> None:
        start = math.log(self.spread)
        c = self.channels
        last = nn.Linear(c, c)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        self.log_variance = nn.Sequential(nn.Linear(c, c), nn.ReLU(), last)  # log v, about 0 at first
        self.prior_mean, self.prior_log_variance = nn.Parameter(torch.zeros(c)), nn.Parameter(torch.full((c,), start))
        self.log_spread = nn.Parameter(torch.tensor(start))
        self.noise = Normal()

    def infer(self, shots: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(z | shots): pooled features [E, N, K, c] to twice [E, N, c]."""
        certain = (-self.log_variance(shots)).exp()  # 1 / v
        if mask is not None:
            certain = certain * mask.unsqueeze(-1)
        prior = (-self.prior_log_variance).exp()
        variance = 1 / (prior + certain.sum(2))
        return variance * (prior * self.prior_mean + (certain * shots).sum(2)), variance

    def divergence(self, mean: Tensor, variance: Tensor) -> Tensor:
        """KL(q || prior) of distributions [E, N, c], in nats: [E, N]."""
        apart = (variance + (mean - self.prior_mean).square()) * (-self.prior_log_variance).exp()
        return 0.5 * (apart - 1 + self.prior_log_variance - variance.log()).sum(-1)

    def log_density(self, query: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """log N(x; mean, variance): x [E, Q, c] under distributions [E, N, c] (or variances of one size), [E, Q, N]."""
        apart = (query.unsqueeze(2) - mean.unsqueeze(1)).square() / variance.unsqueeze(1)
        return -0.5 * (apart + (2 * math.pi * variance).log().unsqueeze(1)).sum(-1)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        with torch.autocast(support.device.type, enabled=False):
            mean, variance = self.infer(support.mean((-2, -1)), support_mask)
            return self.log_density(query.mean((-2, -1)), mean, variance + self.log_spread.exp())

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """The variational bound of an episode, for each of its queries: cross-entropy over drawn centres, and KL."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            queries = of_query.mean((-2, -1))
            mean, variance = self.infer(of_support.mean((-2, -1)))
            noise = self.noise.draw(mean, self.draws, *mean.shape[1:])  # [E, L, N, c]
            centres = mean.unsqueeze(1) + variance.sqrt().unsqueeze(1) * noise.to(mean.dtype)
            spread = self.log_spread.exp().expand_as(mean)
            drawn = [self.log_density(queries, z, spread).flatten(0, 1) for z in centres.unbind(1)]
            few_shot = torch.stack([F.cross_entropy(s, labels.flatten()) for s in drawn]).mean()
            auxiliary = self.divergence(mean, variance).sum(1).mean() / labels.shape[1]
            scores = self.log_density(queries, mean, variance + spread)
            return Losses(few_shot + self.divergence_weight * auxiliary, few_shot, auxiliary, scores)


class Normal(Noise):
    """Standard normal numbers that depend on their place, as all `Noise` does."""

    def draw(self, like: Tensor, *shape: int) -> Tensor:
        """Numbers [B, *shape] for a batch `like` [B, ...]."""
        uniform = super().draw(like, *shape)  # multiples of 2^-24 from 0; their middles are never 0 or 1
        return math.sqrt(2) * torch.erfinv(2 * uniform - 1 + 2.0**-24)
