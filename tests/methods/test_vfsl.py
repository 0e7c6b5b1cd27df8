"""VFSL against closed forms, numerical integrals and Monte Carlo: it has no code of its authors to be held to."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from labkit.methods.noise import set_keys
from labkit.methods.vfsl import VFSL
from tests.helpers.features import Features, random_maps

E, N, K, Q, C = 2, 3, 2, 4, 3
LABELS = torch.tensor([[0, 1, 2, 0], [2, 0, 1, 1]])


def maps() -> tuple[Tensor, Tensor]:
    return random_maps(E, N, K, Q, C)


def made(**options: float) -> VFSL:
    """A model whose every weight is away from its start."""
    torch.manual_seed(0)
    model = VFSL(Features(C), **{"spread": 0.7} | options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_the_posterior_is_prior_times_shots_on_a_grid() -> None:
    model, (support, _) = made(), maps()
    shots = support.mean((-2, -1))
    with torch.no_grad():
        mean, variance = model.infer(shots)
        v = model.log_variance(shots).exp()
        z = np.linspace(-12, 12, 40001)
        for e, n, c in np.ndindex(E, N, C):
            centre, p = float(model.prior_mean[c]), float(model.prior_log_variance[c].exp())
            density = np.exp(-((z - centre) ** 2) / (2 * p))
            for k in range(K):
                density *= np.exp(-((z - float(shots[e, n, k, c])) ** 2) / (2 * float(v[e, n, k, c])))
            density /= density.sum()
            middle = (z * density).sum()
            assert float(mean[e, n, c]) == pytest.approx(middle, abs=1e-8)
            assert float(variance[e, n, c]) == pytest.approx((density * (z - middle) ** 2).sum(), rel=1e-6)


def test_the_divergence_is_that_of_torch() -> None:
    model, (support, _) = made(), maps()
    with torch.no_grad():
        mean, variance = model.infer(support.mean((-2, -1)))
        prior = Normal(model.prior_mean, (0.5 * model.prior_log_variance).exp())
        expected = kl_divergence(Normal(mean, variance.sqrt()), prior).sum(-1)
        torch.testing.assert_close(model.divergence(mean, variance), expected)


def test_a_score_is_a_density_with_the_centre_integrated_out() -> None:
    """Monte Carlo over centres, to within five of its standard errors."""
    model, (support, query) = made(), maps()
    with torch.no_grad():
        scores = model.score(support, query)
        mean, variance = model.infer(support.mean((-2, -1)))
        z = mean + variance.sqrt() * torch.randn(200_000, E, N, C).double()
        x, s = query.mean((-2, -1)), float(model.log_spread.exp())
        for e, q, n in np.ndindex(E, Q, N):
            given = MultivariateNormal(torch.zeros(C).double(), s * torch.eye(C).double())
            density = given.log_prob(x[e, q] - z[:, e, n]).exp()
            error = float(density.std() / len(density) ** 0.5)
            assert math.exp(float(scores[e, q, n])) == pytest.approx(float(density.mean()), abs=5 * error)
            assert error < 0.01 * float(density.mean())


def test_the_loss_is_the_bound_of_its_draws() -> None:
    model, (support, query) = made(draws=3, divergence_weight=0.5), maps()
    set_keys(model, [(0, 1), (0, 2)])
    with torch.no_grad():
        losses = model.loss(support, query, LABELS, LABELS)
        mean, variance = model.infer(support.mean((-2, -1)))
        noise = model.noise.draw(mean, 3, N, C)
        x, s = query.mean((-2, -1)), float(model.log_spread.exp())
        terms = []
        for e, draw, q in np.ndindex(E, 3, Q):
            centres = mean[e] + variance[e].sqrt() * noise[e, draw]
            logits = -(x[e, q] - centres).square().sum(-1) / (2 * s)
            terms.append(F.cross_entropy(logits, LABELS[e, q]))
        torch.testing.assert_close(losses.few_shot, torch.stack(terms).mean())
        torch.testing.assert_close(losses.auxiliary, model.divergence(mean, variance).sum() / (E * Q))
        torch.testing.assert_close(losses.total, losses.few_shot + 0.5 * losses.auxiliary)
        torch.testing.assert_close(losses.scores, model.score(support, query))


def test_its_bound_lies_below_the_likelihood_it_bounds() -> None:
    """Jensen: -E log p(y | x, z) is at least -log E p(y | x, z), with the same many draws."""
    model, (support, query) = made(draws=1000), maps()
    set_keys(model, [(0, 1), (0, 2)])
    with torch.no_grad():
        mean, variance = model.infer(support.mean((-2, -1)))
        z = mean.unsqueeze(1) + variance.sqrt().unsqueeze(1) * model.noise.draw(mean, 1000, N, C)
        x, s = query.mean((-2, -1)), model.log_spread.exp()
        logits = -(x[:, None, :, None] - z[:, :, None]).square().sum(-1) / (2 * s)  # [E, L, Q, N]
        own = logits.softmax(-1).gather(-1, LABELS[:, None, :, None].expand(-1, 1000, -1, -1))
        likelihood = -own.mean(1).log().mean()
        assert model.loss(support, query, LABELS, LABELS).few_shot > likelihood


def test_unsure_shots_and_missing_ones_leave_a_class_at_the_prior() -> None:
    model, (support, _) = made(), maps()
    with torch.no_grad():
        model.log_variance[2].bias.fill_(40.0)
        mean, variance = model.infer(support.mean((-2, -1)))
        torch.testing.assert_close(mean, model.prior_mean.expand_as(mean))
        torch.testing.assert_close(variance, model.prior_log_variance.exp().expand_as(variance))


def test_its_noise_is_normal_and_of_its_episode() -> None:
    model = made()
    set_keys(model, [(0, 1), (0, 2)])
    both = model.noise.draw(torch.zeros(2, 1), 500, 100)
    assert torch.isfinite(both).all()
    assert abs(both.mean()) < 5 / 100_000**0.5
    assert both.std() == pytest.approx(1, abs=5 / 200_000**0.5)
    assert (both.abs() < 1.96).float().mean() == pytest.approx(0.95, abs=0.004)
    set_keys(model, [(0, 2)])
    assert torch.equal(model.noise.draw(torch.zeros(1, 1), 500, 100)[0], both[1])
