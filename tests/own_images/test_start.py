"""What notebook 12 begins with: folders, drawings, or a task of a data set with a picture of a sixth class."""

from pathlib import Path

import pytest

import labkit
from labkit.own_images import start
from labkit.own_images.start import EXAMPLES, begin, task_of


def test_drawings_unless_something_is_given(tmp_path: Path) -> None:
    name, model, classes, pictures = begin()
    assert name == "quick"
    assert isinstance(model, labkit.DMF)
    assert (len(classes), len(pictures)) == (5, 8)
    name, _, classes, pictures = begin("quick-none", EXAMPLES / "support", EXAMPLES / "query")
    assert (name, len(classes), len(pictures)) == ("quick-none", 5, 8)
    with pytest.raises(ValueError, match="give both support"):
        begin(support=tmp_path)


def test_a_task_of_a_data_set_has_a_picture_of_none_of_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    images = labkit.load_images("glyphs-mini", "test", size=40, per_class=8, progress=False)
    classes, pictures = task_of(images)
    assert [len(files) for files in classes.values()] == [3] * 5
    assert len(pictures) == 8
    assert sum("(no class)" in name for name in pictures) == 1
    monkeypatch.setattr(start, "load_images", lambda *_, **__: images)
    name, _, of_set, _ = begin(dataset="glyphs-mini")
    assert name == labkit.own_images.classify.default_weights()
    assert of_set.keys() == classes.keys()
