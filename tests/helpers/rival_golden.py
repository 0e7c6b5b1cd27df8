"""Golden numbers of the rivals, and how near a method comes to them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "golden" / "rivals"
SCORES, GRADIENTS = 1e-6, 1e-5  # what an equal formula meets, of the largest entry


def golden(name: str) -> dict[str, Tensor]:
    """A file's arrays: floating-point ones in double precision."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
    return {key: a.double() if a.is_floating_point() else a for key, a in arrays.items()}


def put_weights(model: nn.Module, arrays: dict[str, Tensor], prefix: str, names: dict[str, str]) -> None:
    """Give the model the file's weights: `names` maps the model's names to the file's, behind `prefix`."""
    state = model.state_dict()
    with torch.no_grad():
        for own, theirs in names.items():
            state[own].copy_(arrays[prefix + theirs].reshape(state[own].shape))


def deviation(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the largest entry that was expected."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def check(what: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Fails if `found` is not within `tolerance` of the largest entry expected."""
    off = deviation(found.detach(), expected)
    assert off <= tolerance, f"{what}: {off:.1e} of the largest entry, {tolerance:.0e} allowed"
