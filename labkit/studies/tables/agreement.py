"""Systems compared: differences paired by seed and by episode, and whether measured ranks agree with published ones."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from labkit.evaluation import intervals
from labkit.studies.tables.cells import SYSTEMS
from labkit.studies.tables.one_backbone import by_system
from labkit.studies.tables.runs import Run, mean_of_seeds, over_classes
from labkit.studies.tables.table1 import BESIDE, PAPER, measured

COLUMNS = ("points", "± over seeds", "± over episodes", "± over classes", "seeds", "verdict", "of other classes")
RESNET12 = frozenset(system for system, (_, backbone) in BESIDE.items() if backbone == "Res-12")


def published(shot: int) -> dict[str, float]:
    """The paper's Table 1 on miniImageNet in percent, by our names of the systems."""
    values = pd.read_csv(PAPER).set_index(["model", "backbone"])[f"mini_{shot}shot"].dropna()
    return {system: float(values[row]) for system, row in BESIDE.items() if row in values}


def paired(runs: Sequence[Run], others: Sequence[Run], on: str = "novel") -> tuple[float, float, list[float]]:
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
    runs: Sequence[Run], others: Mapping[str, Sequence[Run]], on: str = "novel", least: float = 0.0
) -> pd.DataFrame:
    """`runs` minus every other system, those that `runs` is furthest ahead of first.

    Columns: points; the half widths of the seed-paired 95 % t-interval, of the interval over the episodes that both
    were tested on, and of that had these episodes' classes been drawn anew; seeds; a verdict on these classes, which
    needs both of the first two intervals to exclude zero: two systems that train nothing have no spread over seeds at
    all; and one of other classes, which needs the first and the third. Of validation classes single episodes are not
    kept: `least` then stands for their interval, NaN where it is 0, and nothing is said of other classes. A system
    without a seed in common is left out.
    """
    lines = {}
    for name, rows in others.items():
        mean, half, single = paired(runs, rows, on)
        if single:
            episodes, classes = over_shared_episodes(runs, rows) if on == "novel" else (least or np.nan, np.nan)
            verdicts = [intervals.verdict(mean, wider(half, other)) for other in (episodes, classes)]
            of_others = "" if np.isnan(classes) else verdicts[1]
            line = (mean, half, episodes, classes, len(single), verdicts[0], of_others)
            lines[name] = dict(zip(COLUMNS, line, strict=True))
    table = pd.DataFrame.from_dict(lines, orient="index", columns=list(COLUMNS))
    if on != "novel":
        table = table.drop(columns=["± over classes", "of other classes"])
    return table.sort_values("points", ascending=False)


def every_pair(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """`compared` of every two systems, for `table1.pair_figure`: difference in points, ± the wider of its intervals.

    Half widths over episodes and, with several seeds, over these: a verdict needs both to exclude zero.
    """
    names = sorted(runs, key=lambda name: -float(np.mean([run.accuracy for run in runs[name]])))
    lines = []
    for place, name in enumerate(names[:-1]):
        table = compared(runs[name], {other: runs[other] for other in names[place + 1 :]})
        for other, line in table.iterrows():
            half = wider(line["± over seeds"], line["± over episodes"])
            lines.append({"system": name, "against": other, "points": line["points"], "±": half})
    return pd.DataFrame(lines, columns=["system", "against", "points", "±"])


def over_shared_episodes(runs: Sequence[Run], others: Sequence[Run]) -> tuple[float, float]:
    """Half widths in points of the difference's 95 % intervals, over episodes and over their classes; means over shared
    seeds come first.

    NaN where single episodes were not kept.
    """
    seeds = {run.seed for run in runs if run.correct} & {run.seed for run in others if run.correct}
    first, second = (mean_of_seeds([run for run in rows if run.seed in seeds]) for rows in (runs, others))
    if first is None or second is None:
        return float("nan"), float("nan")
    novel = next(run.novel for run in runs if run.seed in seeds)
    return intervals.over_episodes(first - second)[1], over_classes(first - second, novel)


def wider(seeds: float, other: float) -> float:
    """The wider of two half widths; NaN where there is none over seeds, as of a single one."""
    return seeds if np.isnan(seeds) else float(np.nanmax([seeds, other]))


def differences(runs: Mapping[str, Sequence[Run]], against: str, on: str = "novel") -> pd.DataFrame:
    """Every system minus `against`, otherwise as `compared`.

    Raises:
        KeyError: `against` has no runs.
    """
    table = compared(runs[against], {name: rows for name, rows in runs.items() if name != against}, on)
    words = {"better": "worse", "worse": "better"}
    table["points"] = -table["points"]
    for column in table.columns.intersection(["verdict", "of other classes"]):
        table[column] = [words.get(word, word) for word in table[column]]
    return table[::-1]


def kendall(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Kendall's tau of two rankings, over the systems that are in both; NaN for fewer than two."""
    from scipy.stats import kendalltau  # slow to import

    names = sorted(first.keys() & second.keys())
    if len(names) < 2:
        return float("nan")
    return float(kendalltau([first[n] for n in names], [second[n] for n in names]).statistic)


class Agreement(NamedTuple):
    """Kendall's tau between measured and published ranks.

    Attributes:
        tau: of mean accuracies over the seeds of which every system has a run.
        over_seeds: half width of the 95 % t-interval of single seeds' tau, NaN of one seed: how well these systems'
            trainings are known.
        low, high: 95 % interval had other systems been compared (bootstrap over systems).
        systems: their number.
    """

    tau: float
    over_seeds: float
    low: float
    high: float
    systems: int


def agreement(
    runs: Mapping[str, Sequence[Run]], wanted: Mapping[str, float], among: Collection[str] | None = None
) -> Agreement:
    """How far measured ranks are the published ones; tau is NaN for fewer than two systems, or without a common seed.

    Args:
        runs: of every system, as `labkit.studies.tables.one_backbone.by_system` gives.
        wanted: the published accuracy of every system (`published`).
        among: only these systems, such as `RESNET12`: published accuracies differ by their backbones too.
    """
    of = {name: _by_seed(rows, "novel") for name, rows in runs.items() if among is None or name in among}
    of = {name: by_seed for name, by_seed in of.items() if name in wanted and by_seed}
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in of.values()))) if len(of) > 1 else []
    if not seeds:
        nan = float("nan")
        return Agreement(nan, nan, nan, nan, len(of))
    taus = [kendall({name: by_seed[seed] for name, by_seed in of.items()}, wanted) for seed in seeds]
    mean = {name: float(np.mean([by_seed[seed] for seed in seeds])) for name, by_seed in of.items()}
    low, high = _over_systems(mean, wanted)
    return Agreement(kendall(mean, wanted), intervals.over_seeds(taus)[1], low, high, len(of))


def _over_systems(first: Mapping[str, float], second: Mapping[str, float], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of Kendall's tau over the systems of `first`; pairs of one system with itself are left
    out."""
    a, b = (np.array([of[name] for name in first]) for of in (first, second))
    alike = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    apart = (np.abs(np.sign(a[:, None] - a)), np.abs(np.sign(b[:, None] - b)))
    often = np.random.default_rng(0).multinomial(len(a), np.full(len(a), 1 / len(a)), size=draws)
    summed, *pairs = (np.einsum("di,ij,dj->d", often, matrix, often) for matrix in (alike, *apart))
    of_order = pairs[0] * pairs[1]
    ordered = of_order > 0  # a draw of one system alone has no order
    if not ordered.any():
        return float("nan"), float("nan")
    low, high = np.percentile(summed[ordered] / np.sqrt(of_order[ordered]), [2.5, 97.5])
    return float(low), float(high)


def on_one_backbone(runs: Sequence[Run], shot: int) -> str:
    """The line under Table 1 on one backbone: how far its ranks are those of the published column."""
    return f"{shot}-shot: {line_of_ranks(by_system(runs, shot), shot)}"


def end_to_end(runs: Sequence[Run], shot: int) -> str:
    """The line under Table 1 end to end, of runs as `labkit.studies.tables.train_cells.results` gives them."""
    return f"{shot}-shot: {line_of_ranks({system: measured(runs, system, shot) for system in SYSTEMS}, shot)}"


def line_of_ranks(runs: Mapping[str, Sequence[Run]], shot: int) -> str:
    """Kendall's tau of all systems, and of those that were published on a ResNet-12, with its intervals."""
    wanted, what = published(shot), "Kendall's tau between measured and published ranks"
    found = agreement(runs, wanted)
    if found.systems < 2:
        return f"{what} needs two systems, and {found.systems or 'none'} of Table 1 is measured."
    if np.isnan(found.tau):
        return f"{what} needs a seed that all {found.systems} measured systems have."
    over = "one seed" if np.isnan(found.over_seeds) else f"± {found.over_seeds:.2f} over seeds"
    said = f"{what} of {found.systems} systems is {_tau(found)}, {over}."
    alike = agreement(runs, wanted, RESNET12)
    if 2 < alike.systems < found.systems:
        said += f" Of the {alike.systems} that were published on a ResNet-12: {_tau(alike)}."
    return said


def _tau(found: Agreement) -> str:
    return f"{found.tau:.2f} ({found.low:.2f} to {found.high:.2f} over systems)"


def _by_seed(runs: Sequence[Run], on: str) -> dict[int, float]:
    values = {run.seed: run.accuracy if on == "novel" else run.validation for run in runs}
    return {seed: value for seed, value in values.items() if np.isfinite(value)}


def _episodes(run: Run) -> tuple[str, ...]:
    return tuple(f"{run.novel[name]}" for name in ("dataset", "way", "shot", "query", "episodes", "seed", "digest"))
