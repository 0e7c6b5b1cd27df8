"""The trainings of Tables 1 and 2: every one is trained with a seed and tested once on the novel classes.

A run is three parameters: ``{"cell": "groups 1", "shot": 1, "seed": 0}``, the cell by its name in
`labkit.studies.tables.cells`. ``dmf-lab table 2 ../runs/tables --shots 1`` trains what is not trained yet, and may be
stopped and started again at will; with ``--gather`` it adds what is finished to the lab's results, which the notebooks
show.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit.common import checks, places
from labkit.common.files import write_atomically
from labkit.common.timing import peak_bytes, seconds
from labkit.common.versions import versions
from labkit.data import ImageSet, load_images
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.protocol import evaluate
from labkit.studies.tables.cells import (
    SYSTEMS,
    TABLE1,
    Cell,
    asked_of,
    cells_of_table2,
    image_passes,
    setting,
    trained_as,
)
from labkit.sweeps.forecast import Cost
from labkit.sweeps.kept import Row, all_rows
from labkit.sweeps.sweep import sweep
from labkit.training.loop import Trained, train
from labkit.training.settings import Experiment

VERSION = 2  # of what a cell means: raised by hand, so that a refactoring throws no finished training away
RESULTS = places.RESULTS / "tables.jsonl"
SEEDS = (0, 1, 2)
EPISODES = 2000


def grid(cells: Iterable[Cell], shots: Iterable[int] = (1,), seeds: Iterable[int] = SEEDS) -> list[dict[str, Any]]:
    """The runs of some cells, as `run_cell` takes them: shots first, then seeds, then cells."""
    names = [cell.name for cell in cells]
    return [{"cell": name, "shot": k, "seed": s} for k in shots for s in seeds for name in names]


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


def run_cell(parameters: dict[str, Any], folder: Path) -> Row:
    """Train one cell with one seed, or go on with it, and look once at the novel classes.

    Args:
        parameters: cell, shot, seed.
        folder: of this training alone.

    Returns:
        the parameters and what `train_on_one_thread` gives.
    """
    e = setting(parameters["cell"], parameters["shot"])
    return parameters | train_on_one_thread(e, parameters["seed"], folder)


def train_on_one_thread(e: Experiment, seed: int, folder: Path) -> Row:
    """Train, or go on with it, and look once at the novel classes.

    On a CPU it takes one thread, whatever the machine has: sums depend on how they are split.

    Returns:
        in JSON types: validation (percent); few_shot_loss (the last); novel (`Result.summary`); correct (right answers
        of every test episode, in one string); weights (their number); seconds and cpu_seconds of the training and
        peak_bytes that it took, None where it was resumed; test_seconds of an episode, from images to scores (CPU
        seconds on a CPU); and what it ran on. A loss that is not finite is a result too: ``diverged`` says when.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train_and_test(e, seed, folder, "cuda" if torch.cuda.is_available() else "cpu")
    finally:
        torch.set_num_threads(threads)


def _train_and_test(e: Experiment, seed: int, folder: Path, device: str) -> Row:
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
    row["few_shot_loss"] = [m["few_shot"] for m in trained.metrics if "few_shot" in m][-1]
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


def results(folder: Path | str | None = None) -> list[Row]:
    """The runs that are finished: the lab's own, and those of a sweep's folder, one for each cell,
    number of shots and seed."""
    return all_rows(RESULTS, folder, VERSION, ("cell", "shot", "seed"))


def gather(folder: Path) -> None:
    """Add what is finished in a sweep's folder to the lab's results."""
    write_atomically(RESULTS, "".join(json.dumps(row) + "\n" for row in results(folder)).encode())


def runs_of(rows: Sequence[Row], cell: Cell | None, shot: int) -> list[Row]:
    """The runs of a cell that were tested, by seed; the only place where stored names are compared with cells."""
    name = None if cell is None else trained_as(cell, shot).name
    return sorted(
        (r for r in rows if (r["cell"], r["shot"]) == (name, shot) and "novel" in r), key=lambda r: int(r["seed"])
    )


def started(row: dict[str, Any]) -> bool:
    """Whether a training left the plateau at which all classes score alike: five points above chance on validation."""
    return bool(row["validation"] > 100 / row["novel"]["way"] + 5)


def tried(rows: Sequence[Row], system: str, shot: int) -> dict[Cell, Row]:
    """Of each setting of a system of Table 1 the run with seed 0, where it is finished; it may have diverged."""
    first = {r["cell"]: r for r in rows if (r["shot"], r["seed"]) == (shot, 0)}
    return {cell: first[cell.name] for cell in TABLE1 if cell.factor == system and cell.name in first}


def chosen(rows: Sequence[Row], system: str, shot: int) -> Cell | None:
    """The setting of a system of Table 1 that is best on validation classes at seed 0, of those that are trained."""
    reached = {cell: r["validation"] for cell, r in tried(rows, system, shot).items() if "validation" in r}
    return max(reached, key=lambda cell: reached[cell], default=None)


def fill(
    folder: Path | str,
    table: int,
    shots: Iterable[int] = (1,),
    seeds: Iterable[int] = SEEDS,
    engine: str | None = "local",
    cells: Sequence[Cell] | None = None,
    settings_of: int | None = None,
    **how: Any,
) -> list[Row]:
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
    shots, seeds = asked_of(table, shots, seeds)
    if cells is not None:
        for cell in checks.several("cells", cells, "a list of labkit.studies.tables.cells.Cell"):
            checks.kind("cells", cell, Cell, "a list of labkit.studies.tables.cells.Cell")
    if engine is None:
        return results()
    if table == 1 and cells is not None:
        names = [cell.name for cell in cells]
        raise ValueError(
            f"cells can be asked for of Table 2; of Table 1 validation chooses them, and {names} was given"
        )
    how |= {"folder": folder, "version": VERSION, "expected": expected}
    for shot in shots:
        asked = cells_of_table2(shot) if cells is None else [trained_as(cell, shot) for cell in cells]
        if table == 1:
            if settings_of is None:
                sweep(run_cell, grid(TABLE1, (shot,), (0,)), engine, **how)
            found = {system: chosen(results(folder), system, settings_of or shot) for system in SYSTEMS}
            missing = [system for system, cell in found.items() if cell is None]
            if settings_of and missing:
                raise ValueError(f"no setting of {missing} is trained at {settings_of} shots: train these first")
            asked = [cell for cell in found.values() if cell]  # a system whose every setting diverged has none
        sweep(run_cell, grid(asked, (shot,), seeds), engine, **how)
    return results(folder)
