"""Tables 1 and 2 on one backbone: its feature maps are computed once, and only what a system adds is trained.

``dmf-lab table 1 ../runs/heads --protocol one-backbone --backbone mini-backbone-42 --dataset miniimagenet
--data-root /data/x`` trains what is not trained yet, and may be stopped and started again at will; with ``--gather`` it
adds what is finished to the lab's results. Numbers of this protocol are never compared with those of systems trained
end to end.

With ``--novel tinyimagenet --novel-root /data/y`` what validation has chosen is trained in the same way and looks at
the 174 classes of `labkit.data.tinyimagenet` in place of miniImageNet's twenty; these runs are kept apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from labkit.common import checks, places
from labkit.data import tinyimagenet
from labkit.evaluation.provenance import said_pictures
from labkit.studies.tables.cells import asked_of
from labkit.studies.tables.head_runs import EPISODES, WAY, Maps, maps_of, train_and_measure
from labkit.studies.tables.heads import (
    HEADS,
    RELEASED_HEADS,
    STEPS,
    SYSTEMS,
    TABLE1_HEADS,
    TABLE2_HEADS,
    Head,
    heads_of_table2,
    options_on,
)
from labkit.studies.tables.heads import pooled_once_more as pooled
from labkit.studies.tables.runs import Run, best_on_validation
from labkit.sweeps import kept
from labkit.sweeps.sweep import refuse_failed, sweep

VERSION = 1  # of what a head means: raised by hand, so that a refactoring throws no finished training away
RESULTS = places.RESULTS / "one_backbone.jsonl"
MORE_CLASSES = places.RESULTS / "more_classes.jsonl"  # runs that were tested on other novel classes than their own
SEEDS = (0, 1, 2)
BY = ("dataset", "backbone", "name", "shot", "seed")


def run_head(
    parameters: dict[str, Any],
    folder: Path,
    *,
    backbone: str = "",
    data_root: str | None = None,
    novel_root: str | None = None,
    steps: int = STEPS,
    episodes: int = EPISODES,
) -> dict[str, Any]:
    """One run of the sweep: ``{"dataset", "backbone", "name", "shot", "seed"}``, the backbone by its digest.

    With ``"novel"`` too it looks at the novel classes of that data set, whose files lie in `novel_root`.
    """
    given, head = dict(parameters), HEADS[parameters["name"]]
    of_novel = (given["novel"], novel_root) if "novel" in given else None
    maps = maps_of(backbone, given["dataset"], data_root, mirrored=head.mirrored(given["shot"]), novel=of_novel)
    if maps.base.backbone != given["backbone"]:
        raise ValueError(f"the backbone {backbone} is {maps.base.backbone}, and {given['backbone']} was asked for")
    if head.pooled:
        maps = Maps(*map(pooled, maps))
    table, row = row_of(head)
    command = (
        f"dmf-lab table {table} FOLDER --protocol one-backbone --backbone {Path(backbone).stem} "
        f'{said_pictures(given["dataset"])} --shots {given["shot"]} --seeds {given["seed"]} --systems "{row}"'
    ) + (f" --novel {given['novel']} --novel-root ROOT" if "novel" in given else "")
    own = {name: given[name] for name in BY}
    of = Run(system=head.system, command=command, tested_on=given.get("novel"), **own)
    options = options_on(head, maps.base, WAY, of.shot)
    run = train_and_measure(head.method, options, maps, folder, of, head.phases(steps), episodes=episodes)
    found = run.to_json()
    return found if head.trained else found | {"steps": 0}


def row_of(head: Head) -> tuple[str, str]:
    """The table's number and option that a head is of, and its row's name there."""
    if head in TABLE1_HEADS:
        return "1", head.system
    of_cell = {own.name: cell for cell, own in RELEASED_HEADS.items()}
    return ("2 --released", of_cell[head.name]) if head.name in of_cell else ("2", head.name)


def results(
    folder: Path | str | None = None, version: int | str = VERSION, *, novel: str | None = None, **wanted: Any
) -> list[Run]:
    """The runs that are finished, the lab's own and those of a sweep's folder; `wanted` names fields and their values.

    For example ``results(dataset="miniimagenet", shot=1)``.

    Args:
        novel: the data set whose novel classes they were tested on, where it is not their own.

    Raises:
        ValueError: no run can be tested on the classes of `novel`.
    """
    check_novel(novel)
    file = MORE_CLASSES if novel else RESULTS
    rows = kept.all_rows(file, folder, version, BY, of_file=lambda row: _tested_on(row) == novel)
    runs = [Run.from_json(row) for row in rows]
    return [run for run in runs if all(getattr(run, name) == value for name, value in wanted.items())]


def _tested_on(row: dict[str, Any]) -> str | None:
    """The data set whose novel classes a run looked at, None for its own; older rows say it by these alone."""
    if "tested_on" in row:
        return None if row["tested_on"] is None else str(row["tested_on"])
    name = row["novel"].get("dataset", row["dataset"])
    return None if name == row["dataset"] else str(name)


def check_novel(novel: str | None, dataset: str = tinyimagenet.TRAINED_ON) -> None:
    """Raises:
    ValueError: the classes of `novel` are not known to be new to what was trained on `dataset`.
    """
    if novel is not None and (novel, dataset) != (tinyimagenet.NAME, tinyimagenet.TRAINED_ON):
        raise ValueError(
            f"only the classes of {tinyimagenet.NAME} are known to be new to {tinyimagenet.TRAINED_ON}; "
            f"got those of {novel} for {dataset}"
        )


def gather(folder: Path, novel: str | None = None) -> None:
    """Add what is finished in a sweep's folder to the lab's results, of runs on `novel` as in `results`.

    Raises:
        ValueError: nothing is finished there, or no run can be tested on the classes of `novel`.
    """
    check_novel(novel)
    found = [row for row in kept.finished_rows(folder, VERSION) if _tested_on(row) == novel]
    kept.gather(MORE_CLASSES if novel else RESULTS, folder, found, BY)


def chosen(runs: Sequence[Run], system: str, shot: int) -> str | None:
    """The setting of a system of Table 1 that is best on validation classes at seed 0; None where none is trained."""
    # Of settings that are equally good, as E3BM's are at one shot, the first by its name.
    return best_on_validation(runs, sorted(head.name for head in TABLE1_HEADS if head.system == system), shot)


def of_table2(runs: Iterable[Run], released: bool = False) -> list[Run]:
    """The runs of Table 2's cells under the names that they have end to end, so that `table2` judges both alike.

    `released`: those of DMF as its authors released it, not by the paper's equations.
    """
    cells = {head.name: cell for cell, head in (RELEASED_HEADS if released else TABLE2_HEADS).items()}
    return [replace(run, name=cells[run.name]) for run in runs if run.name in cells]


def by_system(runs: Sequence[Run], shot: int) -> dict[str, list[Run]]:
    """The runs of every system's chosen setting, by seed; systems without any are left out.

    Raises:
        ValueError: the runs are of several datasets or backbones, whose numbers say nothing of one another.
    """
    of_shot = [run for run in runs if run.shot == shot]
    kinds = {(run.dataset, run.backbone) for run in of_shot}
    if len(kinds) > 1:
        raise ValueError(f"runs of one dataset and one backbone can be compared, these are of {sorted(kinds)}")
    names = {system: chosen(of_shot, system, shot) for system in SYSTEMS}
    found = {s: [r for r in of_shot if r.name == name and r.novel] for s, name in names.items()}
    return {s: sorted(rows, key=lambda r: r.seed) for s, rows in found.items() if rows}


def fill(
    folder: Path | str,
    table: int,
    backbone: str | Path,
    dataset: str = "glyphs-mini",
    data_root: str | Path | None = None,
    shots: Iterable[int] = (1, 5),
    seeds: Iterable[int] = SEEDS,
    engine: str = "local",
    *,
    systems: Sequence[str] | None = None,
    released: bool = False,
    novel: str | None = None,
    novel_root: str | Path | None = None,
    steps: int = STEPS,
    episodes: int = EPISODES,
    **how: Any,
) -> list[Run]:
    """Train what a table on one backbone lacks, and return all that is finished for this dataset and backbone.

    Of Table 1 both settings of a system are trained with seed 0, and the one that validation chooses with all seeds.
    Tested on other classes is only what is chosen already.

    Args:
        table: 1 or 2.
        systems: of Table 1, or names of cells of Table 2; None means all.
        released: of Table 2, DMF as its authors released it in place of the paper's equations.
        novel, novel_root: test on the novel classes of this data set instead of those of `dataset`.
        steps, episodes: fewer for a first look, which `results` and `gather` do not count.

    Raises:
        ValueError: a table, a system or a cell that is not there; `released` of Table 1, which has both; `novel` of
            classes that are not known to be new to `dataset`, or of a system of which validation has chosen nothing.
        FailedRunsError: at the end, if some runs failed.
    """
    shots, seeds = asked_of(table, shots, seeds)
    if released and table == 1:
        raise ValueError("released is of Table 2: in Table 1 it is one of DMF's two settings")
    check_novel(novel, dataset)
    if novel is None and novel_root is not None:
        raise ValueError(f"novel_root is where the pictures of novel={tinyimagenet.NAME!r} lie: give that too")
    of_novel = (novel, novel_root) if novel else None
    # Once, for all processes.
    maps = maps_of(backbone, dataset, data_root, progress=how.get("progress", True), novel=of_novel)
    digest = maps.base.backbone
    root, other = (None if path is None else str(path) for path in (data_root, novel_root))
    fewer: dict[str, Any] = {"steps": steps, "episodes": episodes}
    run = partial(run_head, backbone=str(backbone), data_root=root, novel_root=other, **fewer)
    failed: list[dict[str, Any]] = []
    version = VERSION if (steps, episodes) == (STEPS, EPISODES) else f"{VERSION}, {steps} steps, {episodes} episodes"

    def do(names: Iterable[str], shot: int, which: Iterable[int]) -> None:
        fixed = {"dataset": dataset, "backbone": digest, "shot": shot} | ({"novel": novel} if novel else {})
        grid = [fixed | {"name": name, "seed": seed} for seed in which for name in names]
        failed.extend(sweep(run, grid, engine, folder=folder, version=version, **how).failed)

    def finished(novel: str | None = None) -> list[Run]:
        return results(folder, version, novel=novel, dataset=dataset, backbone=digest)

    for shot in shots:
        if table == 2:
            cells = heads_of_table2(shot, released)
            do([cells[name].name for name in some_of(systems, list(cells))], shot, seeds)
            continue
        asked = some_of(systems, list(SYSTEMS))
        if not novel:
            do([head.name for head in TABLE1_HEADS if head.system in asked], shot, [0])
        names = {system: name for system in asked if (name := chosen(finished(), system, shot))}
        if novel and (unknown := [system for system in asked if system not in names]):
            raise ValueError(
                f"at {shot} shots validation has chosen no setting of {', '.join(unknown)} on this backbone yet: give "
                "the same command without the other novel classes first"
            )
        do(names.values(), shot, seeds)
    refuse_failed(failed)
    return finished(novel)


def some_of(wanted: Sequence[str] | None, there: list[str]) -> list[str]:
    """The systems or cells that are asked for, all of `there` where `wanted` is None.

    Raises:
        ValueError: one that is not there.
    """
    if unknown := sorted(set(wanted or ()) - set(there)):
        raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(there)}")
    return there if wanted is None else list(checks.several("systems", wanted, "names"))
