"""Accuracy against displacement, clutter and contrast; ``dmf-lab figure displacement`` measures it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from labkit.common import places
from labkit.data.glyphs.scene import Difficulty
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation import intervals
from labkit.evaluation.features import FewShotModel, embed, eval_mode
from labkit.evaluation.play import Draw, Features, on_features
from labkit.evaluation.provenance import digest
from labkit.methods.cells import Cells
from labkit.studies.displacement import levels as design
from labkit.studies.displacement.levels import Level, Plan, Step, all_levels, boxes, travel
from labkit.studies.figure3_sampling import own_points
from labkit.studies.networks import Network
from labkit.sweeps.kept import write_result
from labkit.sweeps.sweep import refuse_failed, sweep

RESULTS = places.RESULTS / "displacement.json"
VERSION = 1  # of what is measured at a level
BASELINE = "no alignment"
REMEDY = "DMF from the best match"
# All trained in the quick setting, seed 0. What is switched off is switched in a network that was trained without it.
METHODS = {
    BASELINE: Network("quick-none"),
    "DMF": Network("quick"),
    "DMF, alignment switched off": Network("quick", {"alignment": "none"}),
    "DMF without dynamic sampling": Network("quick-grid"),
    REMEDY: Network("quick-match"),
    "CAN": Network("quick-can"),
}
Study = tuple[dict[Level, NDArray[np.float64]], dict[Level, float]]
"""Of every level, the accuracy of every episode; and of some, where the samples land. See `study`."""


def embedder(model: FewShotModel, plan: Plan) -> Callable[[Difficulty], Features]:
    """Features of all images of a difficulty, each set embedded once for all episodes that show it."""

    @lru_cache(maxsize=2 * len(design.DIRECTIONS))
    def features(difficulty: Difficulty) -> Features:
        images = plan.images(difficulty)
        own: Preprocessing | None = getattr(model, "preprocessing", None)
        return Features(embed(model, images.pixels, own or Preprocessing.of(images), "cpu"))

    return features


def play(
    model: FewShotModel, level: Level, features: Callable[[Difficulty], Features], draws: Sequence[Draw]
) -> NDArray[np.float64]:
    """Accuracy of every episode of a level, in percent: [episodes]."""
    found = np.empty(len(draws))
    for i, draw in enumerate(draws):
        shown, asked = level.pair(i)
        episode = on_features([draw], features(shown), features(asked))
        found[i] = episode.accuracy(model.score(episode.support, episode.query))[0]
    return found


P = TypeVar("P", bound=Step)


def compare(played: Mapping[str, Mapping[P, NDArray[np.float64]]], baseline: str = BASELINE) -> list[dict[str, Any]]:
    """A row for every level and method, from the accuracy of every episode.

    Every entry has its half width beside it, as "... ci95", and all but the first are differences over the same
    episodes, in points:

    * accuracy, in percent;
    * gain: over the baseline at the same level;
    * fall: against the same method at the study's first level, and fall beyond: less what the baseline falls;
    * apart: against the same method at the same places, together; and apart beyond: less the same of the baseline.

    Raises:
        KeyError: the baseline was not played.
    """
    rows = []
    for method, own in played.items():
        first: dict[str, P] = {}
        of = {(level.study, level.value): level for level in own}
        for level, values in own.items():
            base = played[baseline]
            start = first.setdefault(level.study, level)
            measured = {"accuracy": values, "gain": values - base[level], "fall": values - own[start]}
            measured["fall beyond"] = measured["fall"] - (base[level] - base[start])
            together = of.get((level.study.replace("apart", "together"), level.value))
            if level.study.startswith("apart") and together:
                measured["apart"] = values - own[together]
                measured["apart beyond"] = measured["apart"] - (base[level] - base[together])
            row: dict[str, Any] = {"study": level.study, "level": level.value, "method": method}
            rows.append(row | intervals.row(measured))
    return rows


def landing(
    model: DMF, level: Level, plan: Plan, features: Callable[[Difficulty], Features], draws: Sequence[Draw]
) -> float:
    """Percent of the points sampled for cells on a query's object that lie on the object of its own class's support.

    Both objects are taken by their boxes, and only the first shot is looked at; a cell is on an object where its centre
    is.
    """
    inside, sampled, in_pixels = 0.0, 0.0, Cells.of(model).to_pixels
    for i, draw in enumerate(draws):
        shown, asked = level.pair(i)
        episode, (_, support, query, labels) = on_features([draw], features(shown), features(asked)), draw
        starts, offsets = own_points(model, episode.support[:, :, 0], episode.query, torch.from_numpy(labels)[None])
        side = offsets.shape[-1]
        own = in_pixels((starts + offsets)[0].numpy())
        target = boxes(plan, shown)[support[labels, 0]][:, None]
        cells = in_pixels(np.indices((side, side), dtype=float))[None]
        on_query = _within(cells, boxes(plan, asked)[query])
        hit = _within(own, target) & on_query[:, None]
        inside, sampled = inside + hit.sum(), sampled + own.shape[1] * on_query.sum()
    return float(100 * inside / sampled)


def _within(points: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points (y, x), [..., 2, h, w], lie in boxes [..., 4] of top, left, bottom and right: [..., h, w]."""
    low, high = (edge[..., None, None] - 0.5 for edge in (box[..., :2], box[..., 2:]))  # pixel 0 begins at -1/2
    found: NDArray[np.bool_] = np.all((points >= low) & (points <= high), axis=-3)
    return found


def study(model: Any, wanted: Sequence[Level], plan: Plan, title: str = "") -> Study:
    """Play `wanted` with one method, under a progress bar where there is a title.

    Returns:
        of every level the accuracy of every episode; of every placed one, if the method is a `DMF` that aligns, its
        `landing` in 200 episodes, in percent.
    """
    draws, features = plan.draws(), embedder(model, plan)
    played, landed = {}, {}
    with eval_mode(model):
        for level in tqdm(wanted, desc=title, disable=not title):
            played[level] = play(model, level, features, draws)
            if isinstance(model, DMF) and model.rule.name != "none" and level.support[0].position is not None:
                landed[level] = landing(model, level, plan, features, draws[:200])
    return played, landed


def measure_method(parameters: dict[str, Any], _: Path, weights: Path | None = None) -> dict[str, Any]:
    """`study` of one method as a run of a sweep, in JSON types; the digest makes other weights another run.

    `weights` is a folder with models that are not shipped.
    """
    model, wanted = METHODS[parameters["method"]].load(weights), all_levels()
    played, landed = study(model, wanted, Plan(**parameters["plan"]))
    return {"played": [played[level].tolist() for level in wanted], "landed": [landed.get(level) for level in wanted]}


def study_of(result: Mapping[str, Any]) -> Study:
    """The result of `measure_method` in the form in which `study` returns it."""
    by_level = list(zip(all_levels(), result["played"], result["landed"], strict=True))
    played = {level: np.array(values) for level, values, _ in by_level}
    return played, {level: share for level, _, share in by_level if share is not None}


def gather(studies: Mapping[str, Study], digests: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    """The content of `RESULTS` from every method's `study` and `digest`; its "remedy" compares `REMEDY` with DMF."""
    played = {name: own for name, (own, _) in studies.items()}
    return {
        "plan": asdict(plan),
        "methods": {name: METHODS[name].about() | {"digest": digests[name]} for name in studies},
        "travel": [
            {"study": level.study, "level": level.value, "share of the side": round(travel(level, plan), 3)}
            for level in played[BASELINE]
            if level.study.startswith("apart")
        ],
        "landing": [
            {"study": level.study, "level": level.value, "method": name, "on object": round(share, 2)}
            for name, (_, landed) in studies.items()
            for level, share in landed.items()
        ],
        "rows": compare(played),
        "remedy": [row for row in compare(played, baseline="DMF") if row["method"] == REMEDY],
    }


def run(weights: Path | None = None, out: Path = RESULTS, kept: Path = Path("runs/limits")) -> None:
    """Measure what is not measured yet, a method at a time, and write the result; what has no weights is left out.

    Args:
        weights: a folder with models that are not shipped, NAME.safetensors.
        kept: folder of the sweep in which finished methods are kept.
    """
    plan, digests = Plan(), {}
    for name, network in METHODS.items():
        try:
            digests[name] = digest(network.load(weights))
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}")
    runs = [{"method": name, "digest": found, "plan": asdict(plan)} for name, found in digests.items()]
    done = sweep(partial(measure_method, weights=weights), runs, folder=kept, version=VERSION)
    refuse_failed(done.failed)  # the others are kept, and a study without one of its methods is not written
    studies = {row["parameters"]["method"]: study_of(row["result"]) for row in done.rows}
    write_result(out, design.__doc__, "dmf-lab figure displacement", gather(studies, digests, plan))
