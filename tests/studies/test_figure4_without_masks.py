"""What is measured of aligned maps without masks, on maps whose answer is known, and what is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.data.tinyimagenet import packed
from labkit.evaluation import chosen
from labkit.methods.base import mean_of_shots
from labkit.models.checkpoints import load_model
from labkit.studies import figure4_without_masks as study
from tests.helpers.toys import toy_images

LABELS = torch.tensor([0, 1])


def test_heat_that_moves_is_counted_by_its_share() -> None:
    even, one = torch.ones(2, 2), torch.tensor([[4.0, 0], [0, 0]])
    assert study.moved(even, even) == 0
    assert study.moved(even, 7 * one) == 75  # three quarters lay elsewhere
    assert study.moved(one, one.flip(0)) == 100


def test_a_gain_that_is_the_same_for_all_classes_moves_nothing_and_depends_on_none() -> None:
    x_q = torch.rand(2, 4, 3, 3)
    aligned = 1.5 * x_q[:, None].expand(-1, 2, -1, -1, -1)
    scores = torch.tensor([[2.0, 1], [2, 1]])
    found = study.judge(x_q, aligned, scores, scores.flip(1), LABELS)
    assert found["moved"] == pytest.approx(0, abs=1e-3)
    assert found["hottest moved"] == found["hottest by class"] == 0
    assert found["class share"] == pytest.approx(0, abs=1e-3)
    assert (found["accuracy"], found["accuracy before"], found["answers changed"]) == (50, 50, 100)


def test_a_gain_of_one_class_at_one_cell_is_found() -> None:
    x_q = torch.ones(2, 4, 2, 2)
    aligned = x_q[:, None].repeat(1, 2, 1, 1, 1)
    aligned[0, 0, :, 0, 1] = 5  # query 0 with its own class: 5 of 8 parts of the heat in one cell, 1 of 4 before
    found = study.judge(x_q, aligned, torch.eye(2), torch.eye(2), LABELS)
    assert found["moved"] == pytest.approx(100 * (5 / 8 - 1 / 4) / 2, abs=1e-3)  # query 1 is not moved
    assert found["by class"] == found["moved"]
    assert found["hottest moved"] == found["hottest by class"] == 50
    assert found["class share"] == 25  # half of query 0's change is common to both classes, and query 1 has none


def test_maps_and_scores_are_those_of_the_networks() -> None:
    images = toy_images(classes=6, per_class=8, size=40)
    for name in ("quick", "quick-can", "quick-none"):
        model = load_model(name)
        episode = study.EpisodeSampler(images, 5, 1, 2, preprocessing=model.preprocessing)[0]
        with torch.no_grad():
            support, x_q = model.embed_together(episode.support[None], episode.query[None])
            aligned, scores, plain = study.aligned_with_all(model, support, x_q)
        assert aligned.shape == (10, 5, *x_q.shape[2:])
        torch.testing.assert_close(scores, model(episode.support[None], episode.query[None])[0].detach())
        if name == "quick":
            weights = model.class_weights(mean_of_shots(support))[0]
            maps = torch.einsum("qnchw,nc->qn", aligned, weights) / x_q.shape[-1] ** 2
            torch.testing.assert_close(model.choices.score_scale * maps, scores, atol=1e-3, rtol=1e-4)
        else:
            assert torch.equal(plain, scores) == (name == "quick-none")


def test_alone_the_network_is_shown_with_its_alignment_left_out() -> None:
    model = load_model("quick")
    alone = study.columns({"DMF": model})
    assert list(alone) == ["alignment left out", "1 Euler step", "2 Euler steps", "DMF (ODE)"]
    assert alone["alignment left out"].backbone is model.backbone  # the same weights
    beside = study.columns({"DMF": model, "no alignment": load_model("quick-none")})
    assert beside["no alignment"].backbone is not model.backbone


@pytest.mark.integration
def test_numbers_and_figures_are_written_with_their_networks_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = replace(toy_images(classes=6, per_class=20, size=40), packed_masks=None)
    monkeypatch.setattr(chosen, "load_images", lambda *_, **__: images)
    study.run(
        "toy", weights=["quick", "quick-none", "quick-can"], episodes=2, out=tmp_path / "x.json", figures=tmp_path
    )
    found = json.loads((tmp_path / "x.json").read_text())
    rows = {row["network"]: row for row in found["rows"]}
    assert list(rows) == ["no alignment", "1 Euler step", "2 Euler steps", "DMF (ODE)", "CAN"]
    assert rows["no alignment"]["moved"] == rows["no alignment"]["answers changed"] == 0
    assert set(found["networks"]) == {"DMF", "no alignment", "CAN"}
    assert (tmp_path / "figure4_toy_classes.png").exists()
    drawn = json.loads((tmp_path / "figure4_toy.json").read_text())["how"]
    assert list(drawn["which"]["rows"])[:1] == ["chosen 1"]
    assert len(study.table(found["rows"])) == len(study.ENTRIES)
    assert "moves 0.0 % of the heat" in study.sentences(rows["no alignment"], images)
    assert "objects" not in found
    assert not (tmp_path / "figure4_toy_measured.png").exists()
    boxed = replace(images, packed_masks=packed(np.tile([[16, 8, 47, 63]], (len(images), 1)), 40))
    monkeypatch.setattr(chosen, "load_images", lambda *_, **__: boxed)
    study.run("toy", weights=["quick"], episodes=2, out=tmp_path / "x.json", figures=tmp_path)
    by_network = {row["network"]: row for row in json.loads((tmp_path / "x.json").read_text())["objects"]}
    assert (tmp_path / "figure4_toy_measured.png").exists()
    assert by_network["DMF (ODE)"]["inside, chance"] == pytest.approx(100 * 20 * 35 / 1600)
    study.run("toy", weights=["quick-can"], episodes=2, out=tmp_path / "can.json", figures=tmp_path)
    alone = json.loads((tmp_path / "can.json").read_text())["objects"]
    assert [row["inside, minus CAN"] for row in alone if row["network"] == "CAN"] == [0, 0]
    assert by_network["DMF (ODE)"]["inside, minus ODE"] == by_network["alignment left out"]["inside, gain"] == 0
