"""Backbones: map sizes, where a cell lies, and DropBlock's rate."""

import pytest
import torch

from labkit.methods.backbones import Conv4, DropBlock, ResNet12, WideResNet
from labkit.methods.feat import FEAT


@pytest.mark.parametrize(
    ("backbone", "size", "shape"),
    [
        (ResNet12(width=0.1), 84, (64, 11, 11)),
        (ResNet12(width=0.1, last_pool=True), 84, (64, 6, 6)),
        (ResNet12(width=0.1), 40, (64, 5, 5)),
        (Conv4(width=8), 84, (8, 10, 10)),
        (Conv4(width=8, last_pool=True), 84, (8, 5, 5)),
        (WideResNet(depth=10, width=1), 84, (64, 21, 21)),
        (WideResNet(depth=16, width=1, drop=0.1), 42, (64, 11, 11)),
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


def test_wrn_28_10_has_the_published_number_of_weights() -> None:
    """36.5 million with a classifier of ten classes (Zagoruyko and Komodakis, table 5), counted here by its layers."""
    with torch.device("meta"):
        net = WideResNet()
    assert len(net.blocks) == 12
    convolutions = 3 * 16 * 9 + 16 * 160 * 10 + 160 * 320 * 10 + 320 * 640 * 10
    convolutions += 9 * (160**2 * 7 + 320**2 * 7 + 640**2 * 7)
    norms = 2 * (16 + 160 * 7 + 160 + 320 * 7 + 320 + 640 * 7 + 640)
    weights = sum(p.numel() for p in net.parameters())
    assert weights == convolutions + norms
    assert weights + 640 * 10 + 10 == 36_479_194  # as counted with the authors' classifier of CIFAR-10
    assert weights == pytest.approx(36.5e6, rel=1e-3)


def test_a_depth_that_no_wide_resnet_has_is_refused() -> None:
    with pytest.raises(ValueError, match="6 n \\+ 4, such as 16, 22 or 28, got 29"):
        WideResNet(depth=29)


def test_feat_runs_on_a_wide_resnet() -> None:
    torch.manual_seed(0)
    model = FEAT("wrn28", classes=4, backbone_options={"depth": 10, "width": 1, "drop": 0.1}).train()
    support, query = torch.randn(1, 3, 1, 3, 16, 16), torch.randn(1, 6, 3, 16, 16)
    labels = torch.tensor([[0, 1, 2, 0, 1, 2]])
    losses = model.loss(support, query, labels, labels)
    losses.total.backward()
    assert model.backbone.conv.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert model.recipe()["backbone"] == "wrn28"


def test_a_cell_is_centred_where_it_is_said_to_be() -> None:
    """The gradient of one cell with respect to the pixels is centred at (8 i + 3.5, 8 j + 3.5)."""
    torch.manual_seed(0)
    net = ResNet12(width=0.1).eval()
    images = torch.zeros(64, 3, 84, 84).normal_().requires_grad_()
    net(images)[:, :, 5, 4].sum().backward()
    weight = images.grad.abs().sum((0, 1))  # type: ignore[union-attr]
    centre = [(weight.sum(1 - d) * torch.arange(84)).sum() / weight.sum() for d in (0, 1)]
    torch.testing.assert_close(torch.stack(centre), torch.tensor([43.5, 35.5]), atol=1.0, rtol=0)


@pytest.mark.parametrize("kind", [ResNet12, WideResNet])
def test_a_backbone_cannot_drop_everything(kind: type[ResNet12 | WideResNet]) -> None:
    with pytest.raises(ValueError, match="drop must be a finite number at least 0 and below 1, got 1"):
        kind(drop=1)


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
