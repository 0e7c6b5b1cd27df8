"""What is measured of sampled points without masks, on points that are put where the answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.data.tinyimagenet import BOXES, packed
from labkit.evaluation import chosen, provenance
from labkit.models.checkpoints import load_model
from labkit.studies import figure3_without_masks as study
from labkit.studies.figure3_sampling import CHANCE
from labkit.studies.figures_3_and_4 import COLOURS
from tests.helpers.toys import toy_images

SHAPE = (6, 3, 9, 2, 5, 5)  # queries, classes, taps, (y, x), height, width
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def judged(points: torch.Tensor, others: torch.Tensor, follow: float) -> dict[str, float]:
    steps = [torch.tensor(d).view(2, 1, 1) * study.SHIFT_CELLS * follow for d in study.DIRECTIONS]
    return study.judge(points, points - 2, LABELS, others, [points + step for step in steps], stride=8)


def test_points_that_know_nothing_of_the_support_do_not_move_with_it() -> None:
    points = torch.full(SHAPE, 2.0)
    found = judged(points, points, follow=0.0)
    assert found == {
        "offset": 0, "outside": 0, "other class": 0, "same class": 0, "query": 0, "follows": 0,
    }  # fmt: skip


def test_every_cause_of_a_movement_is_told_from_the_others() -> None:
    points = torch.full(SHAPE, 2.0)
    by_class = points + torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1, 1, 1) * torch.tensor([1.0, 0]).view(2, 1, 1)
    found = judged(by_class, by_class + torch.tensor([0.0, 0.25]).view(2, 1, 1), follow=1.0)
    assert found["other class"] == pytest.approx(8 * (1 + 1 + 2) / 3)
    assert found["same class"] == pytest.approx(8 * 0.25)
    assert found["query"] == 0
    assert found["follows"] == pytest.approx(1)
    by_query = points + torch.arange(6.0).view(6, 1, 1, 1, 1, 1) * torch.tensor([0.0, 1]).view(2, 1, 1)
    found = judged(by_query, by_query, follow=-0.5)
    assert found["query"] == pytest.approx(8 * (5 * 1 + 5) / 6)  # each against the one before it, the first the last
    assert found["other class"] == found["same class"] == 0
    assert found["follows"] == pytest.approx(-0.5)
    assert found["outside"] == pytest.approx(100 * 3 / 6)  # at 5, 6 and 7, of columns 0 to 4
    assert found["offset"] == pytest.approx(8 * 15 / 6)


@pytest.mark.integration
def test_a_network_without_sampling_moves_no_point_and_one_with_offsets_does() -> None:
    images, model = toy_images(classes=6, per_class=8, size=40), load_model("quick")
    models = {"DMF": model, "grid": model.variant(sampling=False)}
    first, grid = study.measure(models, images, episodes=3, query=2)
    assert all(grid[e] == 0 for e in study.ENTRIES if e != "outside")
    assert all(first[e] > 0 for e in study.ENTRIES if e != "follows")
    assert first == study.measure(models, images, episodes=3, query=2)[0]
    assert study.table([first, grid]).loc[study.ENTRIES["offset"], "grid"] == "0.0 ± 0.0"
    assert "do not go along" in study.sentences(grid, images)


@pytest.mark.integration
def test_numbers_and_figure_are_written_with_their_network_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = replace(toy_images(classes=6, per_class=20, size=40), packed_masks=None)
    monkeypatch.setattr(chosen, "load_images", lambda *_, **__: images)
    study.run("toy", weights=["quick"], episodes=2, out=tmp_path / "x.json", figures=tmp_path)
    found, drawn = (json.loads((tmp_path / f).read_text()) for f in ("x.json", "figure3_toy.json"))
    assert [row["network"] for row in found["rows"]] == ["DMF", "untrained"]
    assert found["networks"]["DMF"]["digest"] == provenance.digest(load_model("quick"))
    assert found["command"] == "dmf-lab figure 3 --dataset toy --data-root ROOT --weights quick --episodes 2 --seed 0"
    assert chosen.figure_name("figure3", "toy", ["quick-none"]) == "figure3_toy_quick-none"  # beside it, not over it
    assert drawn["how"]["images"]["digest"] == images.digest
    assert len(drawn["how"]["pairs"]["random"]) == 3
    assert "objects" not in found
    assert not (tmp_path / "figure3_toy_measured.png").exists()
    boxed = replace(images, packed_masks=packed(np.tile([[16, 8, 47, 63]], (len(images), 1)), 40))
    monkeypatch.setattr(chosen, "load_images", lambda *_, **__: boxed)
    study.run("toy", weights=["quick"], episodes=2, out=tmp_path / "x.json", figures=tmp_path)
    rows = json.loads((tmp_path / "x.json").read_text())["objects"]["DMF"]
    assert (tmp_path / "figure3_toy_measured.png").exists()
    assert {row["points"] for row in rows} == set(COLOURS) | {CHANCE}
    chance = next(row for row in rows if row["points"] == CHANCE)
    assert chance["ink"] == pytest.approx(100 * 20 * 35 / 1600)  # the box in 40 x 40 pixels
    about = replace(boxed.provenance, details={"masks": BOXES})
    drawn_with, _ = study.drawn_pairs(load_model("quick"), replace(boxed, provenance=about))
    outlines = [patch for ax in drawn_with.axes for patch in ax.patches]
    assert [round(o.get_width()) for o in outlines] == [20] * 12  # of the query and the support of six pairs
    assert [round(o.get_height()) for o in outlines] == [35] * 12
    with pytest.raises(ValueError, match="quick-can is a CAN"):
        study.run("toy", weights=["quick-can"], out=tmp_path / "y.json", figures=tmp_path)
