"""Tables 1 and 2, cell by cell: every cell is one training in the quick setting and one look at the novel classes.

A run of a cell is three parameters: ``{"cell": "groups 1", "shot": 1, "seed": 0}``. Names of cells stand for settings
of `labkit.training.settings`: whoever changes what one stands for raises `VERSION`.

    python -m labkit.studies.tables.cells ../runs/tables --table 2 --shots 1

trains what is not trained yet, and may be stopped and started again at will. ``--gather`` adds what is finished to the
lab's results, which the notebooks show.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit.common import places
from labkit.common.files import write_atomically
from labkit.common.timing import peak_bytes, seconds
from labkit.common.versions import versions
from labkit.data import ImageSet, load_images
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.protocol import evaluate
from labkit.sweeps.forecast import Cost
from labkit.sweeps.sweep import finished, sweep
from labkit.training.loop import Trained, train
from labkit.training.settings import BASE_GROUPS, TABLE1, TABLE2, TABLES, Experiment

VERSION = 2  # of what a cell means: raised by hand, so that a refactoring throws no finished training away
RESULTS = places.RESULTS / "tables.jsonl"
SEEDS = (0, 1, 2)
EPISODES = 2000


def cell_of_table2(factor: str, value: str, shot: int) -> str:
    """The cell of a row of Table 2; rows that equal the base share its cell, ``"dmf"``."""
    changes = TABLE2[factor, value]
    return "dmf" if changes in ({}, {"groups": BASE_GROUPS[shot]}) else f"{factor} {value}"


def cells_of_table2(shot: int) -> list[str]:
    """The eleven different cells of Table 2 at one number of shots, the base first."""
    return list(dict.fromkeys(["dmf", *(cell_of_table2(*row, shot) for row in TABLE2)]))


def setting(cell: str, shot: int) -> Experiment:
    """The training of a cell.

    Raises:
        ValueError: there is no such cell, or no base for so many shots.
    """
    named = {f"{factor} {value}": changes for (factor, value), changes in TABLE2.items()}
    named |= {name: changes for settings in TABLE1.values() for name, changes in settings.items()}
    if cell not in named:
        raise ValueError(f"there is no cell {cell!r}; there are {sorted(named)}")
    if shot not in BASE_GROUPS:
        raise ValueError(f"the tables have {sorted(BASE_GROUPS)} shots, got {shot}")
    changes = named[cell]
    base = replace(TABLES, name=f"{cell}, {shot} shot", shot=shot, groups=BASE_GROUPS[shot])
    choices = changes.get("choices", {})
    if "method" not in changes:  # another method shares none of DMF's choices
        choices = base.choices | choices
    options = base.backbone_options | changes.get("backbone_options", {})
    e = replace(base, **changes | {"choices": choices, "backbone_options": options})
    share = image_passes(base) / image_passes(e)
    schedule = ((name, getattr(base, name)) for name in ("steps", "warmup", "validate_every"))
    return replace(e, **{name: round(share * n) for name, n in schedule})


def image_passes(e: Experiment) -> int:
    """Images that one step sends forward through the backbone: MAML's support once more for every inner step."""
    times = 1 + e.choices["steps"] if e.method == "maml" else 1
    return e.batch * e.way * (times * e.shot + e.query)


def grid(cells: Iterable[str], shots: Iterable[int] = (1,), seeds: Iterable[int] = SEEDS) -> list[dict[str, Any]]:
    """The runs of some cells, as `run_cell` takes them: shots first, then seeds, then cells."""
    names = list(cells)
    return [{"cell": c, "shot": k, "seed": s} for k in shots for s in seeds for c in names]


def expected(parameters: dict[str, Any]) -> Cost:
    """What a run will cost, for the forecast: rough, from a few steps of every system on one busy core of an AMD EPYC.

    An image that passes through training takes 4 ms, MAML's 13 with the derivative of its steps; a test episode takes
    20 ms, 80 with DeepEMD's transports (250 with prototypes to be learned), and 250 or 600 where MAML adapts to it.
    """
    e, shot = setting(parameters["cell"], parameters["shot"]), parameters["shot"]
    image = 0.013 if e.method == "maml" else 0.004
    episode = {"maml": {1: 0.25, 5: 0.6}, "deepemd": {1: 0.08, 5: 0.25}}.get(e.method, {}).get(shot, 0.02)
    tested = EPISODES + e.steps / e.validate_every * e.validation_episodes
    time_taken = image * image_passes(e) * e.steps + episode * tested
    return Cost(time_taken, 2 * 2**30, 13e6, "a few steps on one busy core of an AMD EPYC")


def run_cell(parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one cell with one seed, or go on with it, and look once at the novel classes.

    On a CPU it takes one thread, whatever the machine has: sums depend on how they are split.

    Args:
        parameters: cell, shot, seed.
        folder: of this training alone.

    Returns:
        in JSON types: the parameters; validation (percent); novel (`Result.summary`); correct (right answers of every
        test episode, in one string); weights (their number); seconds and cpu_seconds of the training and peak_bytes
        that it took, None where it was resumed; test_seconds of an episode, from images to scores (CPU seconds on a
        CPU); and what it ran on. A loss that is not finite is a result too: ``diverged`` says when.
    """
    e = setting(parameters["cell"], parameters["shot"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return dict(parameters) | _run(e, parameters["seed"], folder, device)
    finally:
        torch.set_num_threads(threads)


def _run(e: Experiment, seed: int, folder: Path, device: str) -> dict[str, Any]:
    base, validation, novel = (
        load_images(e.dataset, split, size=e.size, per_class=e.per_class, progress=False)
        for split in ("train", "val", "test")
    )
    row: dict[str, Any] = {"steps": e.steps, "threads": 1, "device": device, "versions": versions()}
    if device == "cuda":
        row["device"] = torch.cuda.get_device_name()
    resumed, done = (folder / "last.pt").exists(), []
    started = time.process_time()

    def work() -> None:
        done.append(train(e, base, validation, folder, seed=seed, device=device, progress=False))

    try:
        peak = peak_bytes(work, device)
    except FloatingPointError as error:
        return row | {"diverged": str(error)}
    trained: Trained = done[0]
    cost = {"seconds": trained.seconds, "cpu_seconds": time.process_time() - started, "peak_bytes": peak}
    row |= {k: None if resumed else round(v) for k, v in cost.items()}
    row["validation"] = round(trained.validation, 3)
    row["weights"] = sum(p.numel() for p in trained.model.parameters())
    row["test_seconds"] = _test_seconds(trained.model, novel, e, device)
    result = evaluate(trained.model, novel, e.way, e.shot, e.test_query, EPISODES, bfloat16=e.bfloat16)
    row["novel"] = result.summary()
    correct = np.rint(result.per_episode * e.way * e.test_query / 100).astype(int)
    row["correct"] = " ".join(map(str, correct))
    return row


def _test_seconds(model: torch.nn.Module, images: ImageSet, e: Experiment, device: str) -> float:
    """Seconds of one test episode, from normalised images to scores: the least of seven.

    On a CPU those of the one thread that works, which other programs on the machine disturb least.
    """
    sampler = EpisodeSampler(images, e.way, e.shot, e.test_query, device=device)
    batch = sampler.batch([0])

    def work() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=e.bfloat16):
            model(batch.support, batch.query)

    def once() -> float:
        if device == "cuda":
            return seconds(work, device)
        started = time.process_time()
        work()
        return time.process_time() - started

    work()
    return round(min(once() for _ in range(7)), 5)


def results(folder: Path | str | None = None) -> list[dict[str, Any]]:
    """The runs that are finished: the lab's own, and those of a sweep's folder, one a cell, number of shots and seed.

    A sweep's newer run of the same parameters takes the place of the lab's.
    """
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    found = finished(folder, VERSION) if folder is not None and Path(folder).is_dir() else []
    rows += [r["result"] | {"commit": r["commit"]} for r in found]
    by_run = {(r["cell"], r["shot"], r["seed"]): r for r in rows}
    return [by_run[run] for run in sorted(by_run)]


def started(row: dict[str, Any]) -> bool:
    """Whether a training left the plateau at which all classes score alike: five points above chance on validation."""
    return bool(row["validation"] > 100 / row["novel"]["way"] + 5)


def chosen(rows: Sequence[dict[str, Any]], system: str, shot: int) -> str | None:
    """The setting of a system of Table 1 that is best on validation classes at seed 0, of those that are trained."""
    reached = {r["cell"]: r["validation"] for r in rows if (r["shot"], r["seed"]) == (shot, 0) and "validation" in r}
    tried = [cell for cell in TABLE1[system] if cell in reached]
    return max(tried, key=lambda cell: reached[cell], default=None)


def fill(
    folder: Path | str,
    table: int,
    shots: Iterable[int] = (1,),
    seeds: Iterable[int] = SEEDS,
    engine: str | None = "local",
    cells: Sequence[str] | None = None,
    settings_of: int | None = None,
    **how: Any,
) -> list[dict[str, Any]]:
    """Train what a table lacks; all that is finished then, as `results` gives it.

    Of Table 1 every setting is trained with seed 0, and what validation chooses with the other seeds too.

    Args:
        folder: of the sweep.
        table: 1 or 2.
        shots, seeds: whose runs.
        cells: whose runs, of Table 2; None means all. More seeds of a few cells are how a claim is decided.
        settings_of: a number of shots, of Table 1: every system keeps the setting that validation chose there, and no
            other is tried, at half the price. None means to try them all at every number of shots.
        engine: of `labkit.sweep`; None trains nothing, looks into no folder and gives the lab's results.
        how: of `labkit.sweep`: address, workers, ...

    Raises:
        ValueError: cells of Table 1, whose validation classes choose; a cell that is not there; or settings_of a
            number of shots at which a system has no setting yet.
    """
    if engine is None:
        return results()
    if table == 1 and cells is not None:
        raise ValueError(
            f"cells can be asked for of Table 2; of Table 1 validation chooses them, and {cells} was given"
        )
    for shot in shots:
        names = cells_of_table2(shot) if cells is None else list(cells)
        if table == 1 and settings_of is None:
            every = grid((cell for settings in TABLE1.values() for cell in settings), (shot,), (0,))
            sweep(run_cell, every, engine, folder=folder, version=VERSION, expected=expected, **how)
        if table == 1:
            found = {system: chosen(results(folder), system, settings_of or shot) for system in TABLE1}
            missing = [system for system, cell in found.items() if cell is None]
            if settings_of and missing:
                raise ValueError(f"no setting of {missing} is trained at {settings_of} shots: train these first")
            names = [cell for cell in found.values() if cell]  # a system whose every setting diverged has none
        sweep(run_cell, grid(names, (shot,), seeds), engine, folder=folder, version=VERSION, expected=expected, **how)
    return results(folder)


def main() -> None:
    """``python -m labkit.studies.tables.cells FOLDER``: train a table's cells."""
    from labkit.studies.tables import cells  # whose function the sweep's processes can import

    parser = argparse.ArgumentParser(description="Train the cells of Table 1 or 2.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", type=int, choices=(1, 2), default=2)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--cells", nargs="+", help="of Table 2, instead of all")
    parser.add_argument("--settings-of", type=int, metavar="K", help="of Table 1: only what was chosen at K shots")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--workers", type=int, help="runs at once")
    parser.add_argument(
        "--gather", action="store_true", help="train nothing: add what is finished to the lab's results"
    )
    a = parser.parse_args()
    if a.gather:
        lines = "".join(json.dumps(row) + "\n" for row in results(a.folder))
        write_atomically(RESULTS, lines.encode())
    else:
        how = {"address": a.address, "workers": a.workers}
        cells.fill(a.folder, a.table, a.shots, a.seeds, a.engine, a.cells, a.settings_of, **how)


if __name__ == "__main__":
    main()
