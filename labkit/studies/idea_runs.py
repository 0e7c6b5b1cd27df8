"""The ideas of `labkit.studies.ideas` trained beside DMF and no alignment, all alike, on one backbone's cached maps.

First on validation classes, as often as one likes; the novel classes and displaced pictures then for the one idea that
validation chose, with DMF and no alignment. ``dmf-lab ideas`` does both, may be stopped and started again at will, and
adds a line to ``FOLDER/ideas.jsonl`` for every seed that is finished.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit.common import checks
from labkit.common.files import append, expanded, make_folder, read_lines
from labkit.common.places import RESULTS
from labkit.data.imageset import ImageSet
from labkit.evaluation import intervals
from labkit.evaluation.play import Features
from labkit.evaluation.provenance import said_pictures
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model
from labkit.studies.displacement import shifted
from labkit.studies.ideas import IDEAS
from labkit.studies.own_head import registered
from labkit.studies.tables.cells import BASE_GROUPS, shots_and_seeds
from labkit.studies.tables.head_runs import EPISODES, images_of, maps_of, train_and_measure
from labkit.studies.tables.heads import OF_DMF, STEPS, Head
from labkit.studies.tables.runs import Run
from labkit.sweeps import kept
from labkit.sweeps.sweep import refuse_failed, sweep

VERSION = 1  # of what an idea means: raised by hand
FILE = "ideas.jsonl"
BY = ("stage", "dataset", "backbone", "system", "shot", "seed")
# DMF in the ideas' setting, and no alignment with the support's cells as they are and scaled to one length: the better
# of the two on validation classes is what an idea has to beat, since much can be had without any alignment.
OURS, NONE, NONE_NORMALISED = "DMF", "No alignment", "No alignment, normalised"
BASELINES: dict[str, dict[str, Any]] = {
    OURS: {},
    NONE: {"alignment": "none"},
    NONE_NORMALISED: {"alignment": "none", "class_weight": "normalised"},
}
BY_NAME = {idea.__name__: idea for idea in IDEAS}
NAMES = (*BASELINES, *BY_NAME)
VALIDATION, NOVEL = "validation", "novel"
DISPLACED = shifted.Plan(distances=(0.0, 0.5), per_class=100)


def run_idea(
    parameters: dict[str, Any],
    folder: Path,
    *,
    backbone: str,
    data_root: str | None = None,
    steps: int = STEPS,
    episodes: int = EPISODES,
) -> dict[str, Any]:
    """One run of the sweep: ``{"dataset", "backbone", "name", "shot", "seed", "stage"}``, the backbone by its digest.

    The second stage finds the training of the first, in the folder that both share.

    Returns:
        `Run` in JSON types with the stage, the steps that were asked for (`steps` is 0 or 1 where nothing is
        trained) and, on novel classes, `displaced`: accuracy of every episode and level.
    """
    given = dict(parameters)
    stage, name, shot = given.pop("stage"), given["name"], given["shot"]
    maps = maps_of(backbone, given["dataset"], data_root)
    command = f"dmf-lab ideas FOLDER --backbone {Path(backbone).stem} {said_pictures(given['dataset'])} --shots {shot}"
    command += f" --seeds {given['seed']} --ideas {name!r}" + (" --novel" if stage == NOVEL else "")
    command += "" if steps == STEPS else f" --steps {steps}"
    of = Run(system=name, command=command, **given)
    own = folder.parent / "trained" / "-".join(str(given[k]) for k in ("dataset", "backbone", "name", "shot", "seed"))
    own = own.with_name(f"{own.name}-{steps}")
    make_folder(own)
    options: dict[str, Any] = {"groups": BASE_GROUPS[shot]}
    how: dict[str, Any] = {"look": stage == NOVEL, "episodes": episodes}
    if name in BY_NAME:
        phases = Head(name, name, name).phases(steps)
        with registered(BY_NAME[name]) as method:
            run = train_and_measure(method, options, maps, own, of, phases, **how)
            trained = None if run.diverged else load_model(own / "best.safetensors")
    else:
        head = Head(name, name, "dmf", OF_DMF | BASELINES[name] | options, trained=name == OURS)
        run = train_and_measure("dmf", dict(head.options), maps, own, of, head.phases(steps), **how)
        trained = None if run.diverged else load_model(own / "best.safetensors")
    row = run.to_json() | {"stage": stage, "asked_steps": steps}
    if stage == NOVEL and isinstance(trained, Method):
        row["displaced"] = displaced(trained, shot, *_moved(backbone, given["dataset"], data_root))
    append(folder.parent / FILE, (json.dumps(row) + "\n").encode())
    return row


def displaced(
    head: Method, shot: int, pictures: ImageSet, features: Callable[[int, int], Features]
) -> dict[str, list[float]]:
    """Accuracy in percent of every episode at each level of `DISPLACED`, by names such as ``"apart 0.5"``."""
    plan = replace(DISPLACED, shot=shot)
    draws = plan.draws(pictures)
    played = {s: shifted.play({"head": head}, pictures, s, features, draws)["head"] for s in plan.steps()}
    return {f"{step.study} {step.value:g}": values.round(2).tolist() for step, values in played.items()}


@lru_cache(maxsize=1)
def _moved(backbone: str, dataset: str, data_root: str | None) -> tuple[ImageSet, Callable[[int, int], Features]]:
    """The displaced pictures' pool, and its features at any shift: computed once for all heads."""
    model = load_model(backbone)
    pool = shifted.first_of_each_class(images_of(model, dataset, "test", data_root), DISPLACED.per_class)
    return pool, shifted.embedder(model, pool, DISPLACED.ground)


def fill(
    folder: Path | str,
    backbone: str | Path,
    dataset: str,
    data_root: str | Path | None = None,
    shots: Iterable[int] = (1, 5),
    seeds: Sequence[int] = (0, 1, 2),
    names: Sequence[str] | None = None,
    novel: bool = False,
    steps: int = STEPS,
    episodes: int = EPISODES,
    **how: Any,
) -> pd.DataFrame:
    """Train what is not trained yet, and return the table of the stage.

    Args:
        names: of `NAMES`; None means all, and with `novel` the idea that validation chose and the baselines.
        novel: the second stage.
        steps, episodes: fewer for a first look, which `gather` does not count.

    Raises:
        ValueError: a name or a number of shots that is not there, a seed below 0, no steps or no episodes; or the
            second stage before the first.
        FailedRunsError: at the end, if some runs failed.
    """
    shots, seeds = shots_and_seeds(shots, seeds)
    steps, episodes = checks.check_int("steps", steps), checks.check_int("episodes", episodes)
    if unknown := sorted(set(names or ()) - set(NAMES)):
        there = ", ".join(map(repr, NAMES))  # a name may hold a comma
        raise ValueError(f"there is no idea {', '.join(map(repr, unknown))}; there are {there}")
    maps = maps_of(backbone, dataset, data_root, progress=how.get("progress", True))
    root = None if data_root is None else str(data_root)
    run = partial(run_idea, backbone=str(backbone), data_root=root, steps=steps, episodes=episodes)
    fixed = {"dataset": dataset, "backbone": maps.base.backbone, "stage": NOVEL if novel else VALIDATION}
    version = f"{VERSION}, {steps} steps, {episodes} episodes"
    failed: list[dict[str, Any]] = []
    of: dict[str, Any] = {"dataset": dataset, "backbone": maps.base.backbone}
    for shot in shots:
        asked = list(names or NAMES)
        if novel and names is None:
            asked = [*BASELINES, chosen(rows(folder, **of, steps=steps), shot)]
        grid = [fixed | {"name": name, "shot": shot, "seed": seed} for seed in seeds for name in asked]
        failed += sweep(run, grid, folder=folder, version=version, **how).failed
    refuse_failed(failed)
    return table(rows(folder, **of, steps=steps, stage=fixed["stage"]), fixed["stage"])


def rows(folder: Path | str, steps: int | None = None, **wanted: Any) -> list[dict[str, Any]]:
    """The lines of a folder's ``ideas.jsonl``, the last of each stage, idea, number of shots and seed.

    Args:
        steps: that were asked for; None means `STEPS`, since a first look with fewer says nothing of the full training.
        wanted: entries and their values.
    """
    steps = STEPS if steps is None else steps
    file = expanded(folder) / FILE
    found = read_lines(file, "mend it by hand, since its trainings cost time") if file.exists() else []
    last = {tuple(r[name] for name in BY): r for r in found if _asked(r, steps)}
    return [r for r in last.values() if all(r[name] == value for name, value in wanted.items())]


def _asked(row: Mapping[str, Any], steps: int) -> bool:
    """Whether a line is of a training of `steps` steps. Older lines say only how many were done."""
    if "asked_steps" in row:
        return bool(row["asked_steps"] == steps)
    return row["system"] in (NONE, NONE_NORMALISED) or bool(row["diverged"]) or row["steps"] == steps


def gather(folder: Path | str) -> None:
    """Add a folder's finished lines to the lab's own: without single answers, displaced accuracies by their means.

    First looks, with fewer steps or test episodes, are left out.

    Raises:
        ValueError: nothing else is finished there.
    """
    found = [row for row in rows(folder) if row["novel"].get("episodes", EPISODES) == EPISODES]
    for row in found:
        row.pop("correct", None)
        moved = row.get("displaced")
        if moved:
            row["displaced"] = {name: [round(float(np.mean(of)), 3)] for name, of in moved.items()}
    kept.gather(RESULTS / FILE, folder, found, BY)


def chosen(found: Sequence[Mapping[str, Any]], shot: int) -> str:
    """The idea that is best on validation classes, by the mean over its seeds.

    Raises:
        ValueError: none is trained yet.
    """
    reached: dict[str, list[float]] = {}
    for row in found:
        if row["stage"] == VALIDATION and row["shot"] == shot and row["system"] in BY_NAME and row["validation"]:
            reached.setdefault(row["system"], []).append(row["validation"])
    if not reached:
        raise ValueError(f"no idea is trained at {shot} shots yet: run the command without --novel first")
    return max(reached, key=lambda name: float(np.mean(reached[name])))


def what_changes() -> dict[str, str]:
    """What every idea changes, and why, by the name of the idea."""
    return {name: (idea.__doc__ or "").splitlines()[0].replace("`", "") for name, idea in BY_NAME.items()}


def table(found: Sequence[Mapping[str, Any]], stage: str = VALIDATION) -> pd.DataFrame:
    """Ideas, best first: accuracy in percent, and differences from the baselines paired by seed, in points, with the
    half width of the 95 % t-interval over seeds. `weights` is 0 where the score reads nothing that is trained.

    On novel classes also the half width of the interval over episodes (the mean over seeds), and the accuracy on
    displaced pictures, ``"apart 0.5"`` and ``"together 0.5"``, of which single episodes are not kept in the lab's rows.
    """
    lines = []
    for shot in sorted({row["shot"] for row in found}):
        by_name: dict[str, dict[int, Mapping[str, Any]]] = {}
        for row in found:
            if row["shot"] == shot and _accuracy(row, stage) is not None:
                by_name.setdefault(row["system"], {})[row["seed"]] = row
        for name, own in by_name.items():
            values = {seed: float(_accuracy(row, stage) or 0) for seed, row in own.items()}
            line: dict[str, Any] = {"shot": shot, "head": name, "accuracy, %": float(np.mean(list(values.values())))}
            if stage == NOVEL:
                line["± over episodes"] = float(np.mean([row["novel"]["ci95"] for row in own.values()]))
            for other in BASELINES:
                theirs = by_name.get(other, {})
                shared = [values[s] - float(_accuracy(theirs[s], stage) or 0) for s in values if s in theirs]
                line[f"minus {other}"], line[f"± {other}"] = intervals.over_seeds(shared)
            weights = 0 if name in (NONE, NONE_NORMALISED) else next(iter(own.values()))["weights"]
            line |= {"seeds": len(values), "weights": weights}
            moved = [row["displaced"] for row in own.values() if row.get("displaced")]
            for name_of in moved[0] if moved else ():
                line[name_of] = float(np.mean([np.mean(m[name_of]) for m in moved]))
            lines.append(line)
    frame = pd.DataFrame(lines)
    order = {"shot": True, "accuracy, %": False, "head": True}  # of what is equally good, by name
    return frame if frame.empty else frame.sort_values([*order], ascending=[*order.values()], ignore_index=True)


def _accuracy(row: Mapping[str, Any], stage: str) -> float | None:
    value = row["validation"] if stage == VALIDATION else row["novel"].get("accuracy")
    return None if value is None else float(value)
