"""What the ODE of Eq. 9 buys, solver by solver, over easy and hard tasks. ``dmf-lab figure solvers`` measures it.

Every rule aligns the same episodes and is held to an exact solution: at kernel size 1 to the closed form X exp(f); at
3, where positions act on one another, to a matrix exponential, and with the released code's ReLU, which leaves nothing
linear, to dopri8 at tolerances of 1e-7.

Easy and hard were fixed before anything was solved: no clutter and the object in the middle, against eight clutter
glyphs and the object anywhere. Half of the episodes each, drawn from the novel classes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchdiffeq import odeint

from labkit.common import places
from labkit.common.devices import one_thread
from labkit.common.timing import alternate
from labkit.data import load_images
from labkit.data.glyphs.scene import Difficulty
from labkit.dmf import alignment
from labkit.dmf.alignment import Rule, integrate, parse_rule
from labkit.dmf.model import DMF
from labkit.dmf.sampling import dynamic_convolution
from labkit.episodes.sampler import EpisodeSampler
from labkit.methods.base import mean_of_shots
from labkit.models.checkpoints import load_model
from labkit.sweeps.kept import write_result

RESULTS = places.RESULTS / "solvers.json"
TASKS = {"easy": Difficulty(clutter=0, displacement=0.0), "hard": Difficulty(clutter=8, displacement=1.0)}
RULES: dict[str, Rule] = {
    "rk4": parse_rule("rk4"),
    **{f"dopri5, {tol:g}": parse_rule("dopri5", tol, tol) for tol in (1e-2, 1e-3, 1e-5, 1e-7)},
    **{f"euler({t})": parse_rule(f"euler({t})") for t in (1, 2, 3, 10, 100)},
    **{f"recurrent({t})": parse_rule(f"recurrent({t})") for t in (1, 2, 3)},
}


@dataclass(frozen=True)
class Task:
    """One ``"easy"`` or ``"hard"`` episode as the network sees it: [1, N, c, h, w], [1, Q, c, h, w] and labels [Q]."""

    kind: str
    x_supp: Tensor
    x_q: Tensor
    labels: Tensor


def tasks(model: DMF, each: int, query: int) -> Iterator[Task]:
    """`each` easy episodes of novel classes and as many hard ones, 5-way 1-shot, `query` queries a class."""
    for kind in TASKS:
        images = load_images("glyphs-mini", "test", size=40, per_class=60, difficulty=TASKS[kind], progress=False)
        sampler = EpisodeSampler(images, 5, 1, query, preprocessing=model.preprocessing)
        for i in range(each):
            episode = sampler.batch([i])
            with torch.no_grad():
                support, x_q = model.embed(episode.support), model.embed(episode.query)
            yield Task(kind, mean_of_shots(support), x_q, episode.query_labels[0])


def with_kernel_3(model: DMF) -> DMF:
    """`model` with k = 3: its own psi for each of the nine taps, disturbed by a tenth so that no two are alike.

    Not trained: there is no trained network with k = 3. Its filters have the trained ones' size.
    """
    options = model.backbone_options
    wide = DMF("resnet12", model.groups, "paper", kernel=3, classes=model.classes, backbone_options=options)
    psi = model.filter_conv.weight.detach()
    noise = torch.randn(9 * len(psi), *psi.shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wide.filter_conv.weight.copy_(psi.repeat_interleave(9, 0) + 0.1 * psi.std() * noise)
        wide.offset_conv.weight.copy_(model.offset_conv.weight)
    wide.backbone, wide.preprocessing = model.backbone, model.preprocessing
    return wide.eval()


def operator(filters: Tensor) -> Tensor:
    """The dynamic convolution as matrices: filters [..., g, k^2, h, w] to [..., g, h w, h w], for maps as vectors.

    Column j is what the convolution makes of a map that is 1 at position j and 0 elsewhere.
    """
    *lead, groups, _, h, w = filters.shape
    cells = h * w
    units = torch.eye(cells, dtype=filters.dtype).view(cells, 1, h, w).expand(*lead, cells, groups, h, w)
    for_each = filters.unsqueeze(-5).expand(*lead, cells, *filters.shape[-4:])
    return dynamic_convolution(units.contiguous(), for_each).flatten(-2).movedim(-3, -1).contiguous()


def exact_linear(x: Tensor, filters: Tensor) -> Tensor:
    """X(1) of dX/dt = f * X: a matrix exponential for every group. x [P, c, h, w], filters [P, g, k^2, h, w]."""
    groups = filters.shape[1]
    flow = torch.linalg.matrix_exp(operator(filters))  # [P, g, h w, h w]
    vectors = x.view(len(x), groups, -1, x.shape[-2] * x.shape[-1])
    return torch.einsum("pgij,pgdj->pgdi", flow, vectors).reshape(x.shape)


def field(x: Tensor, filters: Tensor, relu: bool) -> Tensor:
    """F(X), the right-hand side of Eq. 9; the released code takes its positive part."""
    y = dynamic_convolution(x, filters)
    return y.relu() if relu else y


def by_dopri8(x: Tensor, filters: Tensor, relu: bool, tolerance: float = 1e-7) -> Tensor:
    """X(1) by an eighth-order solver. The ReLU's kinks cost it its order: 1e-7 takes 2500 evaluations, 1e-10 no end."""
    clock = torch.tensor([0.0, 1.0], dtype=torch.float64)
    solved: Tensor = odeint(
        lambda _, y: field(y, filters, relu), x, clock, rtol=tolerance, atol=tolerance, method="dopri8"
    )
    return solved[-1]


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Largest difference over largest value."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


def kernel_1(model: DMF, each: int, query: int = 5) -> list[dict[str, Any]]:
    """A row for every task and rule: error of the gain against exp(f), NFE, accuracy in percent."""
    rows = []
    for number, task in enumerate(tasks(model, each, query)):
        with torch.no_grad():
            f = model.filters(task.x_supp, task.x_q)
            exact = f.double().exp()
            for name, rule in {"closed": parse_rule("closed"), **RULES}.items():
                gain, nfe = alignment.gain(f, rule)
                changed = model.variant(alignment=str(rule), rtol=rule.rtol, atol=rule.atol)
                scores = changed.score_maps(task.x_supp, task.x_q, f).mean((-2, -1))[0]
                hits = 100 * float((scores.argmax(-1) == task.labels).float().mean())
                row = {"task": number, "kind": task.kind, "rule": name, "nfe": nfe[0], "accuracy": hits}
                rows.append(row | {"error": relative_error(gain, exact)})
    return rows


def kernel_3(model: DMF, each: int, relu: bool, query: int = 1) -> list[dict[str, Any]]:
    """A row for every task and rule: error of the aligned maps against the exact ones, and NFE."""
    wide = with_kernel_3(model)
    rows = []
    for number, task in enumerate(tasks(model, each, query)):
        with torch.no_grad():
            filters, x = pairs(wide, task)
            exact = by_dopri8(x, filters, True) if relu else exact_linear(x, filters)
            for name, rule in RULES.items():
                if relu and name == "dopri5, 1e-07":
                    continue  # tighter than what it would be held to
                found, nfe = integrate(partial(field, filters=filters, relu=relu), x, rule)
                row = {"task": number, "kind": task.kind, "rule": name, "nfe": nfe}
                rows.append(row | {"error": relative_error(found, exact)})
    return rows


def pairs(wide: DMF, task: Task) -> tuple[Tensor, Tensor]:
    """Filters [Q, g, k^2, h, w] and maps [Q, c, h, w] of every query of a task with its own class, in float64.

    In float32 dopri5 never ends at a tolerance of 1e-7: rounding alone is larger than the error it allows.
    """
    filters = wide.filters(task.x_supp, task.x_q)[0]
    return filters[torch.arange(len(filters)), task.labels].double(), task.x_q[0].double()


def times(model: DMF, runs: int = 15) -> dict[str, dict[str, float]]:
    """Median time of each rule on one task: at k = 1 as a multiple of the closed form's, at k = 3 of RK4's."""
    task = next(tasks(model, 1, 5))
    wide = with_kernel_3(model)
    with torch.no_grad():
        f = model.filters(task.x_supp, task.x_q)
        filters, x = pairs(wide, task)
        one = {
            name: partial(alignment.gain, f, rule) for name, rule in {"closed": parse_rule("closed"), **RULES}.items()
        }
        three = {
            name: partial(integrate, partial(field, filters=filters, relu=False), x, rule)
            for name, rule in RULES.items()
        }
        measured = [alternate(forms, runs, "cpu") for forms in (one, three)]
    medians = [{name: float(np.median(t)) for name, t in part.items()} for part in measured]
    return {
        kernel: {name: round(value / part[against], 2) for name, value in part.items()}
        for kernel, part, against in zip(("k = 1", "k = 3"), medians, ("closed", "rk4"), strict=True)
    }


def summarise(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A line for every rule: error, NFE over easy and hard tasks, accuracy where there is one, and whether NFE varies.

    ``nfe with accuracy`` is the correlation of NFE with the accuracy of a task; absent where NFE is constant.
    """
    table = pd.DataFrame(rows)
    lines = []
    for rule, part in table.groupby("rule", sort=False):
        line: dict[str, Any] = {
            "rule": rule,
            "error, median": part["error"].median(),
            "error, max": part["error"].max(),
        }
        for kind, own in part.groupby("kind"):
            line[f"nfe, {kind}"] = (
                f"{own['nfe'].min()} to {own['nfe'].max()}" if own["nfe"].nunique() > 1 else str(own["nfe"].iloc[0])
            )
            if "accuracy" in own:
                line[f"accuracy, {kind}"] = round(own["accuracy"].mean(), 2)
        if "accuracy" in part and part["nfe"].nunique() > 1:
            line["nfe with accuracy"] = round(part["nfe"].corr(part["accuracy"]), 2)
        lines.append(line)
    return pd.DataFrame(lines).set_index("rule")


@one_thread()
def run(out: Path = RESULTS) -> None:
    """Measure everything over 200 tasks and write the result."""
    model: Any = load_model("quick")
    studies = {
        "k = 1": kernel_1(model, 100),
        "k = 3": kernel_3(model, 100, relu=False),
        "k = 3, relu": kernel_3(model, 100, relu=True),
    }
    content = {
        "threads": torch.get_num_threads(),
        "tasks": {name: len({r["task"] for r in rows}) for name, rows in studies.items()},
        "summary": {name: json.loads(summarise(rows).to_json(orient="index")) for name, rows in studies.items()},
        "nfe": {name: {kind: _counts(rows, kind) for kind in TASKS} for name, rows in studies.items()},
        "relative_time": times(model),
    }
    write_result(out, __doc__, "dmf-lab figure solvers", content)


def _counts(rows: list[dict[str, Any]], kind: str) -> dict[str, dict[str, int]]:
    """How many tasks took how many evaluations, for the adaptive rules."""
    adaptive = [r for r in rows if r["kind"] == kind and r["rule"].startswith("dopri5")]
    table = pd.DataFrame(adaptive)
    return {
        str(rule): {str(k): int(v) for k, v in part["nfe"].value_counts().sort_index().items()}
        for rule, part in table.groupby("rule", sort=False)
    }
