"""The explorer: a widget that shows where a meta-filter looks, what it writes there, and what that does to the score.

Everything a view needs is computed once and sent to the browser as one buffer (`precompute`); ``explorer.js`` draws
from it, so moving, choosing and aligning are answered without Python. Only "what if", which asks for filters at points
nobody chose before, and export, which writes files, come back to the kernel.

At k = 1 the alignment is a gain for each group and position. So the browser needs, for every pair of query and class,
the filter and each group's share of the dot product with the class weight, and can draw any time t from 0 to 1.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import matplotlib as mpl
import numpy as np
import torch
import traitlets
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from labkit import plotting
from labkit.checkpoints import write_atomically
from labkit.data.imageset import ImageSet
from labkit.dmf import DMF
from labkit.episodes import EpisodeSampler
from labkit.method import mean_of_shots
from labkit.sampling import to_pixels
from labkit.versions import versions

MODES = ("trained", "untrained", "zero")  # of the offsets; all else is the trained network's
FAR = -1e6  # feature cells: a point so far outside reads zeros, and so is none
EXPORT_BYTES = 20 * 2**20


@dataclass(frozen=True)
class Task:
    """Pictures to look at: a support set and queries.

    Attributes:
        title: shown where tasks are chosen.
        names: of the N classes.
        support: uint8 [N, K, size, size, 3].
        query: uint8 [Q, size, size, 3].
        shots: how many of the K pictures each class has, N numbers.
        labels: true class of each query, Q numbers, or None where nobody knows.
    """

    title: str
    names: tuple[str, ...]
    support: NDArray[np.uint8]
    query: NDArray[np.uint8]
    shots: tuple[int, ...]
    labels: tuple[int, ...] | None = None


def tasks_of(
    images: ImageSet,
    episodes: Sequence[int],
    way: int = 5,
    shots: Sequence[int] = (1,),
    query: int = 1,
    seed: int = 0,
) -> list[Task]:
    """Episodes of an `ImageSet`, once for every number of shots; `query` pictures a class, in the order of classes."""
    tasks = []
    for number in episodes:
        for shot in shots:
            classes, support, queries, labels = EpisodeSampler(images, way, shot, query, seed).indices(number)
            order = np.argsort(labels, kind="stable")
            tasks.append(
                Task(
                    f"episode {number}, {way}-way {shot}-shot",
                    tuple(plotting.readable(images.class_names[c]) for c in classes),
                    images.pixels[support],
                    images.pixels[queries[order]],
                    (shot,) * way,
                    tuple(int(v) for v in labels[order]),
                )
            )
    return tasks


@dataclass(frozen=True)
class Features:
    """What the kernel keeps of a task for "what if": X_supp [1, N, c, h, w], X_q [1, Q, c, h, w]."""

    x_supp: Tensor
    x_q: Tensor


class Explorer(anywidget.AnyWidget):
    """The widget itself; `explore` puts its two sliders beside it.

    Args:
        models: DMF networks with kernel 1 by the names they are shown under.
        tasks: what to look at.
        folder: exported views go to ``FOLDER/figures``.

    Raises:
        ValueError: no model or no task, a model that is not such a network, or pictures of another size than a
            model's own.
    """

    _esm = Path(__file__).with_name("explorer.js")
    _css = Path(__file__).with_name("explorer.css")
    header = traitlets.Dict().tag(sync=True)
    buffer = traitlets.Bytes().tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)
    column = traitlets.Int(0).tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)
    task = traitlets.Int(0).tag(sync=True)
    checkpoint = traitlets.Int(0).tag(sync=True)
    mode = traitlets.Int(0).tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    support_class = traitlets.Int(0).tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    time = traitlets.Float(1.0).tag(sync=True)
    overlay = traitlets.Unicode("none").tag(sync=True)

    def __init__(self, models: Mapping[str, DMF], tasks: Sequence[Task], folder: Path | str = "../runs") -> None:
        _check(models, tasks)
        self.models, self.tasks, self.folder = dict(models), list(tasks), Path(folder)
        self.features: dict[tuple[int, int], Features] = {}
        header, buffer = self._precompute()
        first = self.tasks[0].labels
        middle = header["blocks"][0][0]["h"] // 2
        super().__init__(
            header=header, buffer=buffer, row=middle, column=middle, support_class=first[0] if first else 0
        )
        self.on_msg(self._answer)

    def __repr__(self) -> str:
        return f"Explorer({', '.join(self.models)}; {len(self.tasks)} tasks)"

    def _precompute(self) -> tuple[dict[str, Any], bytes]:
        buffer = _Buffer()
        with torch.no_grad():
            blocks = [
                [self._block(t, task, m, model, buffer) for m, model in enumerate(self.models.values())]
                for t, task in enumerate(self.tasks)
            ]
        header = {
            "checkpoints": list(self.models),
            "modes": MODES,
            "tasks": [
                {
                    "title": task.title,
                    "names": task.names,
                    "labels": task.labels,
                    "shots": task.shots,
                    "queries": len(task.query),
                    "size": task.query.shape[1],
                    "support": buffer.add(task.support),
                    "query": buffer.add(task.query),
                    "pictures": task.support.shape[1],
                }
                for task in self.tasks
            ],
            "blocks": blocks,
            "palette": [mpl.colors.to_hex(c) for c in mpl.colormaps[plotting.HEAT](np.linspace(0, 1, 64))],
        }
        return header, buffer.bytes()

    def _block(self, t: int, task: Task, m: int, model: DMF, buffer: _Buffer) -> dict[str, Any]:
        """What one network makes of one task: sizes, and where its arrays lie in the buffer."""
        x_supp, x_q = embed(model, task)
        self.features[t, m] = Features(x_supp, x_q)
        points = [points_of(model, mode, x_supp, x_q) for mode in MODES]
        filters = [model.filters(x_supp, x_q, p)[0, :, :, :, 0] for p in points]
        stride = _stride(model, task, x_q)
        grouped = x_q[0].unflatten(1, (model.groups, -1))  # [Q, g, c / g, h, w]
        growing = grouped.relu() if model.choices.relu else grouped
        weights = model.class_weights(x_supp)[0].unflatten(1, (model.groups, -1))
        normal = [F.normalize(x[0].flatten(-2), dim=1) for x in (x_q, x_supp)]
        still = grouped - growing  # what a ReLU keeps from growing; zero without one
        arrays = {
            "dots": torch.einsum("qgdhw,ngd->qnghw", growing, weights),
            "rest": torch.einsum("qgdhw,ngd->qnhw", still, weights),
            "energy": growing.square().sum(2),
            "restEnergy": still.square().sum((1, 2)),
            "similarity": torch.einsum("qcr,ncp->qnrp", *normal),
        }
        h, w = x_q.shape[-2:]
        border = 2 * model.choices.border
        return {
            "h": h,
            "w": w,
            "groups": model.groups,
            "stride": stride,
            "rule": model.rule.name,
            "steps": model.rule.steps,
            "scale": model.choices.score_scale,
            "cells": (h + border) * (w + border),
            "points": [buffer.add(to_pixels(p[0], stride)) for p in points],
            "filters": [buffer.add(f) for f in filters],
        } | {name: buffer.add(value) for name, value in arrays.items()}

    def what_if(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The filter and the scores if one position looked elsewhere.

        Args:
            request: task, checkpoint, query, support_class, row, column, mode as numbers, and points: nine (y, x) in
                pixels of the picture, or None for a point that is not read.

        Returns:
            filter, g numbers at that position; score of the class with it, and was, without; cell, the score map's
            value there (before the class's mean, as drawn).

        Raises:
            ValueError: a number outside its range, or points that are not nine pairs of finite numbers.
        """
        t, m = self._index(request, "task", len(self.tasks)), self._index(request, "checkpoint", len(self.models))
        model, known, task = list(self.models.values())[m], self.features[t, m], self.tasks[t]
        h, w = known.x_q.shape[-2:]
        sizes = {"query": len(task.query), "support_class": len(task.names), "row": h, "column": w, "mode": len(MODES)}
        q, n, i, j, mode = (self._index(request, name, size) for name, size in sizes.items())
        x_supp, x_q = known.x_supp[:, [n]], known.x_q[:, [q]]
        with torch.no_grad():
            points = points_of(model, MODES[mode], x_supp, x_q)
            before = model.filters(x_supp, x_q, points)
            asked = points.clone()
            asked[0, 0, 0, :, :, i, j] = _asked_points(request.get("points"), _stride(model, task, x_q))
            filters = model.filters(x_supp, x_q, asked)
            was, now = (model.score_maps(x_supp, x_q, f)[0, 0, 0] for f in (before, filters))
        inner = now[1:-1, 1:-1] if model.choices.border else now
        return {
            "filter": filters[0, 0, 0, :, 0, i, j].tolist(),
            "score": float(now.mean()),
            "was": float(was.mean()),
            "cell": float(inner[i, j]),
        }

    def export(self, svg: str, png: str, state: Mapping[str, Any]) -> Path:
        """Write the view a browser drew, ``explorer-TIME.svg``, ``.png`` and ``.json``, into ``FOLDER/figures``.

        Raises:
            ValueError: not a picture, or one larger than `EXPORT_BYTES`.
        """
        if not svg.startswith("<svg") or len(svg) + len(png) > EXPORT_BYTES:
            raise ValueError("the browser sent something that is not a view of the explorer")
        try:
            pixels = base64.b64decode(png, validate=True)
        except binascii.Error as error:
            raise ValueError(f"the browser sent a PNG that cannot be read: {error}") from None
        file = self.folder / "figures" / f"explorer-{datetime.now():%Y%m%d-%H%M%S-%f}.svg"
        write_atomically(file, svg.encode())
        write_atomically(file.with_suffix(".png"), pixels)
        how = {"how": dict(state), "versions": versions()}
        write_atomically(file.with_suffix(".json"), json.dumps(how, indent=1, default=str).encode())
        return file

    def _answer(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """What the browser asks. An error is an answer too: a widget that falls silent helps nobody."""
        kind = content.get("kind")
        try:
            if kind == "what-if":
                answer: dict[str, Any] = {"kind": kind, "serial": content.get("serial")} | self.what_if(content)
            elif kind == "export":
                file = self.export(content["svg"], content["png"], content.get("state", {}))
                answer = {"kind": kind, "file": file.name}
            else:
                return
        except (ValueError, KeyError, TypeError, OSError) as error:
            answer = {"kind": "error", "text": f"{type(error).__name__}: {error}"}
        self.send(answer)

    @staticmethod
    def _index(request: Mapping[str, Any], name: str, size: int) -> int:
        value = request.get(name)
        if not isinstance(value, int) or not 0 <= value < size:
            raise ValueError(f"{name} must be a whole number from 0 to {size - 1}, got {value!r}")
        return value


def explore(
    models: Mapping[str, DMF],
    images: ImageSet | None = None,
    episodes: Sequence[int] = (0, 1, 2),
    *,
    tasks: Sequence[Task] | None = None,
    way: int = 5,
    shots: Sequence[int] = (1, 5),
    query: int = 1,
    seed: int = 0,
    folder: Path | str = "../runs",
) -> ipywidgets.VBox:
    """An `Explorer` under two sliders, row and column of the query position, linked with it in the browser.

    Args:
        models, folder: see `Explorer`.
        images, episodes, way, shots, query, seed: which tasks; see `tasks_of`.
        tasks: the tasks themselves, instead of `images`, for example of one's own pictures.
    """
    if tasks is None:
        if images is None:
            raise ValueError("explore needs images or tasks")
        tasks = tasks_of(images, episodes, way, shots, query, seed)
    explorer = Explorer(models, tasks, folder)
    block = explorer.header["blocks"][0][0]
    sliders = []
    for name, last in (("row", block["h"] - 1), ("column", block["w"] - 1)):
        slider = ipywidgets.IntSlider(
            value=getattr(explorer, name), min=0, max=last, description=name, continuous_update=True
        )
        ipywidgets.jslink((slider, "value"), (explorer, name))
        sliders.append(slider)
    return ipywidgets.VBox([ipywidgets.HBox(sliders), explorer])


def embed(model: DMF, task: Task) -> tuple[Tensor, Tensor]:
    """X_supp [1, N, c, h, w] and X_q [1, Q, c, h, w] of a task's pictures."""
    assert model.preprocessing is not None
    kept = model.preprocessing
    parameter = next(model.parameters())
    support, query = (
        model.embed(kept.normalise(kept.to_unit(torch.from_numpy(np.ascontiguousarray(a)).to(parameter.device))))
        for a in (task.support, task.query)
    )
    shots = torch.tensor(task.shots, device=parameter.device)
    mask = torch.arange(task.support.shape[1], device=parameter.device) < shots[:, None]
    return mean_of_shots(support[None], mask[None]), query[None]


def points_of(model: DMF, mode: str, x_supp: Tensor, x_q: Tensor) -> Tensor:
    """Where a network looks, (y, x) in feature cells [1, Q, N, 9, 2, h, w], with its offsets as `mode` says.

    ``"untrained"``: by an offset convolution that was never trained (drawn with seed 0), on trained features;
    ``"zero"``: none, the regular grid around where sampling starts.
    """
    starts = model.starts(x_supp, x_q)
    if mode == "zero" or not model.choices.sampling:
        shape = (1, x_q.shape[1], x_supp.shape[1], *starts.shape[3:])
        return starts.expand(shape).clone()
    if mode == "untrained":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            first = torch.empty_like(model.offset_conv.weight)
            torch.nn.init.kaiming_uniform_(first, a=5**0.5)  # as nn.Conv2d does
        model = copy.copy(model)
        model._modules = dict(model._modules)
        model.offset_conv = copy.deepcopy(model.offset_conv)
        model.offset_conv.weight.data = first * model.choices.offset_scale
    return starts + model.offsets(x_supp, x_q)


def effects(model: DMF, task: Task) -> dict[str, float]:
    """What the explorer's toggles change in one task whose labels are known, as means over its pairs.

    Returns:
        shares (0 to 1) of points outside the picture, of answers that are the same without alignment, and of right
        answers with trained, untrained and zero offsets and without alignment; how far zero offsets move a score, how
        far taking the first point of the middle position away does, and the standard deviation of scores.
    """
    size = task.query.shape[1]
    with torch.no_grad():
        x_supp, x_q = embed(model, task)
        points = {mode: points_of(model, mode, x_supp, x_q) for mode in MODES}
        px = to_pixels(points["trained"], _stride(model, task, x_q))
        one_less = points["trained"].clone()
        one_less[..., 0, :, px.shape[-2] // 2, px.shape[-1] // 2] = FAR
        scores = {
            which: model.score_maps(x_supp, x_q, model.filters(x_supp, x_q, where)).mean((-2, -1))[0]
            for which, where in (points | {"one less": one_less}).items()
        }
        scores["no alignment"] = model.score_maps(x_supp, x_q, None).mean((-2, -1))[0]
    answers = {which: s.argmax(-1) for which, s in scores.items()}
    right = {which: (a == torch.tensor(task.labels)).float().mean() for which, a in answers.items()}
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


def _check(models: Mapping[str, DMF], tasks: Sequence[Task]) -> None:
    if not models or not tasks:
        raise ValueError("the explorer needs at least one model and one task")
    for name, model in models.items():
        if not isinstance(model, DMF) or model.choices.kernel != 1:
            kind = f"kernel {model.choices.kernel}" if isinstance(model, DMF) else type(model).__name__
            raise ValueError(f"{name!r} is of {kind}: the explorer shows DMF networks with kernel 1")
        if model.preprocessing is None:
            raise ValueError(f"{name!r} does not say how its images were prepared: load or train it, or set it")
        for task in tasks:
            if task.query.shape[1] != model.preprocessing.size:
                raise ValueError(
                    f"{name!r} was trained on {model.preprocessing.size} px images, and the pictures of "
                    f"{task.title!r} have {task.query.shape[1]} px"
                )


def _stride(model: DMF, task: Task, x_q: Tensor) -> float:
    return float(getattr(model.backbone, "stride", None) or task.query.shape[1] / x_q.shape[-1])


def _asked_points(points: Any, stride: float) -> Tensor:
    """Nine points in pixels, None for one that is not read, as feature cells [9, 2]."""
    try:
        asked = [[FAR, FAR] if p is None else [(float(v) - (stride - 1) / 2) / stride for v in p] for p in points]
        cells = torch.tensor(asked)
    except (TypeError, ValueError):
        cells = torch.empty(0)
    if cells.shape != (9, 2) or not cells.isfinite().all():
        raise ValueError("points must be nine pairs (y, x) of finite numbers, or None for one that is not read")
    return cells


class _Buffer:
    """Arrays one after the other, each on a multiple of four bytes; float32, or uint8 as they are."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, values: Tensor | NDArray[Any]) -> int:
        """Append an array in row order; where it begins, in bytes."""
        if isinstance(values, Tensor):
            values = values.detach().cpu().numpy()
        content = np.ascontiguousarray(values, None if values.dtype == np.uint8 else np.float32).tobytes()
        content += bytes(-len(content) % 4)
        start = self.length
        self.parts.append(content)
        self.length += len(content)
        return start

    def bytes(self) -> bytes:
        return b"".join(self.parts)
