"""Which pictures and networks a notebook takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from labkit.evaluation import chosen, provenance
from labkit.models.checkpoints import WEIGHTS, load_model, save_model


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


def test_figures_of_other_networks_take_no_other_s_name() -> None:
    named = {
        "mini": "figure3_miniimagenet",
        "mini-full": "figure3_miniimagenet_mini-full",
        "/x/runs/a/best.safetensors": "figure3_miniimagenet_a_best",
        "/x/runs/b/best.safetensors": "figure3_miniimagenet_b_best",
        "/x/mine/mini.safetensors": "figure3_miniimagenet_mine_mini",
        f"{WEIGHTS}/mini.safetensors": "figure3_miniimagenet",
    }
    assert {given: chosen.figure_name("figure3", "miniimagenet", [given]) for given in named} == named


def test_a_network_is_read_with_pictures_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(chosen, "load_images", lambda *what, **how: asked.append((what, how)))
    model = load_model("quick")
    chosen.images_for(model, "miniimagenet", "/x")
    chosen.images_for(model, "glyphs-mini", None)
    chosen.images_for(model, "glyphs-mini", "/x")  # which is refused, and not left out without a word
    assert asked == [
        (("miniimagenet", "test"), {"size": 40, "progress": False, "root": "/x"}),
        (("glyphs-mini", "test"), {"size": 40, "progress": False, "per_class": 200}),
        (("glyphs-mini", "test"), {"size": 40, "progress": False, "per_class": 200, "root": "/x"}),
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
    assert provenance.digest(one) == provenance.digest(two) != provenance.digest(model)
    assert one.preprocessing == model.preprocessing
