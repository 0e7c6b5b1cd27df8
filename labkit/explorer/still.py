"""The still picture that stands in a widget's place where no widget runs: on a code host, or without a kernel.

A notebook's viewer shows one form of an output, and a trusted JupyterLab the widget, also where its kernel is gone. So
the picture is an output of its own before the widget, which is always shown; the widget's style sheet, which is there
only while a widget lives, hides it (`LIVE`). What JupyterLab says in the place of a widget that is gone is hidden by a
style in an output between the two.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.patches import Rectangle

from labkit import plotting
from labkit.dmf.model import DMF
from labkit.explorer.precompute import MODES, Features, points_of
from labkit.explorer.tasks import Task
from labkit.methods.cells import Cells

SAID = "A still picture of the explorer. For the live one, run the cells of this notebook in JupyterLab."
LIVE = "dmf-after-still"  # the class of a widget whose previous outputs are hidden, see explorer.css and drop.css
HIDES_AN_ERROR = """<style>
.jp-OutputArea-child:has(.dmf-no-error),
.jp-OutputArea-child:has(.dmf-no-error) + .jp-OutputArea-child:not(:has(> .jp-OutputArea-output *)) { display: none; }
</style><span class="dmf-no-error"></span>"""


def show(widget: Any, png: bytes | None) -> None:
    """Show a live widget, after its still picture for readers whose widgets do not run."""
    widget.add_class(LIVE)
    view = widget._repr_mimebundle_()
    live, about = view if isinstance(view, tuple) else (view, {})
    outputs = [live]
    if png:
        text = live.pop("text/plain", "")  # would stand below the picture where no widget runs
        still = {"image/png": base64.b64encode(png).decode(), "text/plain": text}
        outputs = [still, {"text/html": HIDES_AN_ERROR}, live]
    for output in outputs:
        display(output, raw=True, metadata=about)  # type: ignore[no-untyped-call]


def picture(model: DMF, task: Task, features: Features, query: int, row: int, column: int) -> bytes:
    """A PNG: a query with one of its cells, and where the network looks for it in up to five classes.

    It says that it is still and how to get the live one. About 1080 pixels wide, so that nothing in it is too small to
    be read where a page makes it narrower.
    """
    cells = Cells.of(model)
    stride = cells.stride
    with torch.inference_mode():
        points = points_of(model, MODES[0], features.x_supp, features.x_q)[0, query]
        scores = model.score(features.x_supp[:, :, None], features.x_q)[0, query]
    looked = cells.to_pixels(points)[..., row, column].cpu().numpy()
    y, x = cells.to_pixels(np.array([row, column], dtype=float))
    grid = np.stack(np.meshgrid([y - stride, y, y + stride], [x - stride, x, x + stride], indexing="ij"), 2)
    shown = min(5, len(task.names))
    with plt.rc_context({"font.size": 10}):
        figure, axes = plt.subplots(1, 1 + shown, figsize=(max(8.5, 1.8 * (1 + shown)), 2.9), layout="constrained")
        figure.suptitle(SAID, fontsize=11, x=0.01, ha="left")
        plotting.show_image(axes[0], task.query[query], "query")
        for colour, width in (("black", 6.5), ("white", 5), (plotting.GREEN, 2.5)):
            corner = (x - stride / 2, y - stride / 2)
            axes[0].add_patch(Rectangle(corner, stride, stride, fill=False, edgecolor=colour, linewidth=width))
        axes[0].set_xlabel("green: one cell of it", labelpad=9)
        for n, ax in enumerate(axes[1:]):
            plotting.show_image(ax, task.support[n, 0], task.names[n])
            plotting.show_points(ax, task.support.shape[2], looked[n], grid.reshape(9, 2))
            right = task.labels is not None and task.labels[query] == n
            ax.set_xlabel(f"score {scores[n]:.2f}{', true class' if right else ''}", labelpad=9)
        content = io.BytesIO()
        figure.savefig(content, format="png", bbox_inches="tight")
        plt.close(figure)
    return content.getvalue()
