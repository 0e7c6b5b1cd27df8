"""Backbones that are not the lab's own: what they are asked, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labkit
from labkit.methods.protonet import ProtoNet
from labkit.models.registry import METHODS


class Swapped(nn.Module):
    """Maps [B, h, w, c], as some backbones give."""

    def __init__(self, channels: int = 5, side: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, side, side)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x).permute(0, 2, 3, 1)
        return y


class OneSize(nn.Module):
    def __init__(self, size: int, channels: int = 3) -> None:
        super().__init__()
        self.size, self.conv = size, nn.Conv2d(channels, 6, 16, 16)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.size:
            raise RuntimeError(f"only {self.size} px")
        y: Tensor = self.conv(x)
        return y


@pytest.mark.parametrize("backbone", [Swapped(), Swapped(10, 8), Swapped(7, 12)])
def test_channels_that_come_last_are_refused(backbone: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"feature maps \[B, c, h, w\]; .*permute\(0, 3, 1, 2\)"):
        ProtoNet(backbone)


def test_channels_that_come_last_are_refused_though_the_module_names_a_number() -> None:
    backbone = Swapped()
    backbone.channels = 5
    with pytest.raises(ValueError, match=r"must give feature maps \[B, 5, h, w\].*gives \[9, 5, 5, 5\]|\[9, 3, 3, 5\]"):
        ProtoNet(backbone).embed(torch.zeros(9, 3, 24, 24))


class Given(nn.Module):
    """A backbone that gives what a function makes of good maps."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.change = nn.Conv2d(3, 6, 8, 8), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.conv(x))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: (y, y), "one tensor; this Given gives a tuple"),
        (lambda y: {"maps": y}, "one tensor; this Given gives a dict"),
        (lambda y: y.flatten(2).transpose(1, 2), r"this one gives \[1, 100, 6\]"),
        (lambda y: y[:, :, 1:], r"this one gives \[1, 6, 9, 10\]"),
        (lambda y: y.transpose(0, 1), r"this one gives \[6, 1, 10, 10\]"),
        (lambda y: y[:, :, :0, :0], r"this one gives \[1, 6, 0, 0\]"),
        (lambda y: y[0], r"this one gives \[6, 10, 10\]"),
        (lambda y: y.mean((2, 3)), r"this one gives \[1, 6\]"),
    ],
)
def test_what_is_no_feature_map_is_refused(change: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ProtoNet(Given(change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y[:1], r"of images \[4, 3, 24, 24\] it gives \[1, 6, 3, 3\]"),
        (lambda y: y > 0, r"gives \[4, 6, 3, 3\] of torch.bool"),
        (lambda y: y.to(torch.complex64), r"gives \[4, 6, 3, 3\] of torch.complex64"),
    ],
)
def test_what_the_probe_cannot_see_is_refused_with_the_first_images(change: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ProtoNet(Given(change)).embed(torch.zeros(4, 3, 24, 24))


def test_a_fixed_size_is_found_and_another_is_said() -> None:
    model = ProtoNet(OneSize(224))
    assert (model.channels, model.stride) == (6, 16)
    with pytest.raises(ValueError, match=r"takes none of 32 to 384 px .*attribute `channels`"):
        ProtoNet(OneSize(50))
    grey = nn.Conv2d(1, 6, 16, 16)
    with pytest.raises(ValueError, match="only images of one channel"):
        ProtoNet(grey)


@pytest.mark.parametrize(
    ("backbone", "stride"),
    [
        (nn.Conv2d(3, 4, 3, stride=2), 2),
        (nn.Sequential(nn.Conv2d(3, 4, 3, stride=3), nn.MaxPool2d(2, ceil_mode=True)), 6),
        (nn.Sequential(nn.Conv2d(3, 4, 7, stride=4), nn.Conv2d(4, 8, 3, stride=3)), 12),
    ],
)
def test_a_strangers_stride_is_found(backbone: nn.Module, stride: float) -> None:
    assert ProtoNet(backbone).stride == stride


@pytest.mark.parametrize(("last_pool", "size", "stride", "side"), [(False, 84, 8, 11), (True, 40, 16, 3)])
def test_one_stride_for_trace_and_figures(last_pool: bool, size: int, stride: int, side: int) -> None:
    model = labkit.DMF("resnet12", 1, backbone_options={"width": 0.05, "last_pool": last_pool}, alignment="closed")
    assert model.stride == stride
    found = model.eval().trace(torch.zeros(1, 2, 1, 3, size, size), torch.zeros(1, 1, 3, size, size))
    assert found.points.shape[-1] == side
    torch.testing.assert_close(found.points_px, stride * found.points + (stride - 1) / 2)


def test_parts_keep_their_mode() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))
    backbone[1].eval()
    assert ProtoNet(backbone).stride == 2
    assert backbone.training
    assert not backbone[1].training


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("double", ["model", "default"])
def test_double_precision(method: str, double: str) -> None:
    own: dict[str, Any] = {
        "dmf": {"groups": 4},
        "can": {"cells": 9},
        "deepemd": {"sfc_epochs": 2},
        "maml": {"cells": 9},
        "snail": {"way": 5, "shot": 2},
        "wdae": {"novel": 2},
        "dynamic_fewshot": {"novel": 2},
    }.get(method, {})
    model = METHODS[method]("conv4", backbone_options={"width": 8}, classes=5, **own)
    support, query = torch.randn(1, 5, 2, 3, 24, 24), torch.randn(1, 5, 3, 24, 24)
    labels = torch.tensor([[0, 1, 2, 3, 4]])
    before = torch.get_default_dtype()
    try:
        if double == "default":
            torch.set_default_dtype(torch.float64)
        else:
            model.double()
        assert model.eval()(support, query).isfinite().all()
        model.train().loss(support, query, labels, labels).total.backward()
    finally:
        torch.set_default_dtype(before)


def test_half_precision_is_refused_with_what_to_do() -> None:
    model = ProtoNet("conv4", backbone_options={"width": 8}).half()
    with pytest.raises(TypeError, match=r"weights are float16.*call model\.float\(\)"):
        model.embed(torch.zeros(1, 3, 24, 24))


def test_numpy_numbers_are_converted() -> None:
    options = {"width": np.int64(8)}
    model = labkit.DMF("conv4", np.int64(4), backbone_options=options, rtol=np.float32(1e-3), relu=np.True_)
    assert {type(v) for v in (model.groups, model.choices.rtol, model.choices.relu)} == {int, float, bool}
    assert type(model.recipe()["backbone_options"]["width"]) is int
