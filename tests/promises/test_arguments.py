"""Arguments that nobody looked at, and NumPy's numbers wherever numbers enter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import labkit
from labkit.data.own_folder import check_listed, share_out
from labkit.explorer.widget import Explorer, explore
from labkit.own_images import figures
from labkit.studies.displacement import levels
from labkit.studies.tables import cells, table1, train_cells
from labkit.training.phases import Phase
from tests.helpers.sweep_runs import square
from tests.helpers.toys import toy_images

IMAGES = toy_images(classes=7, per_class=12)


def sweep(run: Any = square, grid: Any = None, **options: Any) -> Any:
    return labkit.sweep(run, grid, folder="no such folder", version=1, **options)


def listed(classes: Any) -> Any:
    return check_listed(["cat", "caf\u00e9"], classes, "here")


def from_arrays(labels: Any, **options: Any) -> Any:
    return labkit.ImageSet.from_arrays(np.zeros((2, 8, 8, 3), np.uint8), labels, **options)


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: sweep(grid={"method": "dmf"}), TypeError, "values of 'method' must be a list of values.*got 'dmf'"),
    (lambda: sweep(grid={"changes": {"a": 1}}), TypeError, "values of 'changes' must be a list .* got a dict of 1"),
    (lambda: sweep(grid={"seed": 0}), TypeError, "values of 'seed' must be a list .* got 0"),
    (lambda: sweep(grid={"seed": np.int64(0)}), TypeError, "values of 'seed' must be a list .* got int64"),
    (lambda: sweep(grid={"seed": []}), ValueError, "values of 'seed' must be a list"),
    (lambda: sweep(grid={"seed": np.array(0)}), TypeError, "values of 'seed' must be a list"),
    (lambda: labkit.sweep(square, {"x": [1]}, folder="no such folder", version=True), TypeError, "version must be"),
    (lambda: cells.asked_of(3, [1], [0]), ValueError, "there are the tables 1 and 2, got 3"),
    (lambda: cells.asked_of(2, 1, [0]), TypeError, "shots must be a list of numbers, got 1"),  # type: ignore[arg-type]
    (lambda: cells.asked_of(2, "1", [0]), TypeError, "shots must be a list"),  # type: ignore[arg-type]
    (lambda: cells.asked_of(2, [2], [0]), ValueError, r"the tables have \[1, 5\] shots, got \[2\]"),
    (lambda: cells.asked_of(2, [1], [-1]), ValueError, "a seed must be at least 0, got -1"),
    (
        lambda: train_cells.fill("no such folder", 2, cells="dmf"),  # type: ignore[arg-type]
        TypeError,
        "cells must be a list of labkit.studies.tables.cells.Cell, got 'dmf'",
    ),
    (lambda: sweep(grid=5), TypeError, "grid must be a list of values for each parameter"),
    (lambda: sweep(grid="seed"), TypeError, "grid must be a list of values for each parameter"),
    (lambda: sweep(grid=["seed"]), TypeError, "grid must be a list of values for each parameter"),
    (lambda: sweep(print, {"a": [1]}), TypeError, "run must be a function of a module"),
    (lambda: sweep(lambda p, f: 1, {"a": [1]}), TypeError, "run must be .* a lambda or a function within another"),
    (lambda: explore(labkit.load_model("quick"), IMAGES), TypeError, "models must be DMF networks by .* got a DMF"),
    (lambda: explore({}, IMAGES, shots=1), TypeError, "shots must be a list of whole numbers, got 1"),
    (lambda: explore({}, IMAGES, episodes=1), TypeError, "episodes must be a list of whole numbers, got 1"),
    (lambda: listed(["a"]), TypeError, "classes must be the class names of each split, .*got a list of 1"),
    (lambda: listed([1, 2]), TypeError, "classes must be the class names of each split, .*got a list of 2"),
    (lambda: listed({"train": "cat"}), TypeError, "classes must be the class names .* got 'cat' for 'train'"),
    (lambda: listed({"train": [1]}), TypeError, r"classes must be the class names .* got \[1\]"),
    (lambda: share_out(["a"], None, 0), TypeError, "shares must be three numbers"),  # type: ignore[arg-type]
    (lambda: labkit.experiment("quick", bfloat16="no"), TypeError, "bfloat16 must be True or False, got 'no'"),
    (lambda: labkit.experiment("quick", augment="none"), TypeError, "augment must be a labkit.episodes.augment.Aug"),
    (
        lambda: labkit.load_images("cifar-fs", "test", root="no such folder", download="no"),
        TypeError,
        "download must be True or False, got 'no'",
    ),
    (lambda: labkit.load_images("glyphs-mini", "test", progress=None), TypeError, "progress must be True or False"),
    (lambda: labkit.check_data(None), TypeError, "root must be the path of a folder, got None"),  # type: ignore[arg-type]
    (
        lambda: labkit.train(labkit.experiment("quick"), IMAGES, IMAGES, "no such folder", log=5),  # type: ignore[arg-type]
        TypeError,
        "log must be a function",
    ),
    (
        lambda: labkit.save_model(labkit.load_model("quick"), "x.safetensors", {"a": {1}}),
        TypeError,
        "about must be a dict of JSON types",
    ),
    (lambda: from_arrays("ab"), TypeError, "labels must be whole numbers .* got 'ab'"),
    (lambda: from_arrays({0: 1, 1: 2}), TypeError, "labels must be whole numbers .* got a dict of 2"),
    (lambda: from_arrays(None), TypeError, "labels must be whole numbers .* got None"),
    (lambda: from_arrays([0, 1], categories="ab"), TypeError, "categories must be a list of texts"),
    (lambda: from_arrays([0, 1], dataset=5), TypeError, "dataset must be a name, got 5"),
    (lambda: Explorer({"m": labkit.load_model("quick")}, [5]), TypeError, "tasks must be a list of .*Task, got 5"),  # type: ignore[list-item]
    (
        lambda: explore({"m": labkit.load_model("quick")}, IMAGES, search=3, shots=[1]),  # type: ignore[arg-type]
        TypeError,
        "search must be a list of whole numbers, got 3",
    ),
    (lambda: levels.Plan(episodes="4"), TypeError, "episodes must be a whole number, got '4'"),  # type: ignore[arg-type]
    (lambda: levels.Plan(episodes=0), ValueError, "episodes must be at least 1, got 0"),
    (lambda: table1.shown(table1.table([], 1), "nope"), ValueError, "the table is sorted by one of .* got 'nope'"),
    (lambda: figures.show_support({"a": []}), TypeError, "support must be a labkit.SupportSet"),  # type: ignore[arg-type]
    (lambda: figures.show_classified(5), TypeError, "found must be a labkit.Classified"),  # type: ignore[arg-type]
    (lambda: labkit.load_images(5, "test"), TypeError, "name must be a text, got 5"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "exception", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_refused(call: Callable[[], Any], exception: type[Exception], said: str) -> None:
    with pytest.raises(exception, match=said):
        call()
    assert not Path("no such folder").exists()


def test_a_field_called_name_can_be_changed() -> None:
    assert labkit.experiment("quick", name="mine").name == "mine"


def test_a_class_is_found_in_either_spelling() -> None:
    assert listed({"train": ["cafe\u0301"]})["train"] == ["caf\u00e9"]


def test_numpy_numbers_reach_every_writer(tmp_path: Path) -> None:
    five = np.int64(5)
    sampler = labkit.EpisodeSampler(IMAGES, five, np.int64(1), np.int64(2), np.int64(0), episodes=np.int64(3))
    assert [len(sampler), len(list(sampler))] == [3, 3]
    assert torch.equal(list(sampler)[2].query, sampler[np.int64(2)].query)
    change: Any = {"width": np.int64(8)}
    rates: Any = {"learning_rate": np.float32(0.1), "backbone_options": {"width": np.float32(0.1)}}
    experiment = labkit.experiment("quick", steps=five, batch=np.int64(2), **rates)
    assert json.dumps(experiment.to_json())
    phase = Phase(five, size=np.int64(2), rates={"x": np.float32(1)}, betas=(np.float32(0.5), 0.9), learning_rate=five)
    assert json.dumps(phase.to_json())
    model = labkit.DMF("conv4", np.int64(4), classes=np.int64(3), backbone_options=change, score_scale=np.float32(0.5))
    result = labkit.evaluate(model, IMAGES, five, np.int64(1), np.int64(2), np.int64(3), np.int64(0))
    assert json.dumps(result.summary())
    labkit.save_model(model, tmp_path / "m.safetensors", {"accuracy": np.float64(1), "way": five})
    assert labkit.load_model(tmp_path / "m.safetensors").recipe() == model.recipe()


@pytest.mark.integration
def test_a_script_without_a_guard(tmp_path: Path) -> None:
    """The lab's functions need none; the script's own need one, and that is said."""
    start = f"import labkit, sys\nsys.path.insert(0, {str(Path.cwd())!r})\n"
    call = "print(len(labkit.sweep(RUN, {'x': [2]}, folder=RUN.__name__, version=1, workers=1, progress=False).rows))\n"
    imported = start + "from tests.helpers.sweep_runs import square\n" + call.replace("RUN", "square")
    own = start + "def run(p, folder): return {}\n" + call.replace("RUN", "run")
    said = []
    for name, text in (("imported.py", imported), ("own.py", own)):
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            [sys.executable, name], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        said.append((done.returncode, done.stdout.strip(), done.stderr))
    assert said[0][:2] == (0, "1"), said[0][2][-2000:]
    assert said[1][0] == 1
    assert "calls labkit.sweep under `if __name__ == '__main__':`" in said[1][2].splitlines()[-1]
    assert "has no attribute 'kill'" not in said[1][2]
