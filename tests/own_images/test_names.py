"""Classes and pictures by any name: numbers, dollars, two spellings of one word; and callers in any mood."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import labkit
from labkit.own_images import figures


@pytest.fixture(scope="module")
def model() -> Any:
    return labkit.load_model("quick")


def px(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)


def test_numbers_are_names_as_text(model: Any, tmp_path: Path) -> None:
    found = labkit.classify(model, {0: px(0), np.int64(1): px(1)}, {7: px(2)}, refuse=np.float32(0.1))
    assert found.support.names == ("0", "1")
    assert found.files == ("7",)
    assert pd.read_csv(found.to_csv(tmp_path / "a.csv"), dtype=str)["file"].tolist() == ["7"]
    figures.show_classified(found).savefig(tmp_path / "a.png")
    for support in ({1: px(0), "1": px(1)}, {1: px(0), np.int64(1): px(0), "1": px(1)}):
        with pytest.raises(ValueError, match="two of the classes are called '1'"):
            labkit.classify(model, support, px(2))
    with pytest.raises(ValueError, match="called '7'"):
        labkit.classify(model, {0: px(0), 1: px(1)}, {7: px(2), "7": px(2)})


def test_names_that_are_not_utf8_reach_every_writer(model: Any, tmp_path: Path) -> None:
    for name, seed in ((b"caf\xe9", 0), (b"b", 1)):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        Image.fromarray(px(seed)).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(folder / os.fsdecode(b"\xe9.png"))
    found = labkit.classify(model, tmp_path, {"q\udce9": px(2)})
    assert found.support.names == ("b", r"caf\udce9")
    assert found.support.files[0] == (r"\udce9.png",)
    found.to_csv(tmp_path / "a.csv")
    for figure in (figures.show_support(found.support), figures.show_classified(found)):
        figure.savefig(tmp_path / "a.png")
        plt.close(figure)


def test_two_spellings_of_one_class_are_shown_apart(model: Any) -> None:
    with pytest.raises(ValueError, match=r"read alike: .*caf\\xe9.*cafe\\u0301"):
        labkit.enrol(model, {"caf\u00e9": px(0), "cafe\u0301": px(1)})


@pytest.mark.parametrize("name", ["Ba$$", "100$%$", "$x", r"a\$b$", "$\\frac$"])
def test_a_dollar_is_a_dollar(model: Any, name: str, tmp_path: Path) -> None:
    found = labkit.classify(model, {name: px(0), "b": px(1)}, {name: px(2)})
    for figure in (figures.show_support(found.support), figures.show_classified(found)):
        figure.savefig(tmp_path / "a.png")
        plt.close(figure)


@pytest.mark.integration
def test_many_classes_make_no_endless_figure(model: Any) -> None:
    support = labkit.enrol(model, {f"class {i}": px(i) for i in range(40)})
    with plt.rc_context({"figure.constrained_layout.use": False}):  # a plain script, without the lab's style
        assert figures.show_support(support, width=100).get_size_inches()[1] <= 61
    shown = figures.show_classified(support.classify([px(i) for i in range(3)]))
    assert shown.get_size_inches()[1] < 10
    plt.close("all")


def test_autocast_around_the_call_changes_nothing(model: Any) -> None:
    support, query = {"a": px(0), "b": px(1)}, [px(2), px(3)]
    expected = labkit.classify(model, support, query)
    with torch.autocast("cpu", torch.bfloat16):
        found = labkit.classify(model, support, query)
    assert found.calibrated
    assert found.threshold == expected.threshold
    assert np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("refuse", ["0.2", True])
def test_refuse_is_looked_at(model: Any, refuse: Any) -> None:
    with pytest.raises(TypeError, match="refuse must be a number, got"):
        labkit.classify(model, {"a": px(0), "b": px(1)}, px(2), refuse=refuse)


@pytest.mark.filterwarnings("ignore:this model has no calibration")
def test_broken_weights_give_no_answer() -> None:
    broken = labkit.load_model("quick")
    torch.nn.init.constant_(broken.filter_conv.weight, torch.nan)
    with pytest.raises(FloatingPointError, match="scores are not finite: the weights may hold NaN"):
        labkit.classify(broken, {"a": px(0), "b": px(1)}, px(2))


def test_a_tilde_is_the_home_folder(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = labkit.classify(model, {"a": px(0), "b": px(1)}, px(2))
    assert found.to_csv("~/answers.csv") == tmp_path / "answers.csv"
    labkit.save_model(model, "~/m.safetensors")
    assert type(labkit.load_model("~/m.safetensors")) is labkit.DMF
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("argument", ["ways", "shots"])
def test_calibrate_wants_lists(model: Any, argument: str) -> None:
    with pytest.raises(TypeError, match=f"{argument} must be a list of whole numbers, got 5"):
        labkit.calibrate(model, labkit.load_images("glyphs-mini", "val", size=40, per_class=2), **{argument: 5})
