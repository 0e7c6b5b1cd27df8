"""What a table says in one line and in a few rows, from the stored runs of either protocol, for notebooks 4, 5 and 13.

Nothing here is written by hand: a verdict is computed from the runs that exist, and what does not exist is named with
the command that measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit.evaluation import intervals
from labkit.evaluation.provenance import said_pictures
from labkit.studies.tables.agreement import compared, differences, line_of_ranks, published, wider
from labkit.studies.tables.cells import SYSTEMS as END_TO_END
from labkit.studies.tables.heads import SYSTEMS, TABLE1_HEADS
from labkit.studies.tables.one_backbone import chosen
from labkit.studies.tables.runs import Run, mean_of_seeds
from labkit.studies.tables.table1 import measured

OURS = "DMF"
REFERENCES = ("No alignment", "SimpleShot")  # no systems of the paper's table
Runs = Mapping[str, Sequence[Run]]


def command(
    table: int,
    backbone: str | Path,
    dataset: str,
    data_root: object = None,
    shots: Sequence[int] = (1,),
    systems: Sequence[str] = (),
    released: bool = False,
) -> str:
    """The command that measures what a table on one backbone lacks."""
    names = "".join(f' "{name}"' for name in systems)
    return (
        f"dmf-lab table {table} ../runs/heads --protocol one-backbone --backbone {backbone} "
        f"{said_pictures(dataset, data_root)} --shots {' '.join(map(str, shots))}"
        + (" --released" if released else "")
        + (f" --systems{names}" if names else "")
    )


def missing(runs: Runs) -> list[str]:
    """Systems of Table 1 on one backbone that have no run."""
    return [name for name in SYSTEMS if name not in runs]


def on_one_backbone(runs: Runs, shot: int, against: str = OURS) -> pd.DataFrame:
    """Every system, best first: accuracy on novel classes, its difference from `against`, what was published.

    Accuracies are means over seeds in percent; differences are paired by seed and by episode. Both have the half widths
    of two 95 % intervals, over the test episodes and over seeds, and differences that had other classes been drawn. A
    verdict needs both of the first to exclude zero, one "of other classes" that over classes and that over seeds.
    Differences are left out where `against` has no runs, published accuracies where the runs are not of miniImageNet.
    """
    wanted, lines = published(shot), {}
    beside = differences(runs, against) if against in runs else None
    for name, rows in runs.items():
        tested = [run for run in rows if np.isfinite(run.accuracy)]
        if not tested:
            continue
        mean, half = intervals.over_seeds([run.accuracy for run in tested])
        line: dict[str, object] = {"accuracy, %": mean, "± over episodes": _over_episodes(tested)}
        line |= {"± over seeds": half, "seeds": len(tested)}
        if beside is not None:
            own = beside.loc[name] if name in beside.index else None
            line[f"minus {against}"] = np.nan if own is None else own["points"]
            for over in ("episodes", "seeds", "classes"):
                line[f"its ± over {over}"] = np.nan if own is None else own[f"± over {over}"]
            for verdict in ("verdict", "of other classes"):
                line[verdict] = "" if own is None else own[verdict]
        line["weights"] = rows[0].weights if rows[0].steps else 0
        if rows[0].dataset == "miniimagenet" and rows[0].tested_on is None:  # what the published accuracies are of
            line["PUBLISHED, %"] = wanted.get(name, np.nan)
        lines[name] = line
    table = pd.DataFrame.from_dict(lines, orient="index")
    return table if table.empty else table.sort_values("accuracy, %", ascending=False)


def on_more_classes(runs: Runs, more: Runs, against: str = OURS) -> pd.DataFrame:
    """Every system minus `against` on its data set's own novel classes and on another's, where the best stands first.

    Args:
        runs, more: of one number of shots and the same settings and seeds, tested on different classes. Systems whose
            settings differ are left out.

    Returns:
        by the data set whose classes were tested: accuracy in percent, difference in points, the half widths of its
        95 % intervals over seeds and had other classes been drawn, and the verdict for those, which needs both; and
        whether the two differences agree: they are no further apart than both intervals over classes allow. Empty
        where `against` was not measured on both in one setting.
    """
    difference, half = f"minus {against}", "± over classes"
    alike = [name for name in runs if name in more and runs[name][0].name == more[name][0].name]
    if against not in alike:
        return pd.DataFrame()
    parts = {}
    for tested in (runs, more):
        own = differences({name: tested[name] for name in alike}, against).rename(columns={"points": difference})
        own = own[[difference, "± over seeds", half, "of other classes"]]
        own.insert(0, "accuracy, %", [float(np.mean([run.accuracy for run in tested[name]])) for name in own.index])
        parts[tested[against][0].novel["dataset"]] = own
    table = pd.concat(parts, axis=1, join="inner")
    (one, other), (first, second) = ([table[count, entry] for count in parts] for entry in (difference, half))
    apart, allowed = (one - other).abs(), np.hypot(first, second)
    table["both", "agree"] = np.select([allowed.isna(), apart <= allowed], ["", "yes"], "no")
    first_there: pd.DataFrame = table.loc[other.sort_values(ascending=False, kind="stable").index]
    return first_there


def _over_episodes(runs: Sequence[Run]) -> float:
    """Half width in points of the 95 % interval over test episodes, of the mean over seeds."""
    mean = mean_of_seeds(runs)
    return float(np.mean([run.novel["ci95"] for run in runs])) if mean is None else intervals.over_episodes(mean)[1]


def settings(runs: Sequence[Run]) -> pd.DataFrame:
    """Both settings of every system of Table 1, by numbers of shots: accuracy in percent on validation classes with
    seed 0, which chooses, and on novel classes, with how many seeds it is the mean of; a mark on what is chosen."""
    lines: dict[tuple[str, str], dict[tuple[str, str], object]] = {}
    for shot in sorted({run.shot for run in runs}):
        best = {chosen(runs, system, shot) for system in SYSTEMS}
        for head in TABLE1_HEADS:
            own = sorted((r for r in runs if (r.name, r.shot) == (head.name, shot)), key=lambda r: r.seed)
            tested = [run.accuracy for run in own if np.isfinite(run.accuracy)]
            if own:
                line = lines.setdefault((head.system, head.name.partition(": ")[2] or "as it is"), {})
                first = next((run.validation for run in own if run.seed == 0), np.nan)
                line[f"{shot}-shot", "validation, %"] = first
                line[f"{shot}-shot", "novel, %"] = float(np.mean(tested)) if tested else np.nan
                line[f"{shot}-shot", "seeds"] = len(own)
                line[f"{shot}-shot", ""] = "chosen" if head.name in best else ""
    table = pd.DataFrame(lines).T.infer_objects()
    table.index = pd.MultiIndex.from_tuples(lines, names=["system", "setting"])  # of no runs too
    # Whole numbers also where a setting has no run with so many shots.
    return table.astype({column: "Int64" for column in table.columns if column[1] == "seeds"})


def answer_of_table1(runs: Runs, shot: int) -> str:
    """Is DMF ahead, and of whom? In one line."""
    if OURS not in runs:
        return f"{shot}-shot: DMF is not measured yet."
    table = compared(runs[OURS], {name: rows for name, rows in runs.items() if name != OURS})
    if table["seeds"].max() == 1:
        order = sorted(runs, key=lambda name: -runs[name][0].accuracy)
        first, own = (f"{runs[name][0].accuracy:.1f} %" for name in (order[0], OURS))
        said = f"{shot}-shot: one seed each, which decides nothing. Of {len(order)} systems DMF is number "
        return said + f"{order.index(OURS) + 1}, {own}; first is {order[0]}, {first}."
    rivals = table.drop(index=list(REFERENCES), errors="ignore")  # these get sentences of their own
    said = f"{shot}-shot:"
    if len(rivals):
        said += f" of {len(rivals)} other systems DMF is {_counted(rivals['verdict'])} on these novel classes."
        known = rivals.loc[rivals["of other classes"] != "", "of other classes"]
        if len(known):
            said += f" Had other classes been drawn, it would be shown to be {_counted(known)}."
    for name in (name for name in REFERENCES if name in table.index):
        line = table.loc[name]
        half: Any = line["± over seeds"]
        classes: Any = line["± over classes"]
        said += f" DMF minus {name[0].lower() + name[1:] if ' ' in name else name}: {line['points']:+.1f}"
        said += f"{_half_width(half)} points, {line['verdict']}"
        if line["of other classes"]:
            said += f" (for other classes{_half_width(wider(half, classes))}, {line['of other classes']})"
        said += "."
    ranked = len(runs.keys() & published(shot).keys()) > 2
    return f"{said} {line_of_ranks(runs, shot)}" if ranked else said


def _half_width(half: float) -> str:
    return "" if np.isnan(half) else f" ± {half:.1f}"


def _counted(verdicts: pd.Series[str]) -> str:
    count = verdicts.value_counts()
    words = {"better": "ahead of", "worse": "behind", "not decidable": "undecided against"}
    return ", ".join(f"{said} {count.get(word, 0)}" for word, said in words.items())


def answer_of_table2(claims: pd.DataFrame, protocol: str) -> str:
    """How many of section 5.3's claims held, in one line."""
    words = claims["verdict"].str.partition(" (")[0].value_counts()
    if int(words.get("not measured yet", 0)) == len(claims):
        return f"{protocol}: no claim is measured yet."
    parts = ", ".join(f"{words.get(w, 0)} {w}" for w in ("held", "not held", "not decidable", "not measured yet"))
    return f"{protocol}: of the {len(claims)} claims of section 5.3, {parts}."


def answer_end_to_end(runs: Sequence[Run], shot: int) -> str:
    """How far the systems of Table 1 came that were trained end to end, and how many did not start; in one line.

    The interval is over the test episodes; where one seed of each is trained, none over seeds is known.
    """
    first = {system: found[0] for system in END_TO_END if (found := measured(runs, system, shot))}
    if not first:
        return f"{shot}-shot, end to end: no system is measured."
    order = sorted(first, key=lambda system: -first[system].accuracy)
    reached = {name: intervals.shown(run.accuracy, run.novel["ci95"]) for name, run in first.items()}
    if len(first) == 1:
        return f"{shot}-shot, end to end: only {order[0]} is measured, {reached[order[0]]} %."
    best = ", ".join(f"{system} {reached[system]}" for system in order[:3])
    late = [system for system in order if not first[system].started]
    said = f"{shot}-shot, end to end: {len(first)} systems, one training each, which ranks none; {best} %."
    if OURS in first and OURS not in order[:3]:
        said += f" DMF {reached[OURS]} %."
    return said + (f" Not started: {', '.join(late)}." if late else "")


def by_protocol(claims: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The claims with what the trainings of each protocol say of them, side by side; by names for the columns."""
    table = next(iter(claims.values()))[["claim", "shots", "PUBLISHED, table"]].copy()
    for name, found in claims.items():
        table[name] = [_difference(c) for _, c in found.iterrows()]
        table[f"verdict, {name}"] = list(found["verdict"])
    return table


def _difference(claim: pd.Series[Any]) -> str:
    if not claim["seeds"]:
        return ""
    return intervals.shown(claim["MEASURED"], claim["±"]) if claim["seeds"] > 1 else f"{claim['MEASURED']:.1f}"
