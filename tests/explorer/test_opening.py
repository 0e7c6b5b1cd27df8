"""`labkit.explore` opens on the pictures and networks that are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.data.imageset import ImageSet
from labkit.evaluation import chosen
from labkit.models.checkpoints import load_model, save_model
from tests.helpers.toys import toy_images


def test_it_opens_on_a_data_set_with_the_networks_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*what: str, **how: Any) -> ImageSet:
        asked.append((*what, how["root"], how["size"]))
        return toy_images(classes=6, per_class=8, size=40)

    monkeypatch.setattr(chosen, "load_images", load)
    box = labkit.explore(["quick", "quick-match"], data_root="/x", episodes=[4], shots=[1])
    explorer = box.children[-1]
    assert asked == [("miniimagenet", "test", "/x", 40)]
    assert list(explorer.models) == ["quick", "quick-match"]
    assert [task.title for task in explorer.tasks] == ["episode 4, 5-way 1-shot"]
    files = [tmp_path / name / "best.safetensors" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        save_model(load_model("quick"), file)
    both = labkit.explore(files, data_root="/x", episodes=[4], shots=[1]).children[-1]
    assert list(both.models) == ["best", "b/best"]  # every training leaves a file of this name
    with pytest.raises(ValueError, match="the explorer shows DMF networks"):
        labkit.explore("quick-can", "miniimagenet", "/x")
