"""Pictures: what is drawn is what was given."""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from labkit import plotting
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.protocol import Result
from tests.helpers.toys import toy_images

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def close_figures() -> None:
    yield
    plt.close("all")


def test_sampled_points_are_drawn_where_they_are_and_those_outside_hollow_on_the_edge() -> None:
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    points = np.array([[10.0, 20.0]] * 7 + [[-15.0, 5.0], [3.0, 90.0]])
    _, axes = plt.subplots(1, 2)
    plotting.show_sampling(axes, picture, picture, (3.5, 11.5), points, points * 0)
    (position,) = axes[0].lines
    assert position.get_xydata().tolist() == [[11.5, 3.5]]
    dots = [line for line in axes[1].lines if line.get_color() == plotting.RED]
    full, hollow = dots
    assert full.get_xydata().tolist() == [[20.0, 10.0]] * 7
    assert hollow.get_fillstyle() == "none"
    assert hollow.get_xydata().tolist() == [[5.0, 0.0], [39.0, 3.0]]


def test_an_episode_shows_each_class_by_its_name() -> None:
    images = toy_images(classes=4, per_class=8)
    episode = EpisodeSampler(images, 3, 1, 5)[0]
    figure = plotting.show_episode(images, episode, queries=4)
    names = [figure.axes[5 * n].get_ylabel() for n in range(3)]
    assert names == [plotting.readable(images.class_names[c]) for c in episode.classes]
    assert all(ax.images for ax in figure.axes)


def test_readable_names() -> None:
    assert plotting.readable("SCRIPT CAPITAL F") == "Script capital F"
    assert plotting.readable("n01532829") == "N01532829"


def test_a_saved_figure_says_how_it_was_made(tmp_path: Path) -> None:
    figure, _ = plt.subplots()
    plotting.save(figure, tmp_path, "name", seed=3)
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"name.png", "name.svg", "name.json"}
    about = json.loads((tmp_path / "figures" / "name.json").read_text())
    assert about["how"] == {"seed": 3}
    assert "torch" in about["versions"]


def test_histograms_are_of_the_method_and_of_its_lead_over_the_same_episodes() -> None:
    settings = {"way": 5, "shot": 1, "episodes": 3, "seed": 0}
    own, other = np.array([50.0, 70.0, 90.0]), np.array([40.0, 70.0, 70.0])
    results = {name: Result(0.0, 0.0, (0.0, 0.0), values, settings) for name, values in (("A", own), ("B", other))}
    first, second = plotting.episode_histograms(results, "A", "B").axes
    assert sum(bar.get_height() for bar in first.patches) == 3
    assert sum(bar.get_height() for bar in second.patches if bar.get_x() >= 9) == 2  # the leads 10 and 20
    assert "A - B" in second.get_xlabel()
    assert "mean 10.00 ± 11.32" in second.get_xlabel()  # 1.96 x 10 / sqrt(3)
