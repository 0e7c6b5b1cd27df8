"""Views worth a look, found by a search: which query, class and position show an effect most strongly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.explorer.precompute import MODES, Features, embed, points_of, score
from labkit.explorer.tasks import Task, tasks_of
from labkit.methods.cells import Cells

ORDER = ("sure", "helped", "harmed", "hopeless", "far", "another class")
RAREST = ("harmed", "helped", "hopeless", "far", "another class", "sure")  # whose tasks are kept if not all can be
SURE = 0.5  # of the spread: how far a sure answer leads at least
FAR = 1.0  # cells: how far outside the nine points lie at least, in the mean, to be called far


@dataclass(frozen=True)
class Found:
    """How strongly a view shows an effect, what it is to be called, why, and where it is: traits of the widget.

    `free` names the traits that may change without what `why` says becoming wrong; the time is always free.
    """

    strength: float
    title: str
    why: str
    state: dict[str, Any]
    free: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[tuple[str, Any], ...]:
        """Where it is, to be compared with other views."""
        return tuple(sorted(self.state.items()))


def margins(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """How far the true class leads over the best other one, and which that is: [Q] each, of scores [Q, N], N > 1.

    The lead is a share of the spread, from the worst score to the best (of two classes, of the longer score), since
    alignment makes all scores grow, and every lead in score units with them. See `standings` in data.js.
    """
    others = scores.scatter(1, labels[:, None], -torch.inf)
    best, rival = others.max(1)
    spread = scores.amax(1) - scores.amin(1) if scores.shape[1] > 2 else scores.abs().amax(1)
    lead = scores.gather(1, labels[:, None])[:, 0] - best
    return lead / spread.clamp(min=torch.finfo(scores.dtype).tiny), rival


def views_of(model: DMF, task: Task, features: Features, number: int = 0) -> dict[str, Found]:
    """The strongest view of every effect in one task whose labels are known; effects that do not occur are left out.

    Args:
        number: of the task in the widget.
    """
    if task.labels is None or len(task.names) < 2:
        return {}
    x_supp, x_q, labels = features.x_supp, features.x_q, torch.tensor(task.labels)
    with torch.inference_mode():
        points = {mode: points_of(model, mode, x_supp, x_q) for mode in MODES}
        scores = {mode: score(model, x_supp, x_q, p).cpu() for mode, p in points.items()} | {
            "none": score(model, x_supp, x_q).cpu()
        }
        filters = model.filters(x_supp, x_q, points["trained"])[0, :, :, :, 0].cpu()  # [Q, N, g, h, w]
    trained, rival = margins(scores["trained"], labels)
    bare, bare_rival = margins(scores["none"], labels)
    best_of_all = torch.stack([margins(s, labels)[0] for s in scores.values()]).amax(0)
    h, w = filters.shape[-2:]
    cells = Cells.of(model)
    px = cells.to_pixels(points["trained"][0].cpu())  # [Q, N, 9, 2, h, w]
    size, each = task.query.shape[1], torch.arange(len(labels))
    beyond = torch.maximum(-0.5 - px, px - (size - 0.5)).clamp(min=0).norm(dim=3)
    outside = (beyond > 0).sum(2)[each, labels]  # [Q, h, w]
    # As many points outside as there are; of those, the farthest. The mean distance, below 1000 px, breaks ties.
    mean = beyond.mean(2)[each, labels]
    far = torch.where(mean >= FAR * cells.stride, outside + mean / 1000, 0)
    apart = (filters[each, labels] - filters[each, rival]).abs().mean(1)
    found = {}

    def keep(name: str, strength: Tensor, title: str, why: str, *free: str) -> None:
        """Where `strength` [Q] or [Q, h, w] is largest, if it is above zero there."""
        at = int(strength.argmax())
        q, cell = (at, (h // 2) * w + w // 2) if strength.dim() == 1 else divmod(at, h * w)
        if float(strength.flatten()[at]) <= 0:
            return
        numbers = {
            "margin": f"{abs(trained[q]) * 100:.0f}\u00a0%",
            "bare": f"{abs(bare[q]) * 100:.0f}\u00a0%",
            "bare_side": "leads" if bare[q] > 0 else "is behind",
            "true": f"'{task.names[labels[q]]}'",
            "rival": f"'{task.names[rival[q]]}'",
            "bare_rival": f"'{task.names[bare_rival[q]]}'",
            "outside": int(outside[q, cell // w, cell % w]),
            "apart": f"{apart[q, cell // w, cell % w]:.2f}",
        }
        where = {"task": number, "query": q, "support_class": int(labels[q]), "row": cell // w, "column": cell % w}
        found[name] = Found(float(strength.flatten()[at]), title, why.format(**numbers), where | {"time": 1.0}, free)

    keep(
        "sure",
        torch.where((bare > 0) & (trained >= SURE), trained, 0),
        "A sure answer",
        "{true} leads by {margin} of the spread; without alignment it {bare_side} by {bare}.",
    )
    keep(
        "helped",
        torch.minimum(trained, -bare),
        "Alignment corrects the answer",
        "Without alignment {true} is behind {bare_rival} by {bare} of the spread; with it {true} leads by {margin}. "
        "Press Play.",
    )
    keep(
        "harmed",
        torch.minimum(-trained, bare),
        "Alignment spoils the answer",
        "Without alignment {true} leads by {bare} of the spread; with it {rival} leads by {margin}. Press Play.",
    )
    keep(
        "hopeless",
        -best_of_all,
        "A wrong answer that no alignment gets right",
        "{true} is behind {rival} by {margin} of the spread; it is also behind with untrained offsets, with none, and "
        "without alignment (by {bare}).",
        "mode",
    )
    keep(
        "far",
        far,
        "Points far outside",
        "{outside} of the 9 points lie outside the picture and read zeros, or partly so.",
    )
    keep(
        "another class",
        apart,
        "The same query against another class",
        "Choose {rival} in the list of scores, and {true} again: at this cell their filters differ by {apart} in the "
        "mean over the groups.",
        "support_class",
    )
    return found


def strongest(found: Iterable[Mapping[str, Found]]) -> dict[str, Found]:
    """The strongest view of each effect among those of several tasks, the rarest effects first; no view twice."""
    best: dict[str, Found] = {}
    known = list(found)
    for name in RAREST:
        taken = {view.place for view in best.values()}
        left = [views[name] for views in known if name in views and views[name].place not in taken]
        if left:
            best[name] = max(left, key=lambda view: view.strength)
    return best


def find(model: DMF, tasks: Sequence[Task], features: Mapping[int, Features]) -> list[dict[str, Any]]:
    """The strongest view of each effect over all tasks, as JSON types for the widget: title, why, state, free."""
    best = strongest(views_of(model, task, features[number], number) for number, task in enumerate(tasks))
    return [
        {"title": v.title, "why": v.why, "state": v.state | {"checkpoint": 0}, "free": list(v.free)}
        for v in (best[name] for name in ORDER if name in best)
    ]


def search(
    model: DMF,
    images: ImageSet,
    episodes: Sequence[int],
    way: int = 5,
    shot: int = 1,
    query: int = 1,
    seed: int = 0,
    most: int = len(ORDER),
) -> list[Task]:
    """The tasks among `episodes` of an `ImageSet` that hold the strongest view of an effect, each once, in order.

    Of more than `most` tasks those are kept that hold an effect of the first ones in `RAREST`.
    """
    tasks: dict[int, Task] = {}

    def views() -> Iterator[dict[str, Found]]:
        for number in episodes:
            (task,) = tasks_of(images, [number], way, (shot,), query, seed)
            found = views_of(model, task, embed(model, task), number)
            if found:
                tasks[number] = task
            yield found

    best = strongest(views())
    kept = list(dict.fromkeys(best[name].state["task"] for name in RAREST if name in best))[:most]
    return [tasks[number] for number in sorted(kept)]
