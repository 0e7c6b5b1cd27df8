"""Displacement on any pictures: the same picture, shifted; ``dmf-lab figure displacement --dataset NAME`` measures it.

Where objects cannot be placed, whole pictures can be shifted. At distance d the supports are shifted by half of d, a
share of the picture's side, in one of eight directions, and the queries as far the other way ("apart"), or the same
way ("together"); what a picture leaves behind is filled with its own mirror image or with a blurred copy of it. A
shift costs what it pushes out of the picture, and "together" costs as much of that as "apart" does, so apart minus
together is owed to the distance alone. Every method plays the same episodes at every level, episode i in direction i
modulo 8, on the first `per_class` pictures of each class: these are embedded once for every shift.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.functional import gaussian_blur
from tqdm.auto import tqdm

from labkit import plotting
from labkit.common.devices import one_thread
from labkit.common.places import RESULTS
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation import chosen, intervals, provenance
from labkit.evaluation.features import embed_pictures, eval_mode
from labkit.evaluation.play import Draw, Features, on_features
from labkit.methods.base import Method
from labkit.studies.displacement import figures as displacement_figures
from labkit.studies.displacement.levels import DIRECTIONS, Step
from labkit.studies.displacement.measure import BASELINE, compare
from labkit.sweeps.kept import write_result

DISTANCES = (0.0, 0.25, 0.5, 0.75)  # further off a picture is mostly its own ground
GROUNDS = ("mirrored", "blurred")
SWITCHED_OFF = "DMF, alignment switched off"


@dataclass(frozen=True)
class Plan:
    """The pictures and the episodes, the same at every level; see `EpisodeSampler` and this file's first lines."""

    distances: tuple[float, ...] = DISTANCES
    ground: str = "mirrored"
    per_class: int = 32
    way: int = 5
    shot: int = 1
    query: int = 15
    seed: int = 0
    episodes: int = 600

    def steps(self) -> list[Step]:
        """All levels; at distance 0 apart and together are the same, and only apart is played."""
        return [Step(study, d) for d in self.distances for study in (("apart", "together") if d else ("apart",))]

    def draws(self, pool: ImageSet) -> list[Draw]:
        """Which pictures of a pool every episode takes."""
        sampler = EpisodeSampler(pool, self.way, self.shot, self.query, self.seed)
        return [sampler.indices(i) for i in range(self.episodes)]


def shifted(pixels: NDArray[np.uint8], down: int, right: int, ground: str = "mirrored") -> NDArray[np.uint8]:
    """Pictures shifted by whole pixels, at most their side, on their own ground.

    Args:
        pixels: uint8 [n, size, size, 3].
        down, right: pixels; negative is up and left.
        ground: ``"mirrored"``: what comes in is the picture's mirror image at that edge; ``"blurred"``: it is a copy
            of the picture that was blurred so far (by an eighth of the side) that only its colours are left.

    Raises:
        ValueError: no such ground, or a shift further than the side.
    """
    size = pixels.shape[1]
    if ground not in GROUNDS or max(abs(down), abs(right)) > size:
        raise ValueError(
            f"ground must be one of {GROUNDS} and a shift at most {size} px, got {ground!r}, {down, right}"
        )
    up, left = max(-down, 0), max(-right, 0)
    if ground == "mirrored":
        edges = ((max(down, 0), up), (max(right, 0), left))
        wide = np.pad(pixels, ((0, 0), *edges, (0, 0)), mode="symmetric")
        return wide[:, up : up + size, left : left + size]
    odd = 2 * int(0.3 * size) + 1
    blurred = gaussian_blur(torch.tensor(pixels).movedim(-1, 1), [odd, odd], [size / 8, size / 8])
    out: NDArray[np.uint8] = blurred.movedim(1, -1).numpy()
    rows, columns = (slice(max(by, 0), size + min(by, 0)) for by in (down, right))
    out[:, rows, columns] = pixels[:, up : up + rows.stop - rows.start, left : left + columns.stop - columns.start]
    return out


def pixels_of(distance: float, direction: int, size: int) -> tuple[int, int]:
    """By how many pixels supports are shifted down and right; queries are shifted as far the other way."""
    y, x = DIRECTIONS[direction % len(DIRECTIONS)]
    return round(y * distance * size / 2), round(x * distance * size / 2)


def first_of_each_class(images: ImageSet, count: int) -> ImageSet:
    """The first `count` pictures of every class of a set."""
    kept = np.concatenate([numbers[:count] for numbers in images.class_indices])
    return replace(images, pixels=images.pixels[kept], labels=images.labels[kept], packed_masks=None)


def embedder(model: Method, images: ImageSet, ground: str) -> Callable[[int, int], Features]:
    """Features of all pictures at a shift, embedded once for all episodes that show it.

    Kept are those in place and of one distance, eight directions: whoever plays apart and together after one another
    needs no more.
    """

    @lru_cache(maxsize=1 + len(DIRECTIONS))
    def features(down: int, right: int) -> Features:
        return Features(embed_pictures(model, shifted(images.pixels, down, right, ground)))

    return features


def play(
    models: Mapping[str, Method],
    images: ImageSet,
    step: Step,
    features: Callable[[int, int], Features],
    draws: list[Draw],
) -> dict[str, NDArray[np.float64]]:
    """Accuracy of every episode at a level, in percent, by networks that share their features: [episodes] each."""
    found = {name: np.empty(len(draws)) for name in models}
    for i, draw in enumerate(draws):
        down, right = pixels_of(step.value, i, images.size)
        sign = -1 if step.study == "apart" else 1
        episode = on_features([draw], features(down, right), features(sign * down, sign * right))
        for name, model in models.items():
            with eval_mode(model):
                found[name][i] = episode.accuracy(model.score(episode.support, episode.query))[0]
    return found


def measure(models: Mapping[str, Method], images: ImageSet, plan: Plan, title: str = "") -> list[dict[str, Any]]:
    """Rows of `labkit.studies.displacement.measure.compare`, under a progress bar where there is a title.

    A network called "DMF" is measured with its alignment switched off, too. The baseline is "no alignment"; where no
    such network is given, DMF with its alignment switched off.

    Raises:
        ValueError: a class with fewer pictures than an episode needs.
    """
    pool = first_of_each_class(images, plan.per_class)
    draws = plan.draws(pool)
    played: dict[str, dict[Step, NDArray[np.float64]]] = {}
    for name, model in models.items():
        together = {name: model}
        if isinstance(model, DMF) and name == "DMF":
            together[SWITCHED_OFF] = model.variant(alignment="none")
        features = embedder(model, pool, plan.ground)
        for step in tqdm(plan.steps(), f"{title} {name}", disable=not title):
            for which, values in play(together, pool, step, features, draws).items():
                own = played.setdefault(which, {})
                own[step] = values
                if step.value == 0:
                    own[Step("together", 0.0)] = values
    return compare(played, baseline_of(played))


def baseline_of(names: Mapping[str, Any] | Sequence[str]) -> str:
    """What others are compared with: no alignment; failing that DMF with its alignment off; failing that the first."""
    return next((name for name in (BASELINE, SWITCHED_OFF) if name in names), next(iter(names)))


def sentences(rows: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    """What rows of `measure` say at the largest distance, a sentence a method, in words that follow from them."""
    furthest = max(row["level"] for row in rows)
    lines = []
    for row in rows:
        if (row["study"], row["level"]) != ("apart", furthest):
            continue
        said = (
            f"{row['method']}: {row['accuracy'] - row['fall']:.1f} % in place, {row['accuracy']:.1f} % at {furthest:g}"
        )
        if row["method"] != baseline:
            beyond, half = row["fall beyond"], row["fall beyond ci95"]
            if abs(beyond) <= half:
                said += f"; the fall is not told apart from that of {baseline} ({intervals.shown(beyond, half)} points)"
            else:
                more = "more" if beyond < 0 else "less"
                said += f"; it loses {intervals.shown(abs(beyond), half)} points {more} than {baseline}"
        lines.append(said)
    return lines


def examples(
    images: ImageSet, plan: Plan, steps: Sequence[Step], number: int = 3, direction: int = 1, queries: int = 5
) -> list[list[NDArray[np.uint8]]]:
    """Rows of pictures, one a step: a support of episode `number` and queries of its class, shifted in a direction."""
    pool = first_of_each_class(images, plan.per_class)
    sampler = EpisodeSampler(pool, plan.way, plan.shot, plan.query, plan.seed)
    _, support, query, labels = sampler.indices(number)
    rows = []
    for step in steps:
        down, right = pixels_of(step.value, direction, images.size)
        sign = -1 if step.study == "apart" else 1
        ends = shifted(pool.pixels[support[:1, 0]], down, right, plan.ground)
        others = shifted(pool.pixels[query[labels == 0][:queries]], sign * down, sign * right, plan.ground)
        rows.append([*ends, *others])
    return rows


@one_thread()
def run(
    dataset: str,
    data_root: Path | None = None,
    weights: Sequence[Path | str] | None = None,
    out: Path | None = None,
    figures: Path = Path("figures"),
    **plan: Any,
) -> None:
    """Measure networks on a data set; write the result and draw it.

    Args:
        plan: fields of `Plan`; the others as of `figure3_without_masks.run`.
    """
    plotting.use_style()
    asked = Plan(**plan)
    own, models, images = chosen.opened(weights, dataset, data_root)
    about = provenance.about(own, models, images) | {"plan": asdict(asked)}
    rows = measure(models, images, asked, "measuring")
    base = baseline_of([row["method"] for row in rows])
    content = about | {"baseline": base, "rows": rows}
    name = chosen.figure_name("displacement", dataset, own)
    if asked.ground != Plan.ground:
        name += f"_{asked.ground}"  # beside the other ground's, not in its place
    command = provenance.figure_command(
        "displacement", dataset, own, ground=asked.ground, episodes=asked.episodes, seed=asked.seed
    )
    write_result(out or RESULTS / f"{name}.json", __doc__, command, content)
    unit = displacement_figures.SHIFTED
    drawn = displacement_figures.figure(content["rows"], ("apart", "together"), base, axes_of=unit)
    plotting.save_in(drawn, figures, name, command=command, **about)
    plt.close(drawn)
