"""Sampled points are drawn where they are."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from labkit import plotting


def test_sampled_points_are_drawn_where_they_are_and_those_outside_hollow_on_the_edge() -> None:
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    points = np.array([[10.0, 20.0]] * 7 + [[-15.0, 5.0], [3.0, 90.0]])
    _, axes = plt.subplots(1, 2)
    plotting.show_sampling(axes, picture, picture, (3.5, 11.5), points, points * 0)
    (position,) = axes[0].lines
    assert position.get_xydata().tolist() == [[11.5, 3.5]]
    full, hollow = (
        [
            line
            for line in axes[1].lines
            if line.get_markersize() >= 5 and line.get_marker() == "o" and line.get_markeredgecolor() == edge
        ]
        for edge in ("white", plotting.RED)
    )
    assert [label.get_text() for label in axes[1].texts] == ["1,2,3,4,5,6,7", "8", "9"]
    assert min(label.get_fontsize() for label in axes[1].texts) >= 9
    assert [dot.get_xydata().tolist() for dot in full] == [[[20.0, 10.0]]] * 7
    assert {dot.get_markerfacecolor() for dot in hollow} == {"white"}
    assert [dot.get_xydata().tolist() for dot in hollow] == [[[5.0, 0.0]], [[39.0, 3.0]]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift", [0.0, 90.0])
def test_pictures_are_laid_out_with_all_points_on_one_side_of_the_edge(shift: float) -> None:
    grid = np.stack(np.meshgrid([10.0, 18.0, 26.0], [10.0, 18.0, 26.0], indexing="ij"), 2).reshape(9, 2)
    plotting.use_style()
    figure, ax = plt.subplots()
    plotting.show_points(ax, 40, grid + shift, grid)
    figure.canvas.draw()  # a warning if there was no room


def test_numbers_that_would_cover_one_another_stand_together() -> None:
    grid = np.stack(np.meshgrid([10.0, 20.0, 30.0], [10.0, 20.0, 30.0], indexing="ij"), 2).reshape(9, 2)
    points = grid.copy()
    points[1] = points[0] + 0.5
    points[2] = points[0] + [0.0, 3.5]  # beside the wide label of the two, not beside either number
    plotting.use_style()
    _, ax = plt.subplots(figsize=(1.6, 1.6))
    plotting.show_points(ax, 40, points, grid)
    assert [label.get_text() for label in ax.texts] == ["1,2,3", "4", "5", "6", "7", "8", "9"]
