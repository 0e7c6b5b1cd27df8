"""Pictures as features, and features compared: what calibration, classification and the explorer share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.base import Method, mean_of_shots


@contextmanager
def still(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, full precision and no gradients inside, every part's own mode again afterwards."""
    modes = {module: module.training for module in model.modules()}
    device = next((p.device.type for p in model.parameters()), "cpu")
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device, enabled=False):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def embed_pictures(model: Method, pixels: NDArray[np.uint8]) -> Tensor:
    """Feature maps [n, c, h, w] of pictures uint8 [n, size, size, 3], on the model's device.

    Raises:
        ValueError: the model does not say how its images were prepared, or they have another size.
    """
    kept = preprocessing_of(model)
    if pixels.shape[1:] != (kept.size, kept.size, 3):
        raise ValueError(f"the model reads [n, {kept.size}, {kept.size}, 3], got {list(pixels.shape)}")
    device = next(model.parameters()).device
    with still(model):
        parts = (torch.tensor(pixels[i : i + 256], device=device) for i in range(0, len(pixels), 256))
        return torch.cat([model.embed(kept.normalise(kept.to_unit(part))) for part in parts])


def preprocessing_of(model: Method) -> Preprocessing:
    """The model's own preprocessing.

    Raises:
        ValueError: it has none.
    """
    if model.preprocessing is None:
        raise ValueError("the model does not say how its images were prepared: set model.preprocessing")
    return model.preprocessing


def compare(model: Method, support: Tensor, mask: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [Q, N] and likeness [Q] of features, support [N, K, c, h, w] with mask [N, K], and query [Q, c, h, w]."""
    with still(model):
        scores = model.score(support[None], query[None], mask[None])[0]
        means = mean_of_shots(support[None], mask[None])[0].flatten(1)
        alike = F.normalize(query.flatten(1), dim=1) @ F.normalize(means, dim=1).T
        return scores, alike.amax(1)
