"""What notebook 12 begins with: folders, drawings, or a task of a data set with a picture of a sixth class."""

from pathlib import Path

import pytest

import labkit
from labkit.own_images import start
from labkit.own_images.start import EXAMPLES, begin, task_of


def test_drawings_unless_something_is_given(tmp_path: Path) -> None:
    yours = begin()
    assert yours.network == "quick"
    assert isinstance(yours.model, labkit.DMF)
    assert (len(yours.support), len(yours.query)) == (5, 8)
    yours = begin("quick-none", EXAMPLES / "support", EXAMPLES / "query", refuse=0.5, fit="crop")
    assert (yours.network, len(yours.support), len(yours.query)) == ("quick-none", 5, 8)
    assert (yours.refuse, yours.fit) == (0.5, "crop")
    with pytest.raises(ValueError, match="give both support"):
        begin(support=tmp_path)


@pytest.mark.parametrize("given", [None, "quick"])
def test_dropped_pictures_are_answered_by_the_network_of_photographs(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "default_weights", lambda photographs=True: "quick-none" if photographs else "quick")
    yours = begin(given)
    assert {known["name"] for known in yours.networks} == {"quick", "quick-none"}
    yours.add("classes", {"a/1.png": yours.query["star_grey.png"], "b/1.png": yours.query["arrow_wide.png"]})
    assert yours.network == (given or "quick-none"), "who names a network has chosen"
    yours.choose("quick")
    assert yours.model.recipe() == labkit.load_model("quick").recipe()


def test_a_task_of_a_data_set_has_a_picture_of_none_of_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    images = labkit.load_images("glyphs-mini", "test", size=40, per_class=8, progress=False)
    classes, pictures = task_of(images)
    assert [len(files) for files in classes.values()] == [3] * 5
    assert len(pictures) == 8
    assert sum("(no class)" in name for name in pictures) == 1
    monkeypatch.setattr(start, "load_images", lambda *_, **__: images)
    monkeypatch.setattr(start, "default_weights", lambda photographs=True: "quick-none" if photographs else "quick")
    yours = begin(dataset="glyphs-mini")
    assert yours.network == "quick-none"
    assert yours.support.keys() == classes.keys()
    alone = begin(data_root="/data/x")
    assert alone.support.keys() == classes.keys(), "a data root alone is miniImageNet's"
