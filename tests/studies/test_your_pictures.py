"""Lines of one's own pictures: where the score is highest, and where the network looked for it."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from labkit.dmf.model import DMF
from labkit.episodes.sampler import EpisodeSampler
from labkit.models.checkpoints import load_model
from labkit.plotting import story
from labkit.studies import your_pictures
from tests.helpers.toys import toy_images


def released() -> tuple[Any, EpisodeSampler, Any]:
    """The shipped network's weights with the authors' border of zeros around score maps."""
    quick: Any = load_model("quick")
    model = DMF(**quick.recipe() | {"preset": "released"}).eval()
    model.load_state_dict(quick.state_dict(), strict=False)
    model.preprocessing = quick.preprocessing
    images = toy_images(classes=6, per_class=8, size=40)
    return model, EpisodeSampler(images, 5, 1, 1, preprocessing=quick.preprocessing), images


def test_the_hottest_cell_is_one_of_the_picture_whatever_the_border() -> None:
    model, sampler, images = released()
    for number in range(6):
        line = your_pictures._line(model, images, sampler, number)
        assert line is not None
        assert line["own"].shape == line["other"].shape == (5, 5)
        i, j = np.unravel_index(line["own"].argmax(), (5, 5))
        assert line["position"] == ((i + 0.5) * model.stride - 0.5, (j + 0.5) * model.stride - 0.5)
        episode = sampler[number]
        with torch.no_grad():
            scores = model(episode.support[None], episode.query[None])[0, 0]
        np.testing.assert_allclose(line["means"]["own"], scores[episode.query_labels[0]], rtol=1e-4)


def test_the_story_s_score_map_has_the_cells_of_the_picture() -> None:
    model, sampler, images = released()
    episode = sampler[0]
    trace = model.trace(episode.support[None], episode.query[None])
    figure = story.from_position_to_score(model, images, episode, trace, 0, (0, 0))
    shapes = [image.get_array().shape for ax in figure.axes for image in ax.images]
    plt.close(figure)
    assert (5, 5) in shapes
    assert (7, 7) not in shapes
