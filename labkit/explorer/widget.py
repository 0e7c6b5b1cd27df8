"""The explorer: a widget that shows where a meta-filter looks, what it writes there, and what that does to the score.

Everything a view needs is computed once and sent to the browser as one buffer (`precompute`); the JavaScript beside
this file works and draws from it, so moving, choosing, aligning and "what if" are answered without Python. Only what
writes files comes back to the kernel.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import torch
import traitlets
from torch import Tensor

from labkit.common import checks
from labkit.common.files import write_atomically
from labkit.common.versions import versions
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.explorer import page, presets, still, views
from labkit.explorer.precompute import FAR, MODES, check, points_of, precompute
from labkit.explorer.tasks import Task, tasks_of
from labkit.methods.cells import Cells

EXPORT_BYTES = 20 * 2**20


class Explorer(anywidget.AnyWidget):
    """The widget itself; `explore` puts its two sliders beside it.

    Args:
        models: DMF networks with kernel 1 by the names they are shown under.
        tasks: what to look at.
        folder: exported views go to ``FOLDER/figures``.

    Raises:
        ValueError: see `labkit.explorer.precompute.check`.
        TypeError: no dictionary of networks, or no list of tasks.
    """

    _esm = page.esm()
    _css = page.css()
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
    plain = traitlets.Bool(False).tag(sync=True)
    moves = traitlets.Dict().tag(sync=True)
    everywhere = traitlets.Bool(False).tag(sync=True)

    def __init__(self, models: Mapping[str, DMF], tasks: Sequence[Task], folder: Path | str = "../runs") -> None:
        checks.kind("models", models, Mapping, "DMF networks by the names they are shown under, {'mine': model}")
        tasks = checks.several("tasks", tasks, "a list of labkit.explorer.tasks.Task", least=0)
        check(models, tasks)
        self.models = {str(checks.plain(name)): model for name, model in models.items()}
        self.tasks, self.folder = tasks, checks.path("folder", folder, "the path of a folder")
        header, buffer, self.features = precompute(list(self.models.values()), self.tasks)
        header["checkpoints"] = list(self.models)
        of_first = {t: found for (t, m), found in self.features.items() if m == 0}
        header["presets"] = presets.find(next(iter(self.models.values())), self.tasks, of_first)
        first = self.tasks[0].labels
        middle = header["blocks"][0][0]["h"] // 2
        super().__init__(
            header=header, buffer=buffer, row=middle, column=middle, support_class=first[0] if first else 0
        )
        self.on_msg(self.answer)

    def __repr__(self) -> str:
        return f"Explorer({', '.join(self.models)}; {len(self.tasks)} tasks)"

    def view(self) -> str:
        """What is looked at, as a text that `restore` takes, and the widget's field "This view as text"."""
        return views.written({name: getattr(self, name) for name in views.VIEW})

    def restore(self, view: str | Mapping[str, Any]) -> None:
        """Look at a view again: a text that `view` or the widget gave, or some of its traits by name.

        Raises:
            ValueError: a name that no view has, a value of another kind, or one that is not there in this explorer.
        """
        changes = views.read(view)
        try:
            views.check_there({name: getattr(self, name) for name in views.VIEW}, changes, self.header)
            with self.hold_trait_notifications(), self.hold_sync():
                for name, value in ({"moves": {}} | changes).items():
                    setattr(self, name, value)
        except (traitlets.TraitError, TypeError, ValueError) as error:
            raise ValueError(f"this is no view: {error}") from None

    def as_page(self, title: str = "The meta-filter at work") -> str:
        """This widget with its present view as one HTML page; see `labkit.explorer.page.page`."""
        return page.page(self.header, self.buffer, {name: getattr(self, name) for name in views.VIEW}, title)

    def what_if(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The filter and the scores that would result if one position sampled other points.

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
        with torch.inference_mode():
            points = points_of(model, MODES[mode], x_supp, x_q)
            before = model.filters(x_supp, x_q, points)
            asked = points.clone()
            asked[0, 0, 0, :, :, i, j] = _asked_points(request.get("points"), Cells.of(model))
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
        file = self._new_file("svg")
        write_atomically(file, svg.encode())
        write_atomically(file.with_suffix(".png"), pixels)
        how = {"how": dict(state), "versions": versions()}
        write_atomically(file.with_suffix(".json"), json.dumps(how, indent=1, default=str).encode())
        return file

    def _new_file(self, kind: str) -> Path:
        return self.folder / "figures" / f"explorer-{datetime.now():%Y%m%d-%H%M%S-%f}.{kind}"

    def answer(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """What the browser asks. An error is an answer too: a widget that falls silent helps nobody."""
        kind = content.get("kind")
        try:
            if kind == "export":
                file = self.export(content["svg"], content["png"], content.get("state", {}))
                answer = {"kind": "written", "file": str(file), "also": ", .png and .json"}
            elif kind == "page":
                self.restore(content["view"])
                file = self._new_file("html")
                write_atomically(file, self.as_page().encode())
                answer = {"kind": "written", "file": str(file)}
            else:
                return
        except (ValueError, KeyError, TypeError, OSError) as error:
            answer = {"kind": "error", "text": f"{type(error).__name__}: {error}"}
        self.send(answer)

    def picture_of_view(self) -> bytes:
        """A PNG of what is looked at, for readers of a notebook whose widgets do not run; see `still`."""
        model, where = list(self.models.values())[self.checkpoint], (self.task, self.checkpoint)
        return still.picture(model, self.tasks[self.task], self.features[where], self.query, self.row, self.column)

    @staticmethod
    def _index(request: Mapping[str, Any], name: str, size: int) -> int:
        value = request.get(name)
        if not isinstance(value, int) or not 0 <= value < size:
            raise ValueError(f"{name} must be a whole number from 0 to {size - 1}, got {value!r}")
        return value


class Panel(ipywidgets.VBox):  # type: ignore[misc]  # has no types
    """An `Explorer`, the last of its children, shown after a still picture for readers whose widgets do not run."""

    def _ipython_display_(self, **_: Any) -> None:
        still.show(self, self.children[-1].picture_of_view())

    def __repr__(self) -> str:
        return repr(self.children[-1])


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
    search: Sequence[int] = (),
    view: str = "",
) -> Panel:
    """An `Explorer` under two sliders, row and column of the query position, linked with it in the browser.

    Args:
        models, folder: see `Explorer`.
        images, episodes, way, shots, query, seed: which tasks; see `tasks_of`.
        tasks: the tasks themselves, instead of `images`, for example of one's own pictures.
        search: more episodes, to be searched for views worth a look; those that hold one are added.
        view: what to look at first; see `Explorer.view`.
    """
    checks.kind("models", models, Mapping, "DMF networks by the names they are shown under, {'mine': model}")
    if tasks is None:
        if images is None:
            raise ValueError("explore needs images or tasks")
        tasks = tasks_of(images, episodes, way, shots, query, seed)
        search = checks.several("search", search, "a list of whole numbers", least=0)
        if search:
            check(models, tasks)
            tasks += presets.search(next(iter(models.values())), images, search, way, shots[0], query, seed)
    explorer = Explorer(models, tasks, folder)
    if view:
        explorer.restore(view)
    blocks = [block for of_task in explorer.header["blocks"] for block in of_task]
    sliders = []
    for name, side in (("row", "h"), ("column", "w")):
        last = max(block[side] for block in blocks) - 1
        # Without its number, which counts from 0: the widget's caption says where, counted from 1.
        slider = ipywidgets.IntSlider(getattr(explorer, name), 0, last, description=name, readout=False)
        ipywidgets.jslink((slider, "value"), (explorer, name))
        sliders.append(slider)
    return Panel([ipywidgets.HBox(sliders), explorer])


def _asked_points(points: Any, cells: Cells) -> Tensor:
    """Nine points in pixels, None for one that is not read, as feature cells [9, 2]."""
    try:
        asked = [[FAR, FAR] if p is None else [(float(v) - cells.first) / cells.stride for v in p] for p in points]
        found = torch.tensor(asked)
    except (TypeError, ValueError):
        found = torch.empty(0)
    if found.shape != (9, 2) or not found.isfinite().all():
        raise ValueError("points must be nine pairs (y, x) of finite numbers, or None for one that is not read")
    return found
