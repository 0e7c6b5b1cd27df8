"""Figure 4 and its measurement: heat is what it is said to be, and planted objects are found by it."""

from __future__ import annotations

import json
from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.data import load_images
from labkit.data.imageset import ImageSet
from labkit.data.tinyimagenet import BOXES
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.features import eval_mode
from labkit.methods.base import mean_of_shots
from labkit.methods.cells import Cells
from labkit.models.checkpoints import load_model
from labkit.studies import figure3_sampling, figure4_heat, figures_3_and_4
from tests.helpers.toys import toy_images

matplotlib.use("agg")
CELLS = Cells(stride=8, first=3.5)


def test_heat_is_length_in_multiples_of_the_mean_whatever_the_scale() -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 8, 5, 5)
    found = figure4_heat.heat(maps)
    torch.testing.assert_close(found.mean((1, 2)), torch.ones(3))
    torch.testing.assert_close(figure4_heat.heat(7 * maps), found)
    torch.testing.assert_close(found[0, 1, 2] / found[0, 0, 0], maps[0, :, 1, 2].norm() / maps[0, :, 0, 0].norm())
    one = torch.tensor([[[[3.0, -5.0], [1.0, 0.0]]], [[[-1.0, -2.0], [-3.0, 0.0]]]])
    assert figure4_heat.heat(one).tolist() == [[[3, 0], [1, 0]], [[1, 1], [1, 1]]]


@pytest.mark.parametrize(("size", "side"), [(40, 5), (84, 11)])
def test_heat_planted_on_the_object_is_counted_and_even_heat_gives_chance(size: int, side: int) -> None:
    masks = torch.zeros(2, size, size, dtype=torch.bool)
    masks[0, 8:16, 16:24] = True  # the pixels of cell (1, 2)
    masks[1, 8:16, 16:28] = True  # and half of those of cell (1, 3)
    planted = torch.zeros(2, side, side)
    planted[0, 1, 2] = planted[1, 1, 3] = 1
    assert figure4_heat.share_inside(planted, masks, CELLS).tolist() == [100, 50]
    assert figure4_heat.hottest_on_object(planted, masks, CELLS).tolist() == [True, True]
    assert not figure4_heat.hottest_on_object(planted.roll(2, 1), masks, CELLS).any()
    assert figure4_heat.share_inside(planted.roll(2, 1), masks, CELLS).tolist() == [0, 0]
    even = figure4_heat.share_inside(torch.ones(2, side, side), masks, CELLS)
    torch.testing.assert_close(even, 100 * masks.float().mean((1, 2)))
    assert figure4_heat.best_inside(masks, side, CELLS).tolist() == [100, 100]


def test_aligned_maps_are_those_of_the_networks() -> None:
    images = toy_images(classes=6, per_class=8, size=40)
    dmf, can = load_model("quick"), load_model("quick-can")
    episode = EpisodeSampler(images, 5, 1, 2, preprocessing=dmf.preprocessing)[0]
    each, labels = torch.arange(10), episode.query_labels
    trace = dmf.trace(episode.support[None], episode.query[None])
    with torch.no_grad():
        found = figure4_heat.aligned_maps(dmf, *dmf.embed_together(episode.support[None], episode.query[None]), labels)
    torch.testing.assert_close(found[figure4_heat.AFTER]["feature"], trace.aligned[0, each, labels])
    torch.testing.assert_close(found[figure4_heat.BEFORE]["feature"], trace.query[0])
    for when, maps in ((figure4_heat.AFTER, trace.score_maps), (figure4_heat.BEFORE, trace.score_maps_before)):
        scaled = dmf.choices.score_scale * found[when]["score"][:, 0]
        torch.testing.assert_close(scaled, maps[0, each, labels], atol=1e-4, rtol=1e-4)

    with torch.no_grad():
        shots, x_q = can.embed_together(episode.support[None], episode.query[None])
        found = figure4_heat.aligned_maps(can, shots, x_q, labels)
        x_supp = mean_of_shots(shots)
        of_p, of_q = (a[0, each, labels] for a in can.attention(x_supp, x_q))
    torch.testing.assert_close(found[figure4_heat.AFTER]["feature"], x_q[0] * (1 + of_q[:, None]))
    plain, attended = (x_supp[0, labels] * (1 + a[:, None]) for a in (torch.zeros_like(of_p), of_p))
    for when, weights in ((figure4_heat.BEFORE, plain), (figure4_heat.AFTER, attended)):
        cosines = F.cosine_similarity(x_q[0], weights.mean((2, 3))[:, :, None, None], dim=1)
        torch.testing.assert_close(found[when]["score"][:, 0], can.scale * cosines, atol=1e-4, rtol=1e-4)


class Bright(nn.Module):
    """A backbone that sees light, cell by cell."""

    channels, stride = 4, 8

    def forward(self, pictures: Tensor) -> Tensor:
        return F.avg_pool2d((pictures.mean(1, keepdim=True) - 0.5).relu(), 8).repeat(1, 4, 1, 1)


def bright_network(images: ImageSet) -> DMF:
    model = DMF(Bright(), 1, alignment="closed").eval()
    model.preprocessing = Preprocessing.of(images)
    return model


def test_a_network_that_sees_nothing_but_the_object_is_found_to() -> None:
    images = toy_images(classes=6, per_class=8)
    rows = figure4_heat.summarise(
        {figure4_heat.ODE: figure4_heat.play(bright_network(images), images, range(4), query=3)}
    )
    for row in rows:
        assert row["inside, aligned"] > 99
        assert row["hottest, aligned"] == row["hottest, at best"] == 100
        assert row["inside, chance"] == pytest.approx(100 / 9, abs=1e-3)
        assert row["inside, another's mask"] < 40  # the query before may be of the same class, in the same place
        assert row["same hottest cell"] == 100


def lines(episodes: int, queries: int, hits: np.ndarray, inside: np.ndarray) -> pd.DataFrame:
    """What `heat.play` would give of one heat, with the aligned map's numbers as given."""
    columns = {}
    for kind in figure4_heat.HEATS:
        for when in (
            figure4_heat.BEFORE,
            figure4_heat.AFTER,
            figure4_heat.OTHER,
            figure4_heat.CHANCE,
            figure4_heat.BEST,
        ):
            own = when == figure4_heat.AFTER
            columns[kind, when, "inside"] = inside if own else np.full(len(inside), 13.0)
            columns[kind, when, "hottest"] = 100.0 * hits if own else np.full(len(hits), 15.0)
        columns[kind, figure4_heat.AFTER, "cell"] = hits.astype(float)
    return pd.DataFrame(
        columns, pd.MultiIndex.from_product([range(episodes), range(queries)], names=["episode", "query"])
    )


def test_differences_are_paired_and_the_claims_are_counted() -> None:
    rng = np.random.default_rng(0)
    hard = np.repeat(rng.normal(15, 5, 40), 5)  # what all networks share of an episode
    one, two, ode, can = (rng.random(200) < p for p in (0.5, 0.5, 0.8, 0.2))
    hits = {"no alignment": can, "1 step": one, "2 steps": two, figure4_heat.ODE: ode, "CAN": can}
    shift = dict(zip(hits, (-1.0, 0.0, 0.0, 0.0, 2.0), strict=True))
    played = {name: lines(40, 5, hit, hard + shift[name]) for name, hit in hits.items()}
    rows = {row["network"]: row for row in figure4_heat.summarise(played) if row["heat"] == "feature"}
    assert rows["CAN"]["inside, minus ODE"] == pytest.approx(2)
    assert rows["CAN"]["inside, minus ODE ci95"] == 0
    assert rows["CAN"]["inside, aligned ci95"] > 1
    assert rows[figure4_heat.ODE]["inside, gain"] == pytest.approx(hard.mean() - 13, abs=1e-3)
    assert rows["1 step"]["hottest, aligned"] == pytest.approx(100 * one.mean(), abs=1e-3)
    assert rows["1 step"]["same hottest cell"] == pytest.approx(100 * (one == ode).mean(), abs=1e-2)
    counted = {row["hit by"]: row for row in figure4_heat.circumstances(played)}
    only = one & ~two
    assert counted["only 1 step"]["queries, %"] == pytest.approx(100 * only.mean(), abs=1e-2)
    assert counted["only 1 step"][figure4_heat.ODE] == pytest.approx(100 * ode[only].mean(), abs=0.1)
    assert sum(row["queries, %"] for row in counted.values()) == pytest.approx(100, abs=0.05)
    chosen = figure4_heat.rows_of_figure_4(played)
    for kind, wanted in {"both hit": one & two, "only 2 steps hit": two & ~one, "only 1 step hits": only}.items():
        assert chosen[kind] == divmod(int(np.flatnonzero(wanted)[0]), 5)
    row = figure4_heat.table(list(rows.values()), "inside").loc["CAN"]
    assert row["minus ODE"] == "2.00 ± 0.00"
    with pytest.raises(ValueError, match="only 2 steps hit"):
        figure4_heat.rows_of_figure_4(played | {"2 steps": played["1 step"]})


def test_the_picture_shows_every_heat_on_one_scale() -> None:
    images = toy_images(classes=6, per_class=8)
    model = bright_network(images)
    sampler = EpisodeSampler(images, 5, 1, 3)
    shown = [
        figure4_heat.line({"a": model, "b": model.variant(alignment="none")}, images, sampler, 0, q) for q in (0, 1)
    ]
    figure = figures_3_and_4.heat_rows(shown, ["a", "b"])
    *axes, bar = figure.axes
    values = torch.stack([line["heats"] for line in shown])
    assert bar.get_xlim() == pytest.approx(np.percentile(values, [2, 98]))
    (mark,) = axes[2].lines
    x, y = mark.get_xydata()[0]
    assert shown[0]["mask"][round(y), round(x)]
    for ax, network in zip(axes[2:4], (model, model.variant(alignment="none")), strict=True):
        episode = sampler[0]
        with eval_mode(network):
            answer = network(episode.support[None], episode.query[None])[0, 0].argmax()
        assert ax.get_xlabel() == f"hit, {'right' if answer == episode.query_labels[0] else 'wrong'}"
    hottest = np.asarray(axes[2].images[0].get_array()).sum(2)  # cividis: the hotter, the lighter
    mask = shown[0]["mask"].numpy()
    assert hottest[mask].mean() > hottest[~mask].mean() + 0.5
    plt.close(figure)


def test_the_committed_results_are_whole_and_those_of_the_shipped_weights() -> None:
    results = json.loads(figure4_heat.RESULTS.read_text())
    assert results["episodes"] >= 200
    assert {(row["network"], row["heat"]) for row in results["rows"]} == {
        (name, kind) for name in figure4_heat.NETWORKS for kind in figure4_heat.HEATS
    }
    figure = figures_3_and_4.inside_and_hottest(results["rows"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(figure4_heat.NETWORKS)
    bar = figure.axes[2].containers[0]  # the paired gains
    assert list(bar[0].get_xdata()) == [r["inside, gain"] for r in results["rows"] if r["heat"] == "feature"]
    plt.close(figure)
    glyphs = load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    if glyphs.provenance.digest != results["images"]:
        pytest.skip("another release of the fonts or of Pillow renders other images")
    for name in figure4_heat.FIGURE:
        found = figure4_heat.play(figure4_heat.NETWORKS[name].load(), glyphs, range(1), results["seed"])
        share = found["feature", figure4_heat.AFTER, "hottest"].mean()
        assert share == pytest.approx(results["episode 0"][name], abs=3), name  # two of 75 queries


def test_captions_say_where_masks_are_boxes_alone() -> None:
    images = toy_images(classes=6, per_class=8)
    details = images.provenance.details | {"masks": BOXES}
    boxed = replace(images, provenance=replace(images.provenance, details=details))
    model, sampler = bright_network(images), EpisodeSampler(images, 5, 1, 3)
    for of, caption, outline in (
        (images, "on the object", "white: the query's object; hit"),
        (boxed, "in the object's box", "white: the box of the query's object; hit"),
    ):
        assert figure3_sampling.pair(model, of, sampler, 0, 0)["caption"].endswith(caption)
        figure = figures_3_and_4.heat_rows([figure4_heat.line({"a": model}, of, sampler, 0, 0)], ["a"])
        assert outline in figure.axes[-1].get_xlabel()
        plt.close(figure)
