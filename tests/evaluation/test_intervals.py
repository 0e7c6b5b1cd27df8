"""Intervals against their textbook formulas, and what they let one say."""

import numpy as np
import pytest
from scipy import stats

from labkit.episodes.sampler import classes_of_episodes
from labkit.evaluation import intervals


def test_over_episodes_is_the_papers_interval() -> None:
    mean, half = intervals.over_episodes([40.0, 50.0, 60.0])
    assert mean == 50
    assert half == pytest.approx(1.96 * 10 / 3**0.5)
    assert intervals.entries("gain", np.array([40.0, 50.0, 60.0])) == {"gain": 50, "gain ci95": 11.316}
    assert intervals.shown(-0.04, 1.25) == "0.0 ± 1.2"


def test_over_seeds_is_a_t_interval() -> None:
    mean, half = intervals.over_seeds([1.0, 1.5, 1.0])
    low, high = stats.t.interval(0.95, 2, mean, stats.sem([1.0, 1.5, 1.0]))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert intervals.over_seeds([1.0])[0] == 1
    assert np.isnan([intervals.over_seeds([1.0])[1], *intervals.over_seeds([])]).all()


def worlds(count: int, taken: float, seed: int = 0) -> list[tuple[float, float]]:
    """Mean accuracy and its `over_classes`, for twenty classes drawn anew 100 times, and 5-way episodes of these.

    A class is right more or less often, and takes `taken` of another's answers in which it is together with it.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(100):
        own, takes = rng.normal(0.6, 0.08, count), rng.normal(0, taken, count)
        classes = classes_of_episodes(count, 5, 400, int(rng.integers(1 << 30)))
        share = own[classes] - (takes[classes].sum(1, keepdims=True) - takes[classes])
        values = 100 * rng.binomial(15, share.clip(0, 1)).mean(1) / 15
        found.append((values.mean(), intervals.over_classes(values, classes, count)))
    return found


@pytest.mark.parametrize("taken", [0.0, 0.03])
def test_over_classes_holds_the_mean_of_all_classes_19_times_of_20(taken: float) -> None:
    """Also where a class decides how often the others are right, which their own accuracies do not tell."""
    found = np.array(worlds(20, taken))
    half = 1.96 * found[:, 0].std(ddof=1)
    assert found[:, 1].mean() == pytest.approx(half, rel=0.25)
    assert np.mean(np.abs(found[:, 0] - found[:, 0].mean()) < found[:, 1]) > 0.89


def test_over_classes_is_that_of_episodes_where_classes_are_alike() -> None:
    classes, values = classes_of_episodes(20, 5, 4000, 0), np.random.default_rng(0).normal(50, 10, 4000)
    half = intervals.over_classes(values, classes, 20)
    assert intervals.over_episodes(values)[1] <= half < 2.5 * intervals.over_episodes(values)[1]


def test_over_classes_says_nothing_where_classes_cannot_be_told_apart() -> None:
    assert np.isnan(intervals.over_classes(np.ones(400), classes_of_episodes(5, 5, 400, 0), 5))  # all in each
    assert np.isnan(intervals.over_classes(np.ones(12), classes_of_episodes(20, 5, 12, 0), 20))


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [(2, 1, "better"), (-2, 1, "worse"), (1, 2, "not decidable"), (1, float("nan"), "not decidable")],
)
def test_a_verdict_needs_an_interval_without_zero(mean: float, half: float, said: str) -> None:
    assert intervals.verdict(mean, half) == said
