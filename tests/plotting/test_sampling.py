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
    assert [label.get_text() for label in axes[1].texts] == list("123456789")
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


def test_every_number_stands_beside_its_point_and_clear_of_others() -> None:
    generator = np.random.default_rng(0)
    for spread in (2.0, 6.0, 20.0):
        points = 20 + spread * generator.standard_normal((9, 2))
        plotting.use_style()
        _, ax = plt.subplots(figsize=(2.5, 2.5))
        plotting.show_points(ax, 40, points, points)
        letter = 40 * plotting.SMALL / (72 * ax.bbox.width / ax.figure.dpi)
        where = np.array([label.get_position()[::-1] for label in ax.texts])
        drawn = points.clip(0, 39)
        own = np.linalg.norm(where - drawn, axis=1)
        np.testing.assert_allclose(own, own[0])  # all as close
        assert own[0] < 1.2 * letter
        between = np.linalg.norm(where[:, None] - where, axis=-1)[~np.eye(9, dtype=bool)]
        if spread > 2:  # of nine points within a letter some numbers have to touch
            assert between.min() > 0.8 * letter
        assert (np.abs(where - 19.5) < 20).all() or spread == 20  # inside the picture where there is room
        plt.close()
