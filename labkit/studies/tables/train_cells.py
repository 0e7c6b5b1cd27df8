"""The trainings of Tables 1 and 2: every one is trained with a seed and tested once on the novel classes.

A run is three parameters: ``{"cell": "groups 1", "shot": 1, "seed": 0}``, the cell by its name in
`labkit.studies.tables.cells`. ``dmf-lab table 2 ../runs/tables --shots 1`` trains what is not trained yet, and may be
stopped and started again at will; with ``--gather`` it adds what is finished to the lab's results, which the notebooks
show.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit.common import checks, places
from labkit.common.devices import one_thread
from labkit.common.timing import peak_bytes, seconds
from labkit.common.versions import versions
from labkit.data import ImageSet, load_images
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.protocol import evaluate
from labkit.studies.tables.cells import (
    CELLS,
    SYSTEMS,
    TABLE1,
    TABLES,
    Cell,
    asked_of,
    cells_of_table2,
    check_dataset,
    setting,
    trained_as,
)
from labkit.studies.tables.runs import Run, best_on_validation
from labkit.sweeps import kept
from labkit.sweeps.kept import Row
from labkit.sweeps.sweep import refuse_failed, sweep
from labkit.training.loop import Trained, train
from labkit.training.settings import Experiment

VERSION = 2  # of what a cell means: raised by hand, so that a refactoring throws no finished training away
RESULTS = places.RESULTS / "tables.jsonl"  # on glyphs; on other pictures see `file_of`
SEEDS = (0, 1, 2)
BY = ("cell", "shot", "seed")
EPISODES = 2000
SAVED_EVERY = 100  # steps, beside every validation: who is killed loses minutes, not an hour


def grid(cells: Iterable[Cell], shots: Iterable[int] = (1,), seeds: Iterable[int] = SEEDS) -> list[dict[str, Any]]:
    """The runs of some cells, as `run_cell` takes them: shots first, then seeds, then cells."""
    names = [cell.name for cell in cells]
    return [{"cell": name, "shot": k, "seed": s} for k in shots for s in seeds for name in names]


def file_of(dataset: str) -> Path:
    """The lab's own rows of the tables on a set of pictures."""
    return RESULTS if dataset == TABLES.dataset else RESULTS.with_name(f"tables-{dataset}.jsonl")


def version_of(dataset: str) -> int | str:
    """The version under which a sweep keeps rows of a set of pictures."""
    return VERSION if dataset == TABLES.dataset else f"{VERSION}, {dataset}"


def run_cell(
    parameters: dict[str, Any], folder: Path, *, dataset: str = TABLES.dataset, data_root: str | None = None
) -> Row:
    """Train one cell with one seed, or go on with it, and look once at the novel classes.

    Returns:
        the parameters and what `train_on_one_thread` gives.
    """
    e = setting(parameters["cell"], parameters["shot"], dataset)
    return parameters | train_on_one_thread(e, parameters["seed"], folder, data_root)


def train_on_one_thread(e: Experiment, seed: int, folder: Path, data_root: str | None = None) -> Row:
    """Train, or go on with it, and look once at the novel classes.

    On a CPU it takes one thread, whatever the machine has: sums depend on how they are split.

    Returns:
        in JSON types: validation (percent); few_shot_loss (the last); novel (`Result.summary`); correct (right answers
        of every test episode, in one string); weights (their number); seconds and cpu_seconds of the training and
        peak_bytes that it took, None where it was resumed; test_seconds of an episode, from images to scores (CPU
        seconds on a CPU); and what it ran on. A loss that is not finite is a result too: ``diverged`` says when.
    """
    with one_thread():
        return _train_and_test(e, seed, folder, "cuda" if torch.cuda.is_available() else "cpu", data_root)


def _train_and_test(e: Experiment, seed: int, folder: Path, device: str, data_root: str | None) -> Row:
    phases = tuple(replace(phase, save_every=phase.save_every or SAVED_EVERY) for phase in e.plan)
    e = replace(e, phases=phases)
    own: dict[str, Any] = {} if data_root is None else {"root": data_root}
    own |= {} if e.per_class is None else {"per_class": e.per_class}  # of rendered pictures alone
    base, validation, novel = (
        load_images(e.dataset, split, size=e.size, progress=False, **own) for split in ("train", "val", "test")
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


def results(folder: Path | str | None = None, dataset: str = TABLES.dataset) -> list[Run]:
    """The runs that are finished: the lab's own, and those of a sweep's folder, one for each cell,
    number of shots and seed. Runs of a name that no cell has any more do not count."""
    rows = kept.all_rows(file_of(dataset), folder, version_of(dataset), BY)
    return [Run.of_cell(row, CELLS[row["cell"]].factor, dataset) for row in rows if row["cell"] in CELLS]


def gather(folder: Path, dataset: str = TABLES.dataset) -> None:
    """Add what is finished in a sweep's folder to the lab's results.

    Raises:
        ValueError: nothing is finished there, or the tables are not measured on this dataset.
    """
    check_dataset(dataset)
    found = [row for row in kept.finished_rows(folder, version_of(dataset)) if row.get("cell") in CELLS]
    kept.gather(file_of(dataset), folder, found, BY)


def runs_of(runs: Sequence[Run], cell: Cell | None, shot: int) -> list[Run]:
    """The runs of a cell that were tested, by seed; the only place where stored names are compared with cells."""
    name = None if cell is None else trained_as(cell, shot).name
    return sorted((r for r in runs if (r.name, r.shot) == (name, shot) and r.novel), key=lambda r: r.seed)


def tried(runs: Sequence[Run], system: str, shot: int) -> dict[Cell, Run]:
    """The run with seed 0 of every setting of a system of Table 1, where it is finished; it may have diverged."""
    first = {r.name: r for r in runs if (r.shot, r.seed) == (shot, 0)}
    return {cell: first[cell.name] for cell in TABLE1 if cell.factor == system and cell.name in first}


def chosen(runs: Sequence[Run], system: str, shot: int) -> Cell | None:
    """The setting of a system of Table 1 that is best on validation classes at seed 0, of those that are trained."""
    name = best_on_validation(runs, [cell.name for cell in TABLE1 if cell.factor == system], shot)
    return None if name is None else CELLS[name]


def fill(
    folder: Path | str,
    table: int,
    shots: Iterable[int] = (1,),
    seeds: Iterable[int] = SEEDS,
    engine: str | None = "local",
    cells: Sequence[Cell] | None = None,
    settings_of: int | None = None,
    *,
    systems: Sequence[str] | None = None,
    own_training: bool = False,
    dataset: str = TABLES.dataset,
    data_root: Path | str | None = None,
    **how: Any,
) -> list[Run]:
    """Train what a table lacks, and return all that is finished then, as `results` gives it.

    Of Table 1 every setting is trained with seed 0, and what validation chooses with the other seeds too.

    Args:
        table: 1 or 2.
        cells: whose runs, of Table 2; None means all. More seeds of a few cells are how a claim is decided.
        settings_of: a number of shots, of Table 1: every system keeps the setting that validation chose there, and no
            other is tried, at half the price. None means to try them all at every number of shots.
        systems: of Table 1; None means all.
        own_training: of Table 1, every system is trained in its first setting alone, its authors' training where
            that is known, at half the price.
        dataset, data_root: of the pictures, of `labkit.studies.tables.cells.BASES`.
        engine: of `labkit.sweep`; None trains nothing, looks into no folder and gives the lab's results.

    Raises:
        FailedRunsError: at the end, if some runs failed.
        ValueError: cells of Table 1, whose validation classes choose; a cell or a system that is not there;
            a dataset that the tables are not measured on; settings_of a number of shots at which a system has no
            setting yet; own_training beside settings_of; or any of these two or systems of Table 2.
    """
    shots, seeds = asked_of(table, shots, seeds)
    if cells is not None:
        for cell in checks.several("cells", cells, "a list of labkit.studies.tables.cells.Cell"):
            checks.kind("cells", cell, Cell, "a list of labkit.studies.tables.cells.Cell")
    if engine is None:
        return results(dataset=dataset)
    if unknown := sorted(set(systems or ()) - set(SYSTEMS)):
        raise ValueError(f"there is no system {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    check_dataset(dataset)
    wanted = SYSTEMS if systems is None else tuple(systems)
    if table == 1 and cells is not None:
        names = [cell.name for cell in cells]
        raise ValueError(
            f"cells can be asked for of Table 2; of Table 1 validation chooses them, and {names} was given"
        )
    if table == 2 and (own_training or systems is not None or settings_of is not None):
        raise ValueError("own_training, systems and settings_of are of Table 1; of Table 2 choose by cells")
    if settings_of is not None:
        settings_of = checks.check_int("settings_of", settings_of)
        if own_training:
            raise ValueError("own_training takes no settings_of: either says what is trained")
    root = None if data_root is None else str(data_root)
    run = partial(run_cell, dataset=dataset, data_root=root)
    how |= {"folder": folder, "version": version_of(dataset)}
    failed: list[dict[str, Any]] = []
    for shot in shots:
        asked = cells_of_table2(shot) if cells is None else [trained_as(cell, shot) for cell in cells]
        if table == 1 and own_training:
            asked = [next(cell for cell in TABLE1 if cell.factor == system) for system in wanted]
        elif table == 1:
            if settings_of is None:
                settings = [cell for cell in TABLE1 if cell.factor in wanted]
                failed += sweep(run, grid(settings, (shot,), (0,)), engine, **how).failed
            chosen_at = shot if settings_of is None else settings_of
            found = {system: chosen(results(folder, dataset), system, chosen_at) for system in wanted}
            missing = [system for system, cell in found.items() if cell is None]
            if settings_of is not None and missing:
                raise ValueError(f"no setting of {missing} is trained at {settings_of} shots: train these first")
            asked = [cell for cell in found.values() if cell]  # a system whose every setting diverged has none
        failed += sweep(run, grid(asked, (shot,), seeds), engine, **how).failed
    refuse_failed(failed)
    return results(folder, dataset)
