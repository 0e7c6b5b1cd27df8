"""Systems compared: differences paired by seed, and whether measured ranks agree with published ones."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from labkit.evaluation import intervals
from labkit.studies.tables.cells import SYSTEMS
from labkit.studies.tables.head_runs import HeadRun
from labkit.studies.tables.one_backbone import by_system
from labkit.studies.tables.table1 import BESIDE, PAPER, measured
from labkit.sweeps.kept import Row

COLUMNS = ("points", "± over seeds", "± over episodes", "seeds", "verdict")


def published(shot: int) -> dict[str, float]:
    """The paper's Table 1 on miniImageNet in percent, by our names of the systems."""
    values = pd.read_csv(PAPER).set_index(["model", "backbone"])[f"mini_{shot}shot"].dropna()
    return {system: float(values[row]) for system, row in BESIDE.items() if row in values}


def paired(runs: Sequence[HeadRun], others: Sequence[HeadRun], on: str = "novel") -> tuple[float, float, list[float]]:
    """`runs` minus `others` in points, paired by seed: mean, half width of the 95 % t-interval, single differences.

    Args:
        runs, others: of one setting each, of the same shot, dataset and backbone.
        on: ``"novel"`` or ``"validation"`` classes. Runs without such a number do not count.

    Raises:
        ValueError: they were tested on different episodes.
    """
    first, second = (_by_seed(rows, on) for rows in (runs, others))
    seeds = sorted(first.keys() & second.keys())
    if on == "novel" and len(where := {_episodes(r) for r in (*runs, *others) if r.novel}) > 1:
        raise ValueError(f"they were not tested on the same episodes: {sorted(where)}")
    single = [first[seed] - second[seed] for seed in seeds]
    return *intervals.over_seeds(single), single


def compared(
    runs: Sequence[HeadRun], others: Mapping[str, Sequence[HeadRun]], on: str = "novel", least: float = 0.0
) -> pd.DataFrame:
    """`runs` minus every other system, those that `runs` is furthest ahead of first.

    Columns: points; the half width of the seed-paired 95 % t-interval; the half width of the interval over the episodes
    that both were tested on; seeds; and a verdict, which needs both intervals to exclude zero: two systems that train
    nothing have no spread over seeds at all. Of validation classes single episodes are not kept: `least` then stands
    for their interval, NaN where it is 0. A system without a seed in common is left out.
    """
    lines = {}
    for name, rows in others.items():
        mean, half, single = paired(runs, rows, on)
        if single:
            episodes = over_shared_episodes(runs, rows) if on == "novel" else least or float("nan")
            widest = half if np.isnan(half) else np.nanmax([half, episodes])
            verdict = intervals.verdict(mean, widest)
            lines[name] = dict(zip(COLUMNS, (mean, half, episodes, len(single), verdict), strict=True))
    table = pd.DataFrame.from_dict(lines, orient="index", columns=list(COLUMNS))
    return table.sort_values("points", ascending=False)


def every_pair(runs: Mapping[str, Sequence[HeadRun]]) -> pd.DataFrame:
    """`compared` of every two systems, for `table1.pair_figure`: difference in points, ± the wider of its intervals.

    Half widths over episodes and, with several seeds, over these: a verdict needs both to exclude zero.
    """
    names = sorted(runs, key=lambda name: -float(np.mean([run.accuracy for run in runs[name]])))
    lines = []
    for place, name in enumerate(names[:-1]):
        table = compared(runs[name], {other: runs[other] for other in names[place + 1 :]})
        for other, line in table.iterrows():
            half = np.nanmax([line["± over seeds"], line["± over episodes"]])
            lines.append({"system": name, "against": other, "points": line["points"], "±": half})
    return pd.DataFrame(lines, columns=["system", "against", "points", "±"])


def over_shared_episodes(runs: Sequence[HeadRun], others: Sequence[HeadRun]) -> float:
    """Half width in points of the 95 % interval, over episodes, of the difference; means over shared seeds come first.

    NaN where single episodes were not kept.
    """
    first, second = ({run.seed: run.per_episode for run in rows if run.correct} for rows in (runs, others))
    single = [first[seed] - second[seed] for seed in first.keys() & second.keys()]
    return intervals.over_episodes(np.mean(single, axis=0))[1] if single else float("nan")


def differences(runs: Mapping[str, Sequence[HeadRun]], against: str, on: str = "novel") -> pd.DataFrame:
    """Every system minus `against`, otherwise as `compared`.

    Raises:
        KeyError: `against` has no runs.
    """
    table = compared(runs[against], {name: rows for name, rows in runs.items() if name != against}, on)
    words = {"better": "worse", "worse": "better"}
    table["points"] = -table["points"]
    table["verdict"] = [words.get(word, word) for word in table["verdict"]]
    return table[::-1]


def kendall(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Kendall's tau of two rankings, over the systems that are in both; NaN for fewer than two."""
    from scipy.stats import kendalltau  # slow to import

    names = sorted(first.keys() & second.keys())
    if len(names) < 2:
        return float("nan")
    return float(kendalltau([first[n] for n in names], [second[n] for n in names]).statistic)


def agreement(runs: Mapping[str, Sequence[HeadRun]], wanted: Mapping[str, float]) -> tuple[float, float, int]:
    """Kendall's tau between measured and published ranks: mean over seeds, half width of its t-interval, systems.

    The seeds are those of which every system has a run; half the width is NaN where that is one seed.

    Args:
        runs: of every system, as `labkit.studies.tables.one_backbone.by_system` gives.
        wanted: the published accuracy of every system (`published`).
    """
    return _agreement({name: _by_seed(rows, "novel") for name, rows in runs.items()}, wanted)


def _agreement(reached: Mapping[str, Mapping[int, float]], wanted: Mapping[str, float]) -> tuple[float, float, int]:
    """`agreement` of accuracies by system and seed."""
    reached = {name: by_seed for name, by_seed in reached.items() if name in wanted and by_seed}
    if len(reached) < 2:
        return float("nan"), float("nan"), len(reached)
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in reached.values())))
    taus = [kendall({name: by_seed[seed] for name, by_seed in reached.items()}, wanted) for seed in seeds]
    return *intervals.over_seeds(taus), len(reached)


def on_one_backbone(runs: Sequence[HeadRun], shot: int) -> str:
    """The line under Table 1 on one backbone: how far its ranks are those of the published column."""
    return _line(shot, *agreement(by_system(runs, shot), published(shot)))


def end_to_end(rows: Sequence[Row], shot: int) -> str:
    """The line under Table 1 end to end, of rows as `labkit.studies.tables.train_cells.results` gives them."""
    reached = {
        system: {int(row["seed"]): float(row["novel"]["accuracy"]) for row in measured(rows, system, shot)}
        for system in SYSTEMS
    }
    return _line(shot, *_agreement(reached, published(shot)))


def _line(shot: int, tau: float, half: float, systems: int) -> str:
    what = f"{shot}-shot: Kendall's tau between measured and published ranks"
    if systems < 2:
        return f"{what} needs two systems, and {systems or 'none'} of Table 1 is measured"
    if np.isnan(tau):
        return f"{what} needs a seed that all {systems} measured systems have"
    over = "one seed, so no interval over seeds" if np.isnan(half) else "95 % interval over seeds"
    return f"{what} of {systems} systems is {tau:.2f}{'' if np.isnan(half) else f' ± {half:.2f}'} ({over})"


def _by_seed(runs: Sequence[HeadRun], on: str) -> dict[int, float]:
    values = {run.seed: run.accuracy if on == "novel" else run.validation for run in runs}
    return {seed: value for seed, value in values.items() if np.isfinite(value)}


def _episodes(run: HeadRun) -> tuple[str, ...]:
    return tuple(f"{run.novel[name]}" for name in ("dataset", "way", "shot", "query", "episodes", "seed", "digest"))
