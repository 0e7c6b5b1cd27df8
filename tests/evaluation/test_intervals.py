"""Intervals against their textbook formulas, and what they let one say."""

import numpy as np
import pytest
from scipy import stats

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


def test_over_classes_is_wider_than_over_episodes_when_classes_differ() -> None:
    correct = np.repeat([[1.0, 0.2]], 2000, axis=0)
    classes = np.stack([np.arange(2000) % 10, 10 + np.arange(2000) % 10], axis=1)
    low, high = intervals.over_classes(correct, classes, 20, seed=0)
    assert 40 < low < 55
    assert 65 < high < 80


def test_over_classes_is_a_95_percent_interval() -> None:
    accuracy = np.random.default_rng(0).normal(0.6, 0.05, 200)  # of each class, all seen alike often
    correct, classes = np.tile(accuracy.reshape(50, 4), (20, 1)), np.tile(np.arange(200).reshape(50, 4), (20, 1))
    low, high = intervals.over_classes(correct, classes, 200, seed=0, draws=20_000)
    half = 100 * 1.96 * accuracy.std() / 200**0.5  # of a mean of so many independent draws
    assert (low, high) == pytest.approx((100 * accuracy.mean() - half, 100 * accuracy.mean() + half), abs=0.05 * half)


def test_over_classes_leaves_out_draws_of_classes_that_nobody_saw() -> None:
    assert intervals.over_classes(np.ones((2, 2)), np.array([[0, 1], [1, 0]]), 64, 0) == (100, 100)


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [(2, 1, "better"), (-2, 1, "worse"), (1, 2, "not decidable"), (1, float("nan"), "not decidable")],
)
def test_a_verdict_needs_an_interval_without_zero(mean: float, half: float, said: str) -> None:
    assert intervals.verdict(mean, half) == said
