"""The limit of section 5.4, an object in very different parts of support and query.

``python -m labkit.studies.displacement`` measures it.


The design is paired. Every method plays the same episodes at every level, with the same characters, backgrounds,
clutter and grain; only what the level names changes. At distance d the supports' objects are placed at 1/2 + d/2 of the
room around them, in one of eight directions, and the queries' at 1/2 - d/2 ("apart"): at distance 1 they lie at
opposite edges or in opposite corners. Edges are hard by themselves, so the same places are measured once more with
support and query on the same side ("together"): what "apart" costs beyond that is owed to the distance alone. The
objects are small, 0.4 to 0.5 of the image's side, or there would be nowhere to go.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from labkit import plotting
from labkit.common import places
from labkit.common.files import write_atomically
from labkit.common.versions import versions
from labkit.data import load_images
from labkit.data.glyphs.scene import DEFAULT, Difficulty
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.dmf.sampling import to_pixels
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.protocol import FewShotModel, estimate
from labkit.models.checkpoints import load_model
from labkit.studies.figure3_sampling import own_points

RESULTS = places.RESULTS / "limits.json"
BASELINE = "no alignment"
REMEDY = "DMF from the best match"
# What `load_model` takes, the changes of `DMF.variant`, and a colour; all trained in the quick setting, seed 0. What is
# "switched" is changed in a network that was trained without the change.
METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    BASELINE: ("quick-none", {}, plotting.BLACK),
    "DMF": ("quick", {}, plotting.BLUE),
    "DMF, alignment switched off": ("quick", {"alignment": "none"}, plotting.BLUE),
    "DMF without dynamic sampling": ("quick-grid", {}, plotting.ORANGE),
    REMEDY: ("quick-match", {}, plotting.GREEN),
    "CAN": ("quick-can", {}, plotting.PINK),
}
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # (y, x), from query to support
SMALL = (0.4, 0.5)
DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
CLUTTERS = (0, 2, 4, 8, 16)
CONTRASTS = (0.9, 0.7, 0.5, 0.3, 0.1)


@dataclass(frozen=True)
class Level:
    """One point of a curve: what the supports and what the queries of an episode look like.

    Attributes:
        study: the curve's name; its first level, the easiest, is what the others are compared with.
        value: on its horizontal axis.
        support, query: one or more pairs of difficulties; episode i takes pair i modulo their number.
    """

    study: str
    value: float
    support: tuple[Difficulty, ...]
    query: tuple[Difficulty, ...]

    def only(self, pair: int) -> Level:
        """The same with one of its pairs, number `pair` modulo their number: of a placed level, one direction."""
        k = pair % len(self.support)
        return replace(self, support=(self.support[k],), query=(self.query[k],))


Study = tuple[dict[Level, NDArray[np.float64]], dict[Level, float]]
"""Of every level, the accuracy of every episode; and of some, where the samples land. See `study`."""


@dataclass(frozen=True)
class Plan:
    """The images and the episodes, the same at every level.

    Attributes:
        split, size, per_class: of `load_images("glyphs-mini", ...)`.
        way, shot, query, seed: of `EpisodeSampler`.
        episodes: 0 to `episodes` - 1 are played.
    """

    split: str = "test"
    size: int = 40
    per_class: int = 32
    way: int = 5
    shot: int = 1
    query: int = 15
    seed: int = 0
    episodes: int = 600

    def images(self, difficulty: Difficulty) -> ImageSet:
        """The same scenes at any difficulty, but for what the difficulty says."""
        return load_images(
            "glyphs-mini",
            self.split,
            size=self.size,
            per_class=self.per_class,
            difficulty=difficulty,
            progress=False,
        )

    def draws(self) -> list[tuple[NDArray[np.int64], ...]]:
        """`EpisodeSampler.indices` of every episode; no difficulty has a say in them."""
        sampler = EpisodeSampler(self.images(DEFAULT), self.way, self.shot, self.query, self.seed)
        return [sampler.indices(i) for i in range(self.episodes)]


def placed(distance: float, apart: bool) -> Level:
    """Objects `distance` of the room apart, in all `DIRECTIONS`; or in those same places, but together.

    Args:
        distance: 0, both in the middle, to 1, at opposite edges or in opposite corners.
        apart: the queries' objects on the side opposite to the supports', or on the same.
    """
    still = replace(DEFAULT, object_size=SMALL)
    ends = [
        tuple(
            replace(still, position=(0.5 + sign * distance / 2 * y, 0.5 + sign * distance / 2 * x))
            for y, x in (DIRECTIONS if distance else DIRECTIONS[:1])
        )
        for sign in (1, -1)
    ]
    return Level("apart" if apart else "together", distance, ends[0], ends[1] if apart else ends[0])


def levels() -> list[Level]:
    """All of the study; levels that show the same images follow one another."""
    found = [placed(d, apart) for d in DISTANCES for apart in (True, False)]
    for study, values in (("clutter", CLUTTERS), ("contrast", CONTRASTS)):
        for value in values:
            changes: dict[str, Any] = {study: value}
            shown = (replace(DEFAULT, **changes),)
            found.append(Level(study, value, shown, shown))
    return found


def embedder(model: FewShotModel, plan: Plan) -> Callable[[Difficulty], Tensor]:
    """Features [n, c, h, w] of all images of a difficulty, each set embedded once for all episodes that show it."""

    @lru_cache(maxsize=2 * len(DIRECTIONS))
    @torch.inference_mode()
    def features(difficulty: Difficulty) -> Tensor:
        images = plan.images(difficulty)
        own: Preprocessing | None = getattr(model, "preprocessing", None)
        preprocessing = own or Preprocessing.of(images)
        parts = images.tensor().split(256)
        return torch.cat([model.embed(preprocessing.normalise(preprocessing.to_unit(part))) for part in parts])

    return features


def play(
    model: FewShotModel,
    level: Level,
    features: Callable[[Difficulty], Tensor],
    draws: Sequence[tuple[NDArray[np.int64], ...]],
) -> NDArray[np.float64]:
    """Accuracy of every episode of a level, in percent: [episodes]."""
    found = np.empty(len(draws))
    with torch.inference_mode():
        for i, (_, support, query, labels) in enumerate(draws):
            pair = i % len(level.support)
            shown = features(level.support[pair])[torch.from_numpy(support)]
            asked = features(level.query[pair])[torch.from_numpy(query)]
            guess = model.score(shown[None], asked[None])[0].argmax(-1).numpy()
            found[i] = 100 * np.mean(guess == labels)
    return found


def compare(
    played: Mapping[str, Mapping[Level, NDArray[np.float64]]], baseline: str = BASELINE
) -> list[dict[str, Any]]:
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
        first: dict[str, Level] = {}
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
            for name, numbers in measured.items():
                row[name], row[f"{name} ci95"] = (round(v, 3) for v in estimate(numbers))
            rows.append(row)
    return rows


@lru_cache(maxsize=4 * len(DIRECTIONS))
def boxes(plan: Plan, difficulty: Difficulty) -> NDArray[np.float64]:
    """Top, left, bottom and right of every object, in pixels: [n, 4]."""
    masks = plan.images(difficulty).masks(slice(None))
    sides = []
    for inked in (masks.any(2), masks.any(1)):  # rows that hold ink, and columns
        first, last = inked.int().argmax(1), inked.shape[1] - inked.flip(1).int().argmax(1)
        sides.append((first, last))
    (top, bottom), (left, right) = sides
    return torch.stack([top, left, bottom, right], 1).double().numpy()


def travel(level: Level, plan: Plan) -> float:
    """Mean distance between the middles of objects of the same number in support and query, as a share of the side."""
    middles = [[boxes(plan, d).reshape(-1, 2, 2).mean(1) for d in side] for side in (level.support, level.query)]
    apart = [np.hypot(*(s - q).T).mean() / plan.size for s, q in zip(*middles, strict=True)]
    return float(np.mean(apart))


def landing(
    model: DMF,
    level: Level,
    plan: Plan,
    features: Callable[[Difficulty], Tensor],
    draws: Sequence[tuple[NDArray[np.int64], ...]],
) -> float:
    """Percent of the points sampled for cells on a query's object that lie on the object of its own class's support.

    Both objects are taken by their boxes, and only the first shot is looked at; a cell is on an object where its centre
    is.
    """
    inside = sampled = 0.0
    for i, (_, support, query, labels) in enumerate(draws):
        pair = i % len(level.support)
        with torch.inference_mode():
            x_supp = features(level.support[pair])[torch.from_numpy(support[:, 0])][None]
            x_q = features(level.query[pair])[torch.from_numpy(query)][None]
            starts, offsets = own_points(model, x_supp, x_q, torch.from_numpy(labels)[None])
        side = offsets.shape[-1]
        own = to_pixels((starts + offsets)[0].numpy(), model.stride)
        target = boxes(plan, level.support[pair])[support[labels, 0]][:, None]
        cells = to_pixels(np.indices((side, side), dtype=float), model.stride)[None]
        asked = _within(cells, boxes(plan, level.query[pair])[query])
        hit = _within(own, target) & asked[:, None]
        inside, sampled = inside + hit.sum(), sampled + own.shape[1] * asked.sum()
    return float(100 * inside / sampled)


def _within(points: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points (y, x), [..., 2, h, w], lie in boxes [..., 4] of top, left, bottom and right: [..., h, w]."""
    low, high = (edge[..., None, None] - 0.5 for edge in (box[..., :2], box[..., 2:]))  # pixel 0 begins at -1/2
    found: NDArray[np.bool_] = np.all((points >= low) & (points <= high), axis=-3)
    return found


def study(model: FewShotModel, wanted: Sequence[Level], plan: Plan, title: str = "") -> Study:
    """Play `wanted` with one method, under a progress bar where there is a title.

    Returns:
        of every level the accuracy of every episode; of every placed one, if the method is a `DMF` that aligns, its
        `landing` in 200 episodes, in percent.
    """
    draws, features = plan.draws(), embedder(model, plan)
    played, landed = {}, {}
    for level in tqdm(wanted, desc=title, disable=not title):
        played[level] = play(model, level, features, draws)
        if isinstance(model, DMF) and model.rule.name != "none" and level.support[0].position is not None:
            landed[level] = landing(model, level, plan, features, draws[:200])
    return played, landed


def kept_study(name: str, model: Any, wanted: Sequence[Level], plan: Plan, folder: Path) -> Study:
    """The `study` of a method, or what an earlier run of it, with these weights and this plan, left in `folder`."""
    about = [digest(model), METHODS[name][1], asdict(plan), [asdict(level) for level in wanted]]
    file = folder / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.npz"
    if not file.exists():
        played, landed = study(model, wanted, plan, name)
        content = io.BytesIO()
        lands = [landed.get(level, np.nan) for level in wanted]
        np.savez(content, played=[played[level] for level in wanted], landed=lands)
        write_atomically(file, content.getvalue())
    with np.load(file) as known:
        values, lands = known["played"], known["landed"]
    where = {level: float(v) for level, v in zip(wanted, lands, strict=True) if np.isfinite(v)}
    return dict(zip(wanted, values, strict=True)), where


def digest(model: torch.nn.Module) -> str:
    """sha256 (first 16 hex digits) of the names and values of a model's weights; in what file is all the same."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(name.encode() + value.cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def load_method(name: str, weights: Path | None = None) -> Any:
    """A model of `METHODS`, shipped with the lab or, as NAME.safetensors, in the folder `weights`.

    Raises:
        KeyError: no such method.
        FileNotFoundError: its weights are in neither place.
    """
    file, changes, _ = METHODS[name]
    mine = weights and weights / f"{file}.safetensors"
    model: Any = load_model(mine if mine and mine.exists() else file)
    return model.variant(**changes) if changes else model


def gather(studies: Mapping[str, Study], digests: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    """What is written into `RESULTS`, from every method's `study` and `digest`; "remedy": it against DMF."""
    played = {name: own for name, (own, _) in studies.items()}
    wanted = list(played[BASELINE])
    return {
        "what": __doc__.split("\n\n")[1].replace("\n", " ") if __doc__ else "",
        "command": "python -m labkit.studies.displacement",
        "date": str(date.today()),
        "versions": versions(),
        "plan": asdict(plan),
        "methods": {
            name: {"weights": METHODS[name][0], "digest": digests[name]} | METHODS[name][1] for name in studies
        },
        "travel": [
            {"study": level.study, "level": level.value, "share of the side": round(travel(level, plan), 3)}
            for level in wanted
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


def main() -> None:
    """Measure what is not measured yet, a method at a time, and write `RESULTS`; what has no weights is left out."""
    parser = argparse.ArgumentParser(description="Accuracy against displacement, clutter and contrast.")
    parser.add_argument("--weights", type=Path, help="a folder with models that are not shipped, NAME.safetensors")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--kept", type=Path, default=Path("runs/limits"), help="where finished methods are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan, wanted = Plan(), levels()
    models = {}
    for name in METHODS:
        try:
            models[name] = load_method(name, arguments.weights)
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}")
    studies = {name: kept_study(name, model, wanted, plan, arguments.kept) for name, model in models.items()}
    found = gather(studies, {name: digest(model) for name, model in models.items()}, plan)
    write_atomically(arguments.out, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
