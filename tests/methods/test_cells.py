"""Where cells lie: as the gradient of a cell with respect to the picture says, for our backbones and for others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import labkit
from labkit.methods.backbones import Conv4, ResNet12, WideResNet
from labkit.methods.cells import Cells, first_of, pooled
from labkit.methods.protonet import ProtoNet

OURS = {
    "resnet12": (lambda: ResNet12(0.05), 8, 3.5),
    "resnet12, last pooling": (lambda: ResNet12(0.05, last_pool=True), 16, 7.5),
    "conv4": (lambda: Conv4(8), 8, 3.5),
    "wide": (lambda: WideResNet(10, 1), 4, 0),
}


def strided(kernel: int, stride: int, padding: int, inputs: int = 6) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, 6, kernel, stride, padding), nn.BatchNorm2d(6), nn.ReLU())


STRANGERS = {
    "trunk of ResNet-18": (
        lambda: nn.Sequential(
            strided(7, 2, 3, 3), nn.MaxPool2d(3, 2, 1), strided(3, 1, 1), *(strided(3, 2, 1) for _ in range(3))
        ),
        32,
        0,
    ),
    "patches": (lambda: strided(16, 16, 0, 3), 16, 7.5),
    "no padding": (lambda: nn.Sequential(strided(7, 4, 0, 3), strided(3, 3, 0)), 12, 7),
    "both kinds": (lambda: nn.Sequential(strided(3, 2, 1, 3), nn.MaxPool2d(2, ceil_mode=True), strided(3, 1, 1)), 4, 1),
    "three by three": (lambda: nn.Sequential(strided(3, 3, 0, 3), nn.AvgPool2d(2)), 6, 2.5),
    "squeeze and excitation": (lambda: nn.Sequential(strided(3, 2, 1, 3), Weighed(), strided(3, 2, 1)), 4, 0),
}


class Weighed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((-2, -1), keepdim=True).sigmoid()


@pytest.mark.parametrize("name", [*OURS, *STRANGERS])
def test_a_cell_is_where_its_gradient_is(name: str) -> None:
    backbone, stride, first = (OURS | STRANGERS)[name]
    torch.manual_seed(0)
    model = ProtoNet(backbone()).double().eval()
    cells = Cells.of(model)
    assert (cells.stride, cells.first) == (stride, first)
    for kernel in model.backbone.parameters():  # every path counts alike
        kernel.data = torch.ones_like(kernel) if kernel.ndim == 4 else kernel.data.abs()
    for module in list(model.backbone.modules()):
        for child, pool in module.named_children():
            if isinstance(pool, nn.MaxPool2d):
                even = nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
                setattr(module, child, even)
    size = 40 if stride <= 4 else 12 * stride + 32  # no edge cuts off much of what a cell sees
    pictures = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    maps = model.backbone(pictures)
    i = maps.shape[-1] // 2
    (gradient,) = torch.autograd.grad(maps[:, :, i, i].sum(), pictures)
    weight = gradient.sum((0, 1))
    middle = (weight.sum(0) * torch.arange(size)).sum() / weight.sum()
    assert middle.item() == pytest.approx(cells.to_pixels(torch.tensor(float(i))).item(), abs=0.05)


@pytest.mark.parametrize("name", OURS)
def test_trying_finds_what_our_backbones_say(name: str) -> None:
    backbone, stride, first = OURS[name]
    untold = backbone()
    del untold.first_centre
    for kernel in untold.parameters():
        nn.init.zeros_(kernel)  # what a network has learned, or not, does not matter
    assert first_of(untold, stride) == first


def test_trying_changes_nothing() -> None:
    backbone = STRANGERS["both kinds"][0]().train()
    before, drawn = {k: v.clone() for k, v in backbone.state_dict().items()}, torch.get_rng_state()
    with torch.inference_mode():
        assert first_of(backbone, 4) == 1
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(module.training for module in backbone.modules())


class OneSize(nn.Module):
    def __init__(self, embedded: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 16, 16)
        self.places = nn.Parameter(torch.randn(196, 1)) if embedded else None

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != 224:
            raise RuntimeError("only 224 px")
        y: Tensor = self.conv(x)
        return y if self.places is None else y + self.places.view(14, 14)


class Unchanged(nn.Module):
    """It says a stride that is not its own."""

    stride = 8

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("backbone", [OneSize(False), OneSize(True), Unchanged()])
def test_a_backbone_that_cannot_be_tried_counts_as_pooled(backbone: nn.Module) -> None:
    cells = Cells.of(ProtoNet(backbone))
    assert cells.first == pooled(cells.stride)


def test_each_pixel_has_its_nearest_cell() -> None:
    for cells in (Cells(8, 3.5), Cells(4, 0), Cells(16, 24)):
        of = cells.at_pixels(84, 5)
        far = (torch.arange(84)[:, None] - cells.to_pixels(torch.arange(5.0))).abs()
        assert torch.equal(far.gather(1, of[:, None])[:, 0], far.amin(1))
    large = Cells(4, 0).enlarged(3)
    assert (large.stride, large.first) == (12, 1)  # amid pixels 0, 1 and 2
    assert torch.equal(large.at_pixels(252, 21)[1::3], Cells(4, 0).at_pixels(84, 21))


def test_the_points_of_a_trace_are_where_the_cells_are() -> None:
    model = labkit.DMF("wrn28", 4, backbone_options={"depth": 10, "width": 1}, alignment="closed").eval()
    found = model.trace(torch.zeros(1, 2, 1, 3, 24, 24), torch.zeros(1, 1, 3, 24, 24))
    torch.testing.assert_close(found.points_px, 4 * found.points)
