"""Noise by place: a function of its key alone, uniform, and without memory."""

import numpy as np
import pytest
import torch
from torch import nn

from labkit.methods.backbones import DropBlock, Dropout, ResNet12
from labkit.methods.noise import Noise, set_keys, uniform


def test_a_row_is_a_function_of_its_own_key() -> None:
    keys = torch.tensor([3, -7, 2**31 - 1], dtype=torch.int32)
    together = uniform(keys, 1000)
    for key, row in zip(keys, together, strict=True):
        assert torch.equal(uniform(key[None], 1000)[0], row)
    assert torch.equal(uniform(keys, 10), together[:, :10])


def test_numbers_are_uniform_and_rows_and_neighbours_unrelated() -> None:
    keys = torch.from_numpy(np.random.SeedSequence(0).generate_state(16).view(np.int32))
    u = uniform(keys, 2**16).double()
    assert 0 <= u.min() < u.max() < 1
    counts = torch.histc(u, 256, 0, 1)
    expected = u.numel() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 340  # chi-square of 255 degrees, one in 5000
    standard = (u - 0.5) * 12**0.5
    limit = 4.5 / 2**8  # of a correlation over 2^16 pairs
    assert ((standard @ standard.T / 2**16).fill_diagonal_(0).abs() < limit).all()
    for lag in (1, 2, 64, 1764):
        assert (standard[:, lag:] * standard[:, :-lag]).mean(1).abs().max() < limit


@pytest.mark.parametrize("layer", [Dropout(0.3), DropBlock(0.3, block=3, ramp=1)], ids=["Dropout", "DropBlock"])
def test_an_episode_is_treated_alike_in_any_company(layer: Noise) -> None:
    x = torch.randn(6, 5, 9, 9)
    set_keys(layer, [(0, 1), (0, 2), (0, 3)])
    together = layer.train()(x)
    set_keys(layer, [(0, 2)])
    assert torch.equal(layer(x[2:4]), together[2:4])
    set_keys(layer, [(0, 9)])
    assert not torch.equal(layer(x[2:4]), together[2:4])
    assert torch.equal(layer.eval()(x), x)


def test_dropout_keeps_the_mean_at_its_rate() -> None:
    layer = Dropout(0.2).train()
    set_keys(layer, [(1,), (2,)])
    out = layer(torch.ones(20, 50, 10, 10))
    assert (out == 0).float().mean() == pytest.approx(0.2, abs=0.01)
    assert out.mean() == pytest.approx(1, abs=0.01)


def test_layers_draw_differently_and_keys_stay_out_of_the_checkpoint() -> None:
    net = ResNet12(width=0.1)
    before = set(net.state_dict())
    set_keys(net, [(0, 0), (0, 1)])
    assert set(net.state_dict()) == before
    keys = torch.stack([m.keys for m in net.modules() if isinstance(m, Noise)])  # type: ignore[misc]
    assert keys.shape == (4, 2)
    assert len(keys.unique()) == 8
    first = net.layer1.drop.keys
    set_keys(net, [(0, 2), (0, 3)])
    assert net.layer1.drop.keys is first  # the same memory, which a compiled graph reads


def test_a_network_without_noise_needs_no_keys() -> None:
    set_keys(nn.Linear(2, 2), [(0, 0)])


def test_normal_numbers_are_normal_and_depend_on_their_key_alone() -> None:
    layer, like = Noise(), torch.zeros(2, 1)
    set_keys(layer, [(1,), (2,)])
    both = layer.draw_normal(like, 50_000)
    set_keys(layer, [(2,)])
    assert torch.equal(layer.draw_normal(like[1:], 50_000), both[1:])
    assert both.mean().abs() < 0.02
    assert abs(float(both.square().mean()) - 1) < 0.02
    assert abs(float(both.pow(4).mean()) - 3) < 0.15  # the fourth moment, which tells a normal law from others
