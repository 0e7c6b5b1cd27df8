"""Systems compared: differences are paired by seed, and ranks agree as scipy says they do."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from labkit.episodes.sampler import classes_of_episodes
from labkit.studies.tables import agreement
from labkit.studies.tables.agreement import compared, differences, every_pair, kendall, paired, published
from labkit.studies.tables.cells import CELLS
from labkit.studies.tables.heads import TABLE1_HEADS
from labkit.studies.tables.runs import Run


def runs(name: str, *accuracies: float, episodes: int = 2000) -> list[Run]:
    return [
        Run("toy", name, name, 1, seed, "b", validation=a - 1, novel={"accuracy": a} | dict.fromkeys(
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

    def two(name: str) -> list[Run]:
        accuracy = 20 * float(np.mean([int(n) for n in right[name].split()]))
        run = Run("toy", name, name, 1, 0, "b", novel=where | {"accuracy": accuracy}, correct=right[name])
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


def test_other_classes_are_spoken_of_where_single_classes_move_the_difference() -> None:
    """Two systems that differ on two of twenty classes alone: certain on these, and not on others."""
    where = {"dataset": "toy", "way": 5, "shot": 1, "query": 15, "episodes": 2000, "seed": 3, "digest": "d"}
    classes = classes_of_episodes(20, 5, 2000, 3)
    ease = np.random.default_rng(0).integers(30, 50, 2000)

    def of(name: str, right: NDArray[np.int64], **more: int) -> list[Run]:
        novel = where | more | {"accuracy": float(right.mean() / 0.75)}
        return [Run("toy", name, name, 1, s, "b", novel=novel, correct=" ".join(map(str, right))) for s in (0, 1)]

    few, all_of_them = ease + 3 * (classes < 2).sum(1), ease + 1
    lines = compared(of("none", ease), {"few": of("few", few), "all": of("all", all_of_them)}).loc[["few", "all"]]
    assert lines["verdict"].tolist() == ["worse", "worse"]
    assert lines["of other classes"].tolist() == ["", ""]  # an older record does not say how many classes there were
    known = {name: of(name, right, classes=20) for name, right in {"few": few, "all": all_of_them}.items()}
    lines = compared(of("none", ease, classes=20), known).loc[["few", "all"]]
    assert lines["of other classes"].tolist() == ["not decidable", "worse"]
    assert lines.loc["few", "± over classes"] > 3 * lines.loc["few", "± over episodes"]
    turned = differences({"none": of("none", ease, classes=20)} | known, "none")
    assert turned.loc["all", "of other classes"] == "better"


def test_ranks_agree_over_seeds_and_over_systems() -> None:
    wanted = {"a": 1.0, "b": 2.0, "c": 3.0}
    measured = {"a": runs("a", 10.0, 10.0), "b": runs("b", 20.0, 5.0), "c": runs("c", 30.0, 30.0), "x": runs("x", 0.0)}
    found = agreement.agreement(measured, wanted)
    assert (found.tau, found.systems) == (1.0, 3)  # of the means 10, 12.5, 30
    assert found.over_seeds == pytest.approx(stats.t.ppf(0.975, 1) * np.std([1, 1 / 3], ddof=1) / 2**0.5)
    assert agreement.agreement(measured, wanted, {"a", "b"}).systems == 2
    assert kendall(wanted, {"c": 1.0, "b": 2.0, "a": 3.0}) == -1
    assert np.isnan(kendall(wanted, {"c": 1.0}))
    assert agreement.agreement({}, wanted).systems == 0


def test_the_interval_over_systems_is_that_of_a_plain_bootstrap() -> None:
    draw = np.random.default_rng(1)
    first = {str(k): float(v) for k, v in enumerate(draw.normal(size=14))}
    second = {name: value + float(draw.normal()) for name, value in first.items()}
    taus = []
    for _ in range(600):
        names = draw.choice(list(first), len(first))
        taus.append(stats.kendalltau([first[n] for n in names], [second[n] for n in names]).statistic)
    assert agreement._over_systems(first, second) == pytest.approx(np.percentile(taus, [2.5, 97.5]), abs=0.1)


def run(cell: str, seed: int, accuracy: float) -> Run:
    return Run("toy", CELLS[cell].factor, cell, 1, seed, validation=accuracy, novel={"accuracy": accuracy, "way": 5})


def test_one_line_stands_under_table_1_end_to_end() -> None:
    # Published: DMF 67.76, CAN 63.85, ProtoNet 49.42, the last not on a ResNet-12.
    rows = [run("dmf", 0, 50.0), run("can, common", 0, 60.0), run("protonet, authors'", 0, 40.0)]
    line = agreement.end_to_end(rows, 1)
    assert line == (
        "1-shot: Kendall's tau between measured and published ranks of 3 systems is 0.33 "
        "(-1.00 to 1.00 over systems), one seed."
    )
    more = [run("dmf", 1, 74.0), run("can, common", 1, 60.0), run("protonet, authors'", 1, 40.0)]
    half = stats.t.ppf(0.975, 1) * np.std([1 / 3, 1], ddof=1) / 2**0.5
    assert f"is 1.00 (1.00 to 1.00 over systems), ± {half:.2f} over seeds." in agreement.end_to_end([*rows, *more], 1)
    assert "needs two systems, and 1 of Table 1 is measured" in agreement.end_to_end(rows[:1], 1)
    assert "needs two systems, and none of Table 1 is measured" in agreement.end_to_end(rows, 5)


def test_one_line_stands_under_table_1_on_one_backbone() -> None:
    systems = ("DMF", "CAN", "MetaOptNet", "LEO")
    first = {system: next(h.name for h in TABLE1_HEADS if h.system == system) for system in systems}
    values = [(50.0, 70.0), (61.0, 61.0), (55.0, 55.0), (40.0, 65.0)]
    made = [
        replace(run, system=system, name=name)
        for (system, name), accuracies in zip(first.items(), values, strict=True)
        for run in runs(name, *accuracies)
    ]
    # Published: DMF 67.76, CAN 63.85, MetaOptNet 62.64, and LEO 61.76 on a wider network.
    line = agreement.on_one_backbone(made, 1)
    assert "of 4 systems is 0.67" in line
    assert "Of the 3 that were published on a ResNet-12: 0.33" in line
    assert "none of Table 1 is measured" in agreement.on_one_backbone([], 1)


def test_published_numbers_have_our_names() -> None:
    one = published(1)
    assert one["DMF"] == 67.76
    assert one["FEAT"] == 66.78  # of the ResNet-12
    assert one["DSN"] == 64.60
    assert len(one) == 23
