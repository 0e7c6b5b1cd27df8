"""The authors' checkpoint, written as their training writes it, and their backbone, read from it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

WIDTHS = (8, 16, 32, 64)  # a tenth of theirs


def their_state(
    groups: int = 8, classes: int = 7, kernel: int = 1, widths: tuple[int, ...] = WIDTHS, seed: int = 0
) -> dict[str, Tensor]:
    """Random weights under their names, written down from their shapes, independently of the reader."""
    generator = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5

    state: dict[str, Tensor] = {}
    for number, (inputs, outputs) in enumerate(zip((3, *widths), widths, strict=False), 1):
        block = f"base.layer{number}.0"
        state[f"{block}.num_batches_tracked"] = torch.tensor(123)
        for conv, bn, size, c in (
            ("conv1", "bn1", 3, inputs),
            ("conv2", "bn2", 3, outputs),
            ("conv3", "bn3", 3, outputs),
            ("downsample.0", "downsample.1", 1, inputs),
        ):
            state[f"{block}.{conv}.weight"] = weight(outputs, c, size, size)
            for name in ("weight", "running_var"):
                state[f"{block}.{bn}.{name}"] = torch.rand(outputs, generator=generator) + 0.5
            for name in ("bias", "running_mean"):
                state[f"{block}.{bn}.{name}"] = torch.randn(outputs, generator=generator) * 0.1
            state[f"{block}.{bn}.num_batches_tracked"] = torch.tensor(123)
    c = widths[-1]
    state["global_clasifier.weight"] = weight(classes, c, 1, 1)
    state["global_clasifier.bias"] = torch.randn(classes, generator=generator)
    state["dw_gen.off_conv.weight"] = weight(18, 2 * c, 5, 5)
    state["dw_gen.kernel_conv.weight"] = weight(groups * kernel**2, c, 3, 3)
    return state


def write(path: Path, state: Any, zipped: bool = False, acc: Any = None) -> Path:
    """Write a checkpoint as their script does under PyTorch 1.4: not zipped, with the accuracy as a NumPy scalar."""
    content = {"state_dict": state, "acc": np.float64(0.6776) if acc is None else acc, "epoch": 94}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def their_features(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Their backbone in eval mode, straight from the weights."""

    def conv_bn(x: Tensor, conv: str, bn: str) -> Tensor:
        x = F.conv2d(x, state[f"{conv}.weight"], padding=state[f"{conv}.weight"].shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{bn}.{name}"] for name in names))

    for number in (1, 2, 3, 4):
        block = f"base.layer{number}.0"
        y = F.leaky_relu(conv_bn(x, f"{block}.conv1", f"{block}.bn1"), 0.1)
        y = F.leaky_relu(conv_bn(y, f"{block}.conv2", f"{block}.bn2"), 0.1)
        y = conv_bn(y, f"{block}.conv3", f"{block}.bn3") + conv_bn(x, f"{block}.downsample.0", f"{block}.downsample.1")
        x = F.leaky_relu(y, 0.1)
        if number < 4:
            x = F.max_pool2d(x, 2, ceil_mode=True)
    return x
