"""Which pictures and networks a notebook takes, and that kept numbers are shown for nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from labkit.evaluation import chosen
from labkit.models.checkpoints import load_model, save_model
from tests.helpers.toys import toy_images


@pytest.mark.parametrize(
    ("dataset", "root", "expected"),
    [(None, None, "glyphs-mini"), (None, "/x", "miniimagenet"), ("cifar-fs", "/x", "cifar-fs")],
)
def test_photographs_where_a_folder_is_given_and_characters_where_none_is(
    dataset: str | None, root: str | None, expected: str
) -> None:
    assert chosen.dataset_of(dataset, root) == expected


def test_weights_are_those_given_or_shipped_for_the_pictures() -> None:
    assert chosen.weights_of(None, "glyphs-mini") == ["quick"]
    assert chosen.weights_of(None, "miniimagenet") == ["mini"]
    assert chosen.weights_of("[mini, mini-none]", "miniimagenet") == ["mini", "mini-none"]


def test_a_network_is_read_with_pictures_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(chosen, "load_images", lambda *what, **how: asked.append((what, how)))
    model = load_model("quick")
    chosen.images_for(model, "miniimagenet", "/x")
    chosen.images_for(model, "glyphs-mini", None)
    assert asked == [
        (("miniimagenet", "test"), {"size": 40, "progress": False, "root": "/x"}),
        (("glyphs-mini", "test"), {"size": 40, "progress": False, "per_class": 200}),
    ]


def test_networks_are_called_by_what_they_do(tmp_path: Path) -> None:
    names = ["quick", "quick-none", "quick-grid", "quick-match", "quick-can"]
    save_model(load_model("quick"), tmp_path / "mine.safetensors", {})
    assert list(chosen.load_by_kind([*names, tmp_path / "mine.safetensors"])) == [
        "DMF", "no alignment", "DMF without dynamic sampling", "DMF from the best match", "CAN", "DMF (mine)",
    ]  # fmt: skip
    for run in ("a", "b"):
        save_model(load_model("quick"), tmp_path / run / "best.safetensors", {})
    runs = [tmp_path / run / "best.safetensors" for run in ("a", "b", "b")]
    assert list(chosen.load_by_kind(["quick", *runs])) == ["DMF", "DMF (best)", "DMF (b/best)", "DMF (4)"]


def test_an_untrained_twin_is_the_same_every_time_and_leaves_the_generator_alone() -> None:
    model, state = load_model("quick"), torch.random.get_rng_state()
    one, two = chosen.untrained(model), chosen.untrained(model)
    assert torch.equal(state, torch.random.get_rng_state())
    assert chosen.digest(one) == chosen.digest(two) != chosen.digest(model)
    assert one.preprocessing == model.preprocessing


def test_kept_numbers_are_those_of_these_weights_and_pictures_only(tmp_path: Path) -> None:
    images, models = toy_images(), chosen.load_by_kind(["quick"])
    about = chosen.about(["quick"], models, images)
    assert "accuracy" in about["networks"]["DMF"]
    file = tmp_path / "kept.json"
    assert chosen.kept(file, models, images) is None
    file.write_text(json.dumps(about | {"rows": [1]}))
    found = chosen.kept(file, models, images)
    assert found is not None
    assert found["rows"] == [1]
    assert chosen.kept(file, chosen.load_by_kind(["quick-none"]), images) is None
    assert chosen.kept(file, models, toy_images(seed=1)) is None


def test_it_is_said_whose_numbers_follow() -> None:
    images, models = toy_images(), chosen.load_by_kind(["quick"])
    said = chosen.said(["quick"], models, images)
    assert "DMF: quick (" in said
    assert "trained on glyphs-mini, 68.6 ± 0.5 % on novel classes" in said
    assert repr(images) in said
