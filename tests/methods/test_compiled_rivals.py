"""The newer rivals' losses, captured as one graph: nothing in them waits for a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from labkit.methods.base import Losses
from labkit.methods.noise import set_keys
from labkit.models.registry import METHODS
from tests.methods.test_contract import CLASSES, OPTIONS, SIZE, E, K, N, Q

NAMES = ["dynamic_fewshot", "wdae", "cc_rot", "robust_dist", "leo", "e3bm"]


def captured(loss: Any) -> Callable[..., Losses]:
    return torch.compile(loss, fullgraph=True, backend="eager")


def model(name: str) -> Any:
    torch.manual_seed(0)
    kind: Any = METHODS[name]
    made = kind("conv4", classes=CLASSES, backbone_options={"width": 8}, **OPTIONS.get(name, {}))
    return made.train()


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_one_graph(name: str) -> None:
    made = model(name)
    torch.manual_seed(2)
    batch = torch.randn(E, N, K, 3, SIZE, SIZE), torch.randn(E, Q, 3, SIZE, SIZE)
    labels, base = torch.tensor([[0, 1, 2, 0, 2, 1]] * E), torch.tensor([[3, 4, 5, 3, 5, 4]] * E)
    set_keys(made, [(0,), (1,)])  # so that both draw the same
    losses = captured(made.loss)(*batch, labels, base)
    torch.testing.assert_close(losses.total, made.loss(*batch, labels, base).total)
    losses.total.backward()


@pytest.mark.parametrize("name", NAMES)
def test_classification_is_one_graph(name: str) -> None:
    made = model(name)
    set_keys(made, [(0,)])
    images, labels = torch.randn(4, 3, SIZE, SIZE), torch.tensor([3, 0, 6, 3])
    compiled = captured(made.classification_loss)
    torch.testing.assert_close(compiled(images, labels).total, made.classification_loss(images, labels).total)
    assert made.classification_loss(images, labels).scores.shape == (4, CLASSES)
    set_keys(made, [(0,)])
    assert made.classification_loss(images, labels, 0.5).total != made.classification_loss(images, labels).total
