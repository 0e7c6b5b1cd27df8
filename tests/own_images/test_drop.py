"""The widget of notebook 12, without a browser: what is dropped becomes classes and answers; names can be changed."""

import os
from pathlib import Path
from typing import Any

import pytest
from IPython.core.formatters import DisplayFormatter

import labkit
from labkit.common.places import PACKAGE
from labkit.explorer import still
from labkit.own_images.classify import NONE
from labkit.own_images.drop import YourImages, classes_of, files_of, sorted_into_classes

PICTURES = PACKAGE / "own_images" / "examples"
SUPPORT, QUERY = classes_of(PICTURES / "support"), files_of(PICTURES / "query")
STAR, FISH = (next(iter(SUPPORT[name].values())) for name in ("star", "fish"))
NETWORKS = {"quick": "of signs", "quick-none": "another"}


@pytest.fixture(scope="module")
def model() -> Any:
    return labkit.load_model("quick")


@pytest.fixture
def widget(model: Any) -> YourImages:
    return YourImages(model, SUPPORT, QUERY, refuse=0.5, examples=True)


def names(widget: YourImages) -> list[str]:
    return [known["name"] for known in widget.classes]


@pytest.mark.integration
def test_it_begins_with_an_answer_and_shows_the_best_class_beside_none(widget: YourImages) -> None:
    assert names(widget) == sorted(SUPPORT)
    assert [found["file"] for found in widget.answers] == sorted(QUERY)
    refused = [found for found in widget.answers if found["refused"]]
    assert refused
    assert all(found["answer"] == NONE and found["best"] in SUPPORT for found in refused)
    assert "drop pictures of your own" in widget.message
    assert repr(widget) == "YourImages(5 classes, 8 pictures)"


def test_dropped_classes_take_the_place_of_the_examples_and_later_ones_join(widget: YourImages) -> None:
    widget.add("classes", {"star 1.png": STAR})
    assert names(widget) == ["star"]
    assert widget.answers == []
    assert widget.message == "Two classes are needed; there is only star. Drop pictures of another."
    widget.add("classes", {"my/fish/a.png": FISH})
    assert names(widget) == ["star", "fish"]
    assert "Now drop" in widget.message
    widget.add("query", {"what.png": STAR, "notes.txt": b"no picture"})
    assert [(found["file"], found["best"]) for found in widget.answers] == [("what.png", "star")]
    assert "Skipped notes.txt" in widget.message
    widget.add("classes", {"star 1.png": STAR})
    assert widget.classes[0]["count"] == 2, "a second picture of one name is another picture"


def test_pictures_to_classify_may_come_before_the_classes(widget: YourImages) -> None:
    widget.add("query", {"what.png": STAR})
    assert [found["best"] for found in widget.answers] == ["star"]
    assert widget.message == "The classes are still examples: drop yours."
    widget.add("classes", {"star 1.png": STAR})
    assert widget.answers == []
    widget.add("classes", {"fish 1.png": FISH})
    assert [(found["file"], found["best"]) for found in widget.answers] == [("what.png", "star")]
    assert widget.message == ""


def test_why_nothing_is_classified_is_said_until_it_is_mended(widget: YourImages) -> None:
    widget.add("classes", {"star 1.png": STAR, "fish 1.png": b"no picture"})
    assert "Class 'fish': not one of 1 pictures can be read" in widget.message
    widget.add("query", {"what.png": STAR})
    assert "Class 'fish': not one of 1 pictures can be read" in widget.message
    for name in ("fish", "star"):
        widget.remove(name)
    assert widget.message == "Two classes are needed; there is none. Drop pictures of them."


def test_before_the_widget_there_is_a_picture_for_those_whose_widgets_do_not_run(
    widget: YourImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[dict[str, Any]] = []
    monkeypatch.setattr(still, "display", lambda data, **_: outputs.append(data))
    assert DisplayFormatter().format(widget) == ({}, {}), "a cell that ends with it shows it as it wants to be shown"
    picture, style, live = outputs
    assert set(picture) == {"image/png", "text/plain"}
    assert set(style) == {"text/html"}
    assert set(live) == {"application/vnd.jupyter.widget-view+json"}, "no text below the picture"
    widget.add("query", {"notes.txt": b"no picture"})
    outputs.clear()
    widget._ipython_display_()
    assert [set(output) for output in outputs] == [{"text/plain", "application/vnd.jupyter.widget-view+json"}]


def test_a_name_can_be_changed_and_two_of_one_name_become_one(widget: YourImages) -> None:
    widget.rename("star", "asterisk")
    assert "asterisk" in names(widget)
    assert "asterisk" in {found["best"] for found in widget.answers}
    before = {known["name"]: known["count"] for known in widget.classes}
    widget.rename("asterisk", "fish")
    assert {known["name"]: known["count"] for known in widget.classes}["fish"] == before["asterisk"] + before["fish"]
    for impossible, why in ((" ", "a class needs a name"), (NONE, "is the answer to what belongs to no class")):
        widget.rename("fish", impossible)
        assert "fish keeps its name: " in widget.message
        assert why in widget.message
    widget.remove("fish")
    assert "fish" not in names(widget)


def test_another_network_can_be_chosen_and_is_not_overruled(model: Any) -> None:
    widget = YourImages(model, SUPPORT, QUERY, network="quick", networks=NETWORKS, of_own="quick")
    before = widget.answers
    widget._asked(None, {"kind": "choose", "network": "quick-none"}, [])
    assert widget.network == "quick-none"
    assert widget.answers != before
    widget._asked(None, {"kind": "choose", "network": "../quick"}, [])
    assert "no network '../quick'" in widget.message
    widget.add("classes", {"star 1.png": STAR})
    assert widget.network == "quick-none"


def test_what_the_browser_sends_is_read_and_nonsense_becomes_a_message(widget: YourImages) -> None:
    asked = {"kind": "add", "zone": "query", "names": ["a.png", "a.png"]}
    widget._asked(None, asked, [memoryview(STAR), memoryview(FISH)])
    assert [found["file"] for found in widget.answers] == ["a.png", "2 a.png"]
    widget._asked(None, asked, [])
    assert "ValueError" in widget.message
    widget._asked(None, {"kind": "rename", "old": "star"}, [])
    assert "KeyError" in widget.message
    widget._asked(None, {"kind": "remove", "name": "no class"}, [])
    assert len(widget.classes) == 5


def test_a_picture_in_a_folder_is_of_the_folders_class(tmp_path: Path) -> None:
    found = sorted_into_classes({"mine/cat/1.png": b"1", "mine/cat/.hidden": b"", "dog 2.png": b"2", "cat 9.png": b"9"})
    assert found == {"cat": {"1.png": b"1", "cat 9.png": b"9"}, "dog": {"dog 2.png": b"2"}}
    litter = {".DS_Store": b"x", "Thumbs.db": b"x", "all/desktop.ini": b"x", "all/._1.png": b"x", "all/cat/1.png": b"1"}
    assert sorted_into_classes(litter) == {"cat": {"1.png": b"1"}}
    alike = sorted_into_classes({"train/cat/1.jpg": b"1", "test/cat/1.jpg": b"2", "more/cat/1.jpg": b"3"})
    assert alike == {"cat": {"1.jpg": b"1", "2 1.jpg": b"2", "3 1.jpg": b"3"}}, "no picture is lost"


def test_numbers_of_pictures_that_are_far_apart_are_spoken_of(model: Any) -> None:
    many = {f"{number}.png": STAR for number in range(4)}
    widget = YourImages(model, {"star": many, "fish": {"1.png": FISH}}, QUERY)
    assert "Classes have from 1 to 4 pictures: those with few will be answered too seldom" in widget.message
    widget.remove("star")
    widget.add("classes", {"star/1.png": STAR})
    assert "Classes have from" not in widget.message


def test_own_folders_are_no_examples_and_are_read_as_classify_reads_them(tmp_path: Path, model: Any) -> None:
    for name, picture in (("star", STAR), ("fish", FISH)):
        (tmp_path / "s" / name).mkdir(parents=True)
        (tmp_path / "s" / name / "1.png").write_bytes(picture)
    (tmp_path / "s" / "__MACOSX").mkdir()
    (tmp_path / "q").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "q") + b"/caf\xe9.png")).write_bytes(STAR)
    widget = YourImages(model, classes_of(tmp_path / "s"), files_of(tmp_path / "q"))
    assert [found["best"] for found in widget.answers] == ["star"]
    assert "examples" not in widget.message
    widget.add("classes", {"arrow 1.png": next(iter(SUPPORT["arrow"].values()))})
    assert names(widget) == ["fish", "star", "arrow"]
    assert len(widget.answers) == 1
    with pytest.raises(ValueError, match="is no folder; expected one with pictures in it"):
        files_of(tmp_path / "nowhere")


def test_an_error_of_the_disk_becomes_a_message_and_percentages_without_calibration_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = labkit.load_model("quick")
    for parameter in network.parameters():
        parameter.data.mul_(1.01)  # another network than the one that was calibrated
    widget = YourImages(network, SUPPORT, QUERY, networks={"gone": "a file that was deleted"})
    assert "This network is not calibrated: its percentages may be far off" in widget.message
    widget._asked(None, {"kind": "choose", "network": "gone"}, [])
    assert "FileNotFoundError" in widget.message or "gone" in widget.message
