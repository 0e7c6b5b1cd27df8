"""Backbones: map sizes, where a cell lies, and DropBlock's rate."""

import pytest
import torch

from labkit.methods.backbones import Conv4, DropBlock, ResNet12


@pytest.mark.parametrize(
    ("backbone", "size", "shape"),
    [
        (ResNet12(width=0.1), 84, (64, 11, 11)),
        (ResNet12(width=0.1, last_pool=True), 84, (64, 6, 6)),
        (ResNet12(width=0.1), 40, (64, 5, 5)),
        (Conv4(width=8), 84, (8, 10, 10)),
        (Conv4(width=8, last_pool=True), 84, (8, 5, 5)),
    ],
)
def test_map_sizes(backbone: torch.nn.Module, size: int, shape: tuple[int, ...]) -> None:
    assert tuple(backbone.eval()(torch.zeros(2, 3, size, size)).shape) == (2, *shape)
    assert backbone.channels == shape[0]


def test_the_papers_backbone_has_the_papers_channels() -> None:
    net = ResNet12()
    assert [layer.conv1.out_channels for layer in (net.layer1, net.layer2, net.layer3, net.layer4)] == [
        64,
        160,
        320,
        640,
    ]
    assert sum(p.numel() for p in net.parameters()) == 12_424_320


def test_a_cell_is_centred_where_it_is_said_to_be() -> None:
    """The gradient of one cell with respect to the pixels is centred at (8 i + 3.5, 8 j + 3.5)."""
    torch.manual_seed(0)
    net = ResNet12(width=0.1).eval()
    images = torch.zeros(64, 3, 84, 84).normal_().requires_grad_()
    net(images)[:, :, 5, 4].sum().backward()
    weight = images.grad.abs().sum((0, 1))  # type: ignore[union-attr]
    centre = [(weight.sum(1 - d) * torch.arange(84)).sum() / weight.sum() for d in (0, 1)]
    torch.testing.assert_close(torch.stack(centre), torch.tensor([43.5, 35.5]), atol=1.0, rtol=0)


def test_dropblock_drops_its_rate_in_squares_after_its_ramp() -> None:
    torch.manual_seed(0)
    drop = DropBlock(rate=0.1, block=3, ramp=1).train()
    x = torch.ones(200, 20, 11, 11)
    out = drop(x)
    dropped = out == 0
    assert 0.07 < dropped.float().mean() < 0.105  # squares overlap a little
    assert out.mean() == pytest.approx(1, abs=1e-3)
    alone = dropped[(dropped.sum((2, 3)) == 9)]
    assert len(alone) > 50
    assert all(hole.any(0).sum() == hole.any(1).sum() == 3 for hole in alone)


def test_dropblock_ramps_up_and_keeps_out_of_evaluation() -> None:
    x = torch.ones(50, 20, 5, 5)
    drop = DropBlock(rate=0.5, block=5, ramp=100).train()
    first = (drop(x) == 0).float().mean()
    for _ in range(100):
        last = (drop(x) == 0).float().mean()
    assert first < 0.05 < 0.4 < last
    assert torch.equal(drop.eval()(x), x)


def test_dropblock_on_a_map_smaller_than_its_block() -> None:
    out = DropBlock(rate=0.5, block=5, ramp=1).train()(torch.ones(400, 5, 2, 2))
    whole = (out == 0).flatten(2)
    assert (whole.all(-1) | ~whole.any(-1)).all()
