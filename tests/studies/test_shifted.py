"""Displacement by shifting whole pictures: shifts are exact, opposite, paired and embedded once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation import chosen, provenance
from labkit.evaluation.play import Features
from labkit.models.checkpoints import save_model
from labkit.studies.displacement import shifted
from labkit.studies.displacement.levels import DIRECTIONS
from labkit.studies.displacement.shifted import Plan, Step
from tests.helpers.toys import toy_images

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("ground", shifted.GROUNDS)
@pytest.mark.parametrize(("down", "right"), [(0, 0), (5, -7), (-3, 0), (12, 12), (-24, 1)])
def test_what_stays_in_the_picture_is_moved_to_the_pixel(down: int, right: int, ground: str) -> None:
    found = shifted.shifted(PICTURES, down, right, ground)
    assert (found.shape, found.dtype) == (PICTURES.shape, np.uint8)
    rows = np.arange(24)
    stays = [rows[(rows - by >= 0) & (rows - by < 24)] for by in (down, right)]
    np.testing.assert_array_equal(
        found[:, stays[0][:, None], stays[1]], PICTURES[:, stays[0][:, None] - down, stays[1] - right]
    )


def test_a_mirrored_ground_is_the_mirror_image_and_a_blurred_one_has_the_colours() -> None:
    down = shifted.shifted(PICTURES, 6, 0, "mirrored")
    np.testing.assert_array_equal(down[:, :6], PICTURES[:, 5::-1])
    flat = np.full((1, 24, 24, 3), (200, 100, 30), np.uint8)
    np.testing.assert_array_equal(shifted.shifted(flat, 6, 9, "blurred"), flat)
    assert shifted.shifted(PICTURES, 0, 9, "blurred")[:, :, :9].std() < 0.3 * PICTURES.std()


def test_impossible_shifts_are_refused() -> None:
    for asked in ((25, 0, "mirrored"), (0, -25, "blurred"), (1, 1, "black")):
        with pytest.raises(ValueError, match="ground must be one of"):
            shifted.shifted(PICTURES, *asked)


def test_supports_and_queries_go_opposite_ways_by_half_of_the_distance_each() -> None:
    for k, (y, x) in enumerate(DIRECTIONS):
        assert shifted.pixels_of(0.5, k, 84) == (21 * y, 21 * x)
    images = toy_images(classes=6, per_class=8)
    plan = Plan((0.0, 0.5), per_class=8, query=3, episodes=16)
    asked: list[tuple[tuple[int, int], tuple[int, int]]] = []

    class Recorder(torch.nn.Module):
        def score(self, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
            asked.append((tuple(support[0, 0, 0].tolist()), tuple(query[0, 0].tolist())))
            return torch.zeros(1, query.shape[1], support.shape[1])

    def features(down: int, right: int) -> Features:
        return Features(torch.tensor([down, right]).expand(len(images), 2))

    draws = [shifted.EpisodeSampler(images, 5, 1, 3).indices(i) for i in range(8)]
    for study, sign in (("apart", -1), ("together", 1)):
        asked.clear()
        found = shifted.play({"it": Recorder()}, images, Step(study, 0.5), features, draws)  # type: ignore[dict-item]
        assert asked == [((6 * y, 6 * x), (sign * 6 * y, sign * 6 * x)) for y, x in DIRECTIONS]
        assert found["it"].tolist() == [20.0] * 8  # all scores alike: the first class
    assert plan.steps() == [Step("apart", 0.0), Step("apart", 0.5), Step("together", 0.5)]


@pytest.mark.integration
def test_the_study_is_written_with_its_networks_and_pictures_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = toy_images(classes=6, per_class=8, size=40)
    files = []
    for name, alignment in (("mine", "closed"), ("none", "none")):
        torch.manual_seed(0)
        model = DMF("conv4", 4, alignment=alignment, backbone_options={"width": 8}).eval()
        model.preprocessing = Preprocessing.of(images)
        save_model(model, tmp_path / f"{name}.safetensors", {"seed": 0})
        files.append(tmp_path / f"{name}.safetensors")
    monkeypatch.setattr(chosen, "load_images", lambda *_, **__: images)
    out, drawn = tmp_path / "x.json", tmp_path / "figures"
    how = {"distances": (0.0, 0.5), "per_class": 8, "query": 3, "episodes": 8}
    shifted.run("toy", weights=files, out=out, figures=drawn, **how)
    found = json.loads(out.read_text())
    assert found["networks"]["DMF"]["digest"] == provenance.digest(chosen.load_model(files[0]))
    assert found["images"]["digest"] == images.digest
    assert found["plan"]["episodes"] == 8
    by = {(r["method"], r["study"], r["level"]): r for r in found["rows"]}
    assert {m for m, _, _ in by} == {"DMF", shifted.SWITCHED_OFF, "no alignment"}
    ends = by["DMF", "apart", 0.0], by["DMF", "together", 0.0]
    assert ends[0]["accuracy"] == ends[1]["accuracy"]  # the same pictures
    # The two files hold the same weights, so DMF with its alignment off is the network without alignment.
    off = by[shifted.SWITCHED_OFF, "apart", 0.5]
    assert (off["gain"], off["gain ci95"], off["apart beyond"]) == (0, 0, 0)
    said = shifted.sentences(found["rows"], "no alignment")
    assert len(said) == 3
    assert said[1].startswith(shifted.SWITCHED_OFF)
    assert said[1].endswith("the fall is not told apart from that of no alignment (0.0 ± 0.0 points)")
    row = by["DMF", "apart", 0.5] | {"fall beyond": -3.0, "fall beyond ci95": 1.0}
    assert shifted.sentences([row], "no alignment")[0].endswith("it loses 3.0 ± 1.0 points more than no alignment")
    assert str(tmp_path) not in out.read_text()
    assert found["baseline"] == "no alignment"
    shifted.run("toy", weights=["quick-can"], out=out, figures=drawn, **how)
    alone = json.loads(out.read_text())
    assert (alone["baseline"], {row["gain"] for row in alone["rows"]}) == ("CAN", {0})  # nothing else was played
    first = (drawn / f"displacement_toy_{tmp_path.name}_mine.png").read_bytes()
    shifted.run("toy", weights=files, out=out, figures=drawn, ground="blurred", **how)
    how = json.loads((drawn / f"displacement_toy_{tmp_path.name}_mine_blurred.json").read_text())["how"]
    assert "--ground blurred" in how["command"]
    assert (drawn / f"displacement_toy_{tmp_path.name}_mine.png").read_bytes() == first
