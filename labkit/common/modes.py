"""Modules in evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode and full precision inside the block; afterwards every part is in its own mode again."""
    modes = {part: part.training for part in module.modules()}
    device = next((p.device.type for p in module.parameters()), "cpu")
    try:
        module.eval()
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for part, training in modes.items():  # one by one: a part may have been frozen
            part.training = training
