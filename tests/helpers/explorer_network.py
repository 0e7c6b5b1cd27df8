"""What the networks of an explorer compute: what its page must show."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from labkit.dmf.model import DMF
from labkit.explorer.precompute import MODES, points_of, score
from labkit.explorer.widget import Explorer


def features(explorer: Explorer, t: int = 0, m: int = 0) -> tuple[DMF, torch.Tensor, torch.Tensor]:
    known = explorer.features[t, m]
    return list(explorer.models.values())[m], known.x_supp, known.x_q


@torch.inference_mode()
def network_points(
    explorer: Explorer, t: int, m: int, mode: int, q: int, n: int, i: int, j: int, stride: int = 8, first: float = 3.5
) -> np.ndarray[Any, Any]:
    model, x_supp, x_q = features(explorer, t, m)
    cells: np.ndarray[Any, Any] = points_of(model, MODES[mode], x_supp, x_q)[0, q, n, :, :, i, j].numpy()
    return cells * stride + first


@torch.inference_mode()
def network_scores(explorer: Explorer, t: int, m: int, mode: int | None, q: int) -> list[float]:
    model, x_supp, x_q = features(explorer, t, m)
    points = None if mode is None else points_of(model, MODES[mode], x_supp, x_q)
    found: list[float] = score(model, x_supp, x_q, points)[q].tolist()
    return found


def truth(explorer: Explorer) -> int:
    labels = explorer.tasks[0].labels
    assert labels
    return labels[0]
