"""Figure 3 and its measurement: points are drawn where the filter reads, and the masks judge them."""

from __future__ import annotations

import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from labkit.data import load_images
from labkit.episodes.sampler import EpisodeSampler
from labkit.methods.base import mean_of_shots
from labkit.methods.cells import Cells
from labkit.models.checkpoints import load_model
from labkit.studies import figure3_sampling, figures_3_and_4
from tests.helpers.toys import toy_images

matplotlib.use("agg")
SIZE, SIDE, STRIDE = 40, 5, 8


@pytest.fixture(scope="module")
def model():  # type: ignore[no-untyped-def]
    return load_model("quick")


@pytest.fixture(scope="module")
def images():  # type: ignore[no-untyped-def]
    return toy_images(classes=6, per_class=8, size=SIZE)


def test_a_planted_bright_cell_is_found_by_deformable_convolution_where_the_point_is_drawn(model, images) -> None:
    """torchvision is given the network's own offsets and, one after another, support maps with one bright cell.

    That a cell is centred at (8 i + 3.5, 8 j + 3.5) is what tests/methods/test_backbones.py finds.
    """
    episode = EpisodeSampler(images, 5, 1, 2, preprocessing=model.preprocessing)[0]
    drawn = figure3_sampling.places(model, episode)[figure3_sampling.LEARNED]
    with torch.no_grad():
        shots, x_q = model.embed_together(episode.support[None], episode.query[None])
        offsets = model.offsets(mean_of_shots(shots), x_q)[0, torch.arange(10), episode.query_labels]
    planted = torch.eye(SIDE**2).view(-1, 1, SIDE, SIDE)
    y, x = torch.meshgrid(*[STRIDE * torch.arange(SIDE) + 3.5] * 2, indexing="ij")  # centres of the cells, in pixels
    inside = 0
    for q in range(10):
        for tap in range(9):
            only = F.one_hot(torch.tensor(tap), 9).view(1, 1, 3, 3).float()
            found = deform_conv2d(planted, offsets[q].flatten(0, 1).expand(SIDE**2, -1, -1, -1), only, padding=1)[:, 0]
            whole = (found.sum(0) - 1).abs() < 1e-4  # read in full: the point lies amid planted cells
            for centre, place in ((y, drawn[q, tap, 0]), (x, drawn[q, tap, 1])):
                middle = (found * centre.flatten()[:, None, None]).sum(0)
                torch.testing.assert_close(middle[whole], place[whole], atol=1e-2, rtol=0)
            inside += int(whole.sum())
            away = ((drawn[q, tap] < 3.5 - STRIDE) | (drawn[q, tap] > SIZE - 4.5 + STRIDE)).any(0)
            assert not found[:, away].any()  # a cell beyond the edge nothing is found
    assert inside > 300


@given(height=st.integers(1, 9), width=st.integers(1, 9), reach=st.sampled_from([1.0, 8.0]), seed=st.integers(0, 2**31))
def test_masks_are_read_bilinearly_with_nothing_outside(height: int, width: int, reach: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, height, width, generator=generator) > 0.5
    places = reach * torch.randn(2, 9, 2, 3, 4, generator=generator, dtype=torch.float64)
    grid = (2 * places.flip(2).movedim(2, -1) + 1) / torch.tensor([width, height]) - 1
    expected = F.grid_sample(masks[:, None].double(), grid.flatten(2, 3), align_corners=False).view(2, 9, 3, 4)
    torch.testing.assert_close(figure3_sampling.on_object(masks, places), expected, atol=1e-9, rtol=0)


def test_cells_boxes_and_the_fullest_cell_of_a_known_mask() -> None:
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    mask[0, 8:16, 16:24] = True  # all of cell (1, 2)
    mask[0, 30, 5] = True
    assert figure3_sampling.cells_on_object(mask, SIDE, Cells(8, 3.5)).nonzero().tolist() == [[0, 1, 2]]
    assert figure3_sampling.fullest_cell(mask[0], SIDE, Cells(8, 3.5)) == (1, 2)
    box = figure3_sampling.boxes(mask)[0].nonzero()
    assert [box.amin(0).tolist(), box.amax(0).tolist()] == [[8, 5], [30, 23]]
    assert figure3_sampling.boxes(mask).sum() == 23 * 19
    filled = figure3_sampling.boxes(mask)[0]  # rows 8 to 30, columns 5 to 23
    assert figure3_sampling.middle_cell(filled, SIDE, Cells(8, 3.5)) == (2, 1)
    assert not figure3_sampling.boxes(torch.zeros(1, 3, 3, dtype=torch.bool)).any()


def test_points_put_on_the_object_are_found_there_and_not_on_another(images) -> None:
    episode = EpisodeSampler(images, 5, 1, 2)[0]
    masks = images.masks(episode.support_index[episode.query_labels, 0].numpy())
    middles = torch.stack([mask.nonzero().float().mean(0) for mask in masks])  # [Q, 2]
    aimed = middles[:, None, :, None, None].expand(-1, 9, -1, SIDE, SIDE).clone()
    astray = aimed.clone()
    astray[:, :3] = -100.0  # three of nine beside the picture
    where = {figure3_sampling.LEARNED: aimed, figure3_sampling.GRID: astray, figure3_sampling.RANDOM: astray}
    found = figure3_sampling.judge(where, images, episode, Cells(8, 3.5))
    for position in ("on the object", "off it"):
        assert found[figure3_sampling.LEARNED, position, "ink"] == pytest.approx(100)
        assert found[figure3_sampling.OTHER, position, "ink"] == 0
        assert found[figure3_sampling.GRID, position, "ink"] == pytest.approx(100 * 6 / 9)
        assert found[figure3_sampling.GRID, position, "picture"] == pytest.approx(100 * 6 / 9)
        assert found[figure3_sampling.CHANCE, position, "ink"] == pytest.approx(100 * (13 / 40) ** 2)


def test_random_directions_keep_the_lengths_and_are_the_same_every_time(model, images) -> None:
    episode = EpisodeSampler(images, 5, 1, 2, preprocessing=model.preprocessing)[0]
    where, again = figure3_sampling.places(model, episode, turn=4), figure3_sampling.places(model, episode, turn=4)
    learned, turned = (
        where[name] - where[figure3_sampling.GRID] for name in (figure3_sampling.LEARNED, figure3_sampling.RANDOM)
    )
    torch.testing.assert_close(turned.norm(dim=2), learned.norm(dim=2), atol=1e-3, rtol=1e-4)
    cosines = F.cosine_similarity(turned, learned, dim=2)
    assert abs(cosines.mean()) < 0.05  # any direction is as likely as any other
    assert torch.equal(where[figure3_sampling.RANDOM], again[figure3_sampling.RANDOM])
    assert not torch.equal(
        where[figure3_sampling.RANDOM], figure3_sampling.places(model, episode, turn=5)[figure3_sampling.RANDOM]
    )


def test_without_sampling_the_points_are_the_grid(model, images) -> None:
    rows = figure3_sampling.measure(model.variant(sampling=False), images, episodes=2, query=2)
    assert all(
        row["minus grid"] == row["minus grid ci95"] == 0 for row in rows if row["points"] == figure3_sampling.LEARNED
    )
    assert len(rows) == 5 * 2
    again = figure3_sampling.measure(model, images, episodes=2, query=2)
    assert again == figure3_sampling.measure(model, images, episodes=2, query=2)
    learned, grid = (
        next(r for r in again if r["points"] == name) for name in (figure3_sampling.LEARNED, figure3_sampling.GRID)
    )
    assert learned["minus grid"] == pytest.approx(learned["ink"] - grid["ink"], abs=2e-3) != 0
    other = next(r for r in again if r["points"] == figure3_sampling.OTHER)
    assert learned["minus another's"] == pytest.approx(learned["ink"] - other["ink"], abs=2e-3)
    cells = figure3_sampling.table(again).loc[figure3_sampling.GRID, "on the object"]
    assert cells["ink"] == f"{grid['ink']:.1f} ± {grid['ink ci95']:.1f}"


def test_the_pictures_show_the_pairs_and_the_numbers(model, images) -> None:
    sampler = EpisodeSampler(images, 5, 1, 2, preprocessing=model.preprocessing)
    pairs = [figure3_sampling.pair(model, images, sampler, 0, q) for q in (0, 1)]
    figure = figures_3_and_4.sampled_pairs([pairs, pairs], ["chosen", "random"])
    axes = np.array(figure.axes).reshape(2, 2, 3)  # lines, columns of pairs, and query, support and a gap
    for ax, pair in zip(axes[:, 0, 0], pairs, strict=True):
        assert ax.lines[0].get_xydata().tolist() == [pair["grid"][4].flip(0).tolist()]
        np.testing.assert_allclose(
            ax.images[0].get_array().astype(int), pair["query"].astype(int), atol=4
        )  # in 32 steps
    rows = figure3_sampling.measure(model, images, episodes=2, query=2)
    panel = figures_3_and_4.shares({"DMF": rows}).axes[1]
    widths = [r["ink"] for name in figures_3_and_4.COLOURS for r in rows if r["points"] == name][1::2]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx(widths)
    plt.close("all")


def test_random_draws_stay_below_their_limits() -> None:
    draws = figure3_sampling.random_draws(200, (3, 75, 5))
    assert np.array(draws).max(0).tolist() == [2, 74, 4]
    assert draws[:3] == figure3_sampling.random_draws(3, (3, 75, 5))


def test_the_committed_results_are_whole_and_those_of_the_shipped_weights() -> None:
    results = json.loads(figure3_sampling.RESULTS.read_text())
    assert results["episodes"] >= 200
    assert set(results["networks"]) == set(figure3_sampling.NETWORKS)
    assert all(len(rows) == 5 * 2 for rows in results["networks"].values())
    glyphs = load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    if glyphs.provenance.digest != results["images"]:
        pytest.skip("another release of the fonts or of Pillow renders other images")
    for name, kept in results["episode 0"].items():
        found = next(figure3_sampling.judged(figure3_sampling.NETWORKS[name].load(), glyphs, 1, results["seed"]))
        assert found[figure3_sampling.LEARNED, "on the object", "ink"] == pytest.approx(kept, abs=0.05), name
