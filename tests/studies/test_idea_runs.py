"""Ideas are trained beside the baselines, kept by seed, chosen on validation classes, and displaced pictures played."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.studies import idea_runs
from labkit.studies.shifted import DIRECTIONS, Shifted, shifted
from tests.helpers.toy_maps import PICTURES, backbone, toy_maps

MAPS = toy_maps()
WHERE: dict[str, Any] = {"dataset": "toy", "backbone": MAPS.base.backbone, "shot": 1, "seed": 0}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idea_runs, "maps_of", lambda *_, **__: MAPS)
    monkeypatch.setattr(idea_runs, "_shifted", lambda *_: Shifted(backbone(), PICTURES[2]))
    monkeypatch.setattr(Shifted.measure, "__defaults__", (4, 0))
    monkeypatch.setattr(idea_runs, "BASE_GROUPS", {1: 4})


def test_two_stages_share_a_training_and_every_seed_is_a_line(tmp_path: Path) -> None:
    for name in (*idea_runs.BASELINES, "Contrast"):
        for stage in (idea_runs.VALIDATION, idea_runs.NOVEL):
            run = WHERE | {"name": name, "stage": stage}
            row = idea_runs.run_idea(run, tmp_path / f"{name}{stage}", backbone="b", steps=4, episodes=4)
            assert json.loads(json.dumps(row)) == row
            assert bool(row["novel"]) == (stage == idea_runs.NOVEL)
    lines = (tmp_path / idea_runs.FILE).read_text().splitlines()
    assert len(lines) == 8
    found = idea_runs.rows(tmp_path, steps=4)
    assert idea_runs.chosen(found, 1) == "Contrast"
    by = {(r["system"], r["stage"]): r for r in found}
    assert by["Contrast", "novel"]["validation"] == by["Contrast", "validation"]["validation"]
    assert by["Contrast", "novel"]["seconds"] is None  # found again, not trained anew
    assert set(by["DMF", "novel"]["displaced"]) == {"together 0", "together 0.25", "apart 0.25"}
    table = idea_runs.table([r for r in found if r["stage"] == "novel"], "novel")
    own = table.set_index("head").loc["Contrast"]
    assert own["minus DMF"] == pytest.approx(
        by["Contrast", "novel"]["novel"]["accuracy"] - by["DMF", "novel"]["novel"]["accuracy"]
    )
    assert {"together 0.25", "apart 0.25"} <= set(table.columns)


def test_the_second_stage_needs_the_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run the command without --novel first"):
        idea_runs.fill(tmp_path, "b", "toy", shots=[1], novel=True, progress=False)
    with pytest.raises(ValueError, match="there is no idea Nonsense"):
        idea_runs.fill(tmp_path, "b", "toy", names=["Nonsense"])


def test_a_picture_moves_and_its_mirror_image_follows() -> None:
    picture = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, 3)
    down = shifted(picture, 1, 0)[0, :, :, 0]
    assert (down[1:] == picture[0, :3, :, 0]).all()
    assert (down[0] == picture[0, 0, :, 0]).all()
    left = shifted(picture, 0, -2)[0, :, :, 0]
    assert (left[:, :2] == picture[0, :, 2:, 0]).all()
    assert (left[:, 2:] == picture[0, :, [3, 2], 0].T).all()
    with pytest.raises(ValueError, match="smaller than the picture"):
        shifted(picture, 4, 0)


def test_apart_shifts_to_opposite_sides_and_together_to_one() -> None:
    moved = Shifted(backbone(), PICTURES[2])
    assert set(moved.maps) == {(0.0, (0, 1)), *((0.25, d) for d in DIRECTIONS)}

    class Same(type(backbone())):  # type: ignore[misc]
        def score(self, support: Any, query: Any, support_mask: Any = None) -> Any:
            return -(query[:, :, None] - support[:, None, :, 0]).flatten(3).norm(dim=-1)

    head = Same("conv4", classes=6, backbone_options={"width": 16})
    found = moved.measure(head, 1, episodes=8)
    assert {len(values) for values in found.values()} == {8}
    assert np.mean(found["together 0"]) > 20
