"""Systems compared: differences are paired by seed, and ranks agree as scipy says they do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from labkit.studies.tables import agreement
from labkit.studies.tables.agreement import compared, differences, every_pair, kendall, paired, published
from labkit.studies.tables.head_runs import HeadRun
from labkit.studies.tables.heads import TABLE1_HEADS


def runs(name: str, *accuracies: float, episodes: int = 2000) -> list[HeadRun]:
    return [
        HeadRun("toy", name, name, 1, seed, "b", validation=a - 1, novel={"accuracy": a} | dict.fromkeys(
            ("dataset", "way", "shot", "query", "seed", "digest"), 0) | {"episodes": episodes})
        for seed, a in enumerate(accuracies)
    ]  # fmt: skip


def test_differences_are_paired_by_seed() -> None:
    ours, other = runs("a", 50.0, 60.0, 70.0), runs("b", 49.0, 58.0, 69.0)
    mean, half, single = paired(ours, other)
    assert single == [1.0, 2.0, 1.0]
    t = stats.ttest_1samp(single, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((t.low, t.high))
    assert half < 2  # though the seeds lie twenty points apart
    assert paired(ours, other[:1])[2] == [1.0]
    table = differences({"a": ours, "b": other, "c": runs("c", 80.0, 91.0, 99.0)}, "a")
    assert list(table.index) == ["c", "b"]
    assert table.loc["b", "points"] == pytest.approx(-4 / 3)
    assert table.loc["c", "verdict"] == "better"
    assert compared(ours, {"b": other}, "validation").loc["b", "points"] == pytest.approx(4 / 3)


def test_every_pair_has_the_wider_of_its_intervals() -> None:
    three = {"a": runs("a", 50.0, 60.0, 70.0), "b": runs("b", 49.0, 58.0, 69.0), "c": runs("c", 80.0, 91.0, 99.0)}
    table = every_pair(three).set_index(["system", "against"])
    assert set(table.index) == {("c", "a"), ("c", "b"), ("a", "b")}
    assert table.loc[("a", "b"), "points"] == pytest.approx(4 / 3)
    assert table.loc[("a", "b"), "±"] == pytest.approx(paired(three["a"], three["b"])[1])
    assert every_pair({}).empty


def test_two_that_train_nothing_differ_only_as_far_as_their_episodes_tell() -> None:
    right = {"a": "3 5 4 2 5 1 4 4", "b": "2 5 5 1 4 2 4 3"}
    where = dict.fromkeys(("dataset", "shot", "seed", "digest"), 0) | {"way": 5, "query": 1, "episodes": 8}

    def two(name: str) -> list[HeadRun]:
        accuracy = 20 * float(np.mean([int(n) for n in right[name].split()]))
        run = HeadRun("toy", name, name, 1, 0, "b", novel=where | {"accuracy": accuracy}, correct=right[name])
        return [run, replace(run, seed=1)]

    line = compared(two("a"), {"b": two("b")}).loc["b"]
    single = 20 * (np.array(right["a"].split(), float) - np.array(right["b"].split(), float))
    assert line["points"] == pytest.approx(single.mean())
    assert line["± over seeds"] == 0
    assert line["± over episodes"] == pytest.approx(1.96 * single.std(ddof=1) / 8**0.5)
    assert line["verdict"] == "not decidable"
    (pair,) = every_pair({"a": two("a"), "b": two("b")})["±"]
    assert pair == pytest.approx(line["± over episodes"])


def test_other_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="not tested on the same episodes"):
        paired(runs("a", 50.0, 60.0), runs("b", 50.0, 60.0, episodes=10))


def test_ranks_agree_over_seeds() -> None:
    wanted = {"a": 1.0, "b": 2.0, "c": 3.0}
    measured = {"a": runs("a", 10.0, 10.0), "b": runs("b", 20.0, 5.0), "c": runs("c", 30.0, 30.0), "x": runs("x", 0.0)}
    mean, half, count = agreement.agreement(measured, wanted)
    assert count == 3
    assert mean == pytest.approx((1 + 1 / 3) / 2)
    assert half > 0
    assert kendall(wanted, {"c": 1.0, "b": 2.0, "a": 3.0}) == -1
    assert np.isnan(kendall(wanted, {"c": 1.0}))
    assert agreement.agreement({}, wanted)[2] == 0


def row(cell: str, seed: int, accuracy: float) -> dict[str, Any]:
    return {"cell": cell, "shot": 1, "seed": seed, "validation": accuracy, "novel": {"accuracy": accuracy}}


def test_one_line_stands_under_table_1_end_to_end() -> None:
    # Published: DMF 67.76, CAN 63.85, ProtoNet 49.42.
    rows = [row("dmf", 0, 50.0), row("can, common", 0, 60.0), row("protonet, authors'", 0, 40.0)]
    line = agreement.end_to_end(rows, 1)
    assert line == (
        "1-shot: Kendall's tau between measured and published ranks of 3 systems is 0.33 "
        "(one seed, so no interval over seeds)"
    )
    more = [row("dmf", 1, 70.0), row("can, common", 1, 60.0), row("protonet, authors'", 1, 40.0)]
    half = stats.t.ppf(0.975, 1) * np.std([1 / 3, 1], ddof=1) / 2**0.5
    assert f"is 0.67 ± {half:.2f} (95 % interval over seeds)" in agreement.end_to_end([*rows, *more], 1)
    assert "needs two systems, and 1 of Table 1 is measured" in agreement.end_to_end(rows[:1], 1)
    assert "needs two systems, and none of Table 1 is measured" in agreement.end_to_end(rows, 5)


def test_one_line_stands_under_table_1_on_one_backbone() -> None:
    first = {system: next(h.name for h in TABLE1_HEADS if h.system == system) for system in ("DMF", "CAN", "LEO")}
    made = [
        replace(run, system=system, name=name)
        for (system, name), accuracies in zip(first.items(), [(50.0, 70.0), (60.0, 60.0), (40.0, 65.0)], strict=True)
        for run in runs(name, *accuracies)
    ]
    # Published: DMF 67.76, CAN 63.85, LEO 61.76; seed 0 exchanges two, and so does seed 1.
    assert "of 3 systems is 0.33 ± 0.00 (95 % interval over seeds)" in agreement.on_one_backbone(made, 1)
    assert "none of Table 1 is measured" in agreement.on_one_backbone([], 1)


def test_published_numbers_have_our_names() -> None:
    one = published(1)
    assert one["DMF"] == 67.76
    assert one["FEAT"] == 66.78  # of the ResNet-12
    assert one["DSN"] == 64.60
    assert len(one) == 23
