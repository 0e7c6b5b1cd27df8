"""What the explorer shows, as numbers: pictures, features, and where networks look in them, in one buffer.

At k = 1 the alignment is a gain for each group and position. So the browser needs the query's features, the class
weights, the points, and psi's responses to the support at every cell; it samples those at the points (Eq. 5-6), and can
draw any time t from 0 to 1 and answer what would be if a point lay elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labkit import plotting
from labkit.common import checks
from labkit.dmf.model import DMF
from labkit.dmf.sampling import likeness
from labkit.evaluation.features import embed_pictures
from labkit.explorer.tasks import Task
from labkit.methods.base import mean_of_shots
from labkit.methods.cells import Cells

MODES = ("trained", "untrained", "zero")  # of the offsets; all else is the trained network's
BITS = 16  # that numbers in the buffer keep
FAR = -1e6  # feature cells: a point so far outside reads zeros, and so is none


@dataclass(frozen=True)
class Features:
    """What a network makes of a task's pictures: X_supp [1, N, c, h, w] and X_q [1, Q, c, h, w]."""

    x_supp: Tensor
    x_q: Tensor


def check_models(models: Mapping[str, DMF]) -> None:
    """Whether the explorer can show these networks.

    Raises:
        ValueError: a model that is not a DMF network with kernel 1 and its own preprocessing.
    """
    for name, model in models.items():
        if not isinstance(model, DMF) or model.choices.kernel != 1:
            kind = f"kernel {model.choices.kernel}" if isinstance(model, DMF) else type(model).__name__
            raise ValueError(f"{name!r} is of {kind}: the explorer shows DMF networks with kernel 1")
        if model.preprocessing is None:
            raise ValueError(f"{name!r} does not say how its images were prepared: load or train it, or set it")


def check(models: Mapping[str, DMF], tasks: Sequence[Task]) -> None:
    """Whether the explorer can show these tasks by these networks.

    Raises:
        ValueError: no model or no task, a model as `check_models` says, or pictures of another size than its own.
    """
    if not models or not tasks:
        raise ValueError("the explorer needs at least one model and one task")
    check_models(models)
    for task in tasks:
        checks.kind("tasks", task, Task, "a list of labkit.explorer.tasks.Task")
        for name, model in models.items():
            if model.preprocessing and task.query.shape[1] != model.preprocessing.size:
                raise ValueError(
                    f"{name!r} was trained on {model.preprocessing.size} px images, and the pictures of "
                    f"{task.title!r} have {task.query.shape[1]} px"
                )


def precompute(
    models: Sequence[DMF], tasks: Sequence[Task]
) -> tuple[dict[str, Any], bytes, dict[tuple[int, int], Features]]:
    """All that a browser needs to draw any view of these tasks by these networks.

    Returns:
        a header in JSON types that says where in the buffer, in bytes, each array lies; the buffer; and the features
        of every pair of numbers (task, network).
    """
    buffer = _Buffer()
    features = {(t, m): embed(model, task) for t, task in enumerate(tasks) for m, model in enumerate(models)}
    with torch.inference_mode():
        blocks = [
            [_block(model, task, features[t, m], buffer) for m, model in enumerate(models)]
            for t, task in enumerate(tasks)
        ]
    header = {
        "modes": MODES,
        "tasks": [
            {
                "title": task.title,
                "names": task.names,
                "labels": task.labels,
                "files": task.files,
                "shots": task.shots,
                "queries": len(task.query),
                "size": task.query.shape[1],
                "support": buffer.add(task.support),
                "query": buffer.add(task.query),
                "pictures": task.support.shape[1],
            }
            for task in tasks
        ],
        "blocks": blocks,
        "palette": _colours(plotting.HEAT, 64),
        "diverging": _colours("RdBu", 65),
    }
    return header, buffer.bytes(), features


def _colours(name: str, count: int) -> list[str]:
    return [mpl.colors.to_hex(c) for c in mpl.colormaps[name](np.linspace(0, 1, count))]


def _block(model: DMF, task: Task, features: Features, buffer: _Buffer) -> dict[str, Any]:
    """What one network makes of one task: sizes, and where its arrays lie in the buffer."""
    x_supp, x_q = features.x_supp, features.x_q
    h, w = x_q.shape[-2:]
    cells = Cells.of(model)
    border = 2 * model.choices.border
    alike = likeness(x_supp, x_q)[0]
    return {
        "h": h,
        "w": w,
        "groups": model.groups,
        "channels": x_q.shape[2],
        "stride": cells.stride,
        "first": cells.first,
        "rule": model.rule.name,
        "steps": model.rule.steps,
        "relu": model.choices.relu,
        "scale": model.choices.score_scale,
        "cells": (h + border) * (w + border),
        "points": [buffer.add(cells.to_pixels(points_of(model, mode, x_supp, x_q)[0])) for mode in MODES],
        "query": buffer.add(x_q[0]),
        "weights": buffer.add(model.class_weights(x_supp)[0]),
        "projected": buffer.add(model.projected(x_supp)[0].movedim(2, -1)),  # [N, 9, h, w, g]
        "similarity": buffer.add((alike * 127).round().to(torch.int8)),
    }


def score(model: DMF, x_supp: Tensor, x_q: Tensor, points: Tensor | None = None) -> Tensor:
    """Scores [Q, N] with the filters read at `points`, or without alignment."""
    filters = None if points is None or model.rule.name == "none" else model.filters(x_supp, x_q, points)
    return model.score_maps(x_supp, x_q, filters).mean((-2, -1))[0]


def embed(model: DMF, task: Task) -> Features:
    """The features of a task's pictures, the mean over the shots that a class has."""
    n, k = task.support.shape[:2]
    support = embed_pictures(model, task.support.reshape(n * k, *task.support.shape[2:])).unflatten(0, (n, k))
    mask = torch.arange(k, device=support.device) < torch.tensor(task.shots, device=support.device)[:, None]
    return Features(mean_of_shots(support[None], mask[None]), embed_pictures(model, task.query)[None])


def points_of(model: DMF, mode: str, x_supp: Tensor, x_q: Tensor) -> Tensor:
    """Where a network looks, (y, x) in feature cells [1, Q, N, 9, 2, h, w], with its offsets as `mode` says.

    ``"untrained"``: by an offset convolution that was never trained (drawn with seed 0), on trained features;
    ``"zero"``: none, the regular grid around where sampling starts.
    """
    starts = model.starts(x_supp, x_q)
    if mode == "zero" or not model.choices.sampling:
        shape = (1, x_q.shape[1], x_supp.shape[1], *starts.shape[3:])
        return starts.expand(shape).clone()
    eta = None
    if mode == "untrained":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            first = torch.empty(model.offset_conv.weight.shape)  # on the processor: a GPU draws other numbers
            torch.nn.init.kaiming_uniform_(first, a=5**0.5)  # as nn.Conv2d does
        eta = first.to(model.offset_conv.weight) * model.choices.offset_scale
    return starts + model.offsets(x_supp, x_q, eta)


def effects(model: DMF, task: Task) -> dict[str, float]:
    """What the explorer's toggles change in one task whose labels are known, as means over its pairs.

    Returns:
        shares (0 to 1) of points outside the picture, of answers that are the same without alignment, and of right
        answers with trained, untrained and zero offsets and without alignment; how far zero offsets move a score, how
        far taking the first point of the middle position away does, and the standard deviation of scores.
    """
    size = task.query.shape[1]
    features = embed(model, task)
    x_supp, x_q = features.x_supp, features.x_q
    with torch.inference_mode():
        points = {mode: points_of(model, mode, x_supp, x_q) for mode in MODES}
        px = Cells.of(model).to_pixels(points["trained"])
        one_less = points["trained"].clone()
        one_less[..., 0, :, px.shape[-2] // 2, px.shape[-1] // 2] = FAR
        looked = points | {"one less": one_less}
        scores = {which: score(model, x_supp, x_q, where) for which, where in looked.items()}
        scores["no alignment"] = score(model, x_supp, x_q)
    answers = {which: s.argmax(-1) for which, s in scores.items()}
    labels = torch.tensor(task.labels, device=x_q.device)
    right = {which: (a == labels).float().mean() for which, a in answers.items()}
    trained = scores["trained"]
    found = {
        "points outside the picture": ((px < -0.5) | (px > size - 0.5)).any(4).float().mean(),
        "same answer without alignment": (answers["no alignment"] == answers["trained"]).float().mean(),
        "right, trained offsets": right["trained"],
        "right, untrained offsets": right["untrained"],
        "right, zero offsets": right["zero"],
        "right, no alignment": right["no alignment"],
        "score moved by zero offsets": (scores["zero"] - trained).abs().mean(),
        "score moved by one point less": (scores["one less"] - trained).abs().mean(),
        "standard deviation of scores": trained.std(),
    }
    return {name: float(value) for name, value in found.items()}


def rounded(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Numbers rounded to `BITS` binary digits: a relative error of 1.6e-5 at most, and a page smaller by a third."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float32))
    found: NDArray[np.float32] = np.ldexp(np.round(mantissa * 2**BITS) / 2**BITS, exponent).astype(np.float32)
    return found


class _Buffer:
    """Arrays one after the other, each on a multiple of four bytes; rounded float32, or single bytes as they are."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, values: Tensor | NDArray[Any]) -> int:
        """Append an array in row order, and return the byte at which it begins."""
        if isinstance(values, Tensor):
            values = values.detach().cpu().numpy()
        content = np.ascontiguousarray(values if values.dtype.itemsize == 1 else rounded(values)).tobytes()
        content += bytes(-len(content) % 4)
        start = self.length
        self.parts.append(content)
        self.length += len(content)
        return start

    def bytes(self) -> bytes:
        return b"".join(self.parts)
