"""Sampled points are drawn where they are."""

import matplotlib.pyplot as plt
import numpy as np

from labkit import plotting


def test_sampled_points_are_drawn_where_they_are_and_those_outside_hollow_on_the_edge() -> None:
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    points = np.array([[10.0, 20.0]] * 7 + [[-15.0, 5.0], [3.0, 90.0]])
    _, axes = plt.subplots(1, 2)
    plotting.show_sampling(axes, picture, picture, (3.5, 11.5), points, points * 0)
    (position,) = axes[0].lines
    assert position.get_xydata().tolist() == [[11.5, 3.5]]
    dots = [line for line in axes[1].lines if line.get_color() == plotting.RED]
    full, hollow = dots
    assert [label.get_text() for label in axes[1].texts] == ["1,2,3,4,5,6,7", "8", "9"]
    assert min(label.get_fontsize() for label in axes[1].texts) >= 9
    assert full.get_xydata().tolist() == [[20.0, 10.0]] * 7
    assert hollow.get_markerfacecolor() == "white"
    assert hollow.get_xydata().tolist() == [[5.0, 0.0], [39.0, 3.0]]
