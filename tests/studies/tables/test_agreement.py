"""Systems compared: differences are paired by seed, and ranks agree as scipy says they do."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from labkit.studies.tables.agreement import agreement, compared, differences, kendall, paired, published
from labkit.studies.tables.head_runs import HeadRun


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
    assert line["±"] == 0
    assert line["± over episodes"] == pytest.approx(1.96 * single.std(ddof=1) / 8**0.5)
    assert line["verdict"] == "not decidable"


def test_other_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="not tested on the same episodes"):
        paired(runs("a", 50.0, 60.0), runs("b", 50.0, 60.0, episodes=10))


def test_ranks_agree_over_seeds() -> None:
    wanted = {"a": 1.0, "b": 2.0, "c": 3.0}
    measured = {"a": runs("a", 10.0, 10.0), "b": runs("b", 20.0, 5.0), "c": runs("c", 30.0, 30.0), "x": runs("x", 0.0)}
    mean, half, count = agreement(measured, wanted)
    assert count == 3
    assert mean == pytest.approx((1 + 1 / 3) / 2)
    assert half > 0
    assert kendall(wanted, {"c": 1.0, "b": 2.0, "a": 3.0}) == -1
    assert np.isnan(kendall(wanted, {"c": 1.0}))
    assert agreement({}, wanted)[2] == 0


def test_published_numbers_have_our_names() -> None:
    one = published(1)
    assert one["DMF"] == 67.76
    assert one["FEAT"] == 66.78  # of the ResNet-12
    assert one["DSN"] == 64.60
    assert len(one) == 23
