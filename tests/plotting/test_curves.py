"""Curves and histograms are of the numbers that were given."""

import numpy as np

from labkit import plotting
from labkit.evaluation.protocol import Result


def test_histograms_are_of_the_method_and_of_its_lead_over_the_same_episodes() -> None:
    settings = {"way": 5, "shot": 1, "query": 2, "episodes": 3, "seed": 0}
    own, other = np.array([50.0, 70.0, 90.0]), np.array([40.0, 70.0, 70.0])
    results = {name: Result(0.0, 0.0, (0.0, 0.0), values, settings) for name, values in (("A", own), ("B", other))}
    first, second = plotting.episode_histograms(results, "A", "B").axes
    assert sum(bar.get_height() for bar in first.patches) == 3
    assert sum(bar.get_height() for bar in second.patches if bar.get_x() >= 4) == 2  # the leads 10 and 20
    assert "A minus B" in second.get_xlabel()
    for ax in (first, second):  # ten queries: accuracies are multiples of 10, and edges lie half way between them
        edges = np.array([bar.get_x() for bar in ax.patches])
        assert np.allclose(edges % 10, 5)
    assert "mean 10.00 ± 11.32" in second.get_xlabel()  # 1.96 x 10 / sqrt(3)
