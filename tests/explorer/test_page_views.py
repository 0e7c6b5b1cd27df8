"""The exported page, opened from a file: presets, the tour, and views that are shared and kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import labkit
from labkit.explorer.widget import Explorer
from tests.helpers.explorer_network import truth
from tests.helpers.explorer_page import (
    caption,
    more,
    opened,
    points,
    press,
    scores,
)
from tests.helpers.places import ROOT

pytestmark = pytest.mark.integration
WRONG_MOVES = [f"moves={text}" for text in ('{"99":[1]}', '{"3":5}', '{"3":[1,"2"]}', "[]", "null", "{")]


def test_presets_show_what_they_promise(browser: Browser) -> None:
    with opened(browser, ROOT / "figures" / "explorer.html") as page:
        titles = page.locator("select[name=preset] option").all_inner_texts()[1:]
        assert {"A wrong answer that no alignment gets right", "Points far outside"} <= set(titles)
        assert "The same query against another class" in titles
        for title in titles:
            page.select_option("select[name=preset]", label=title)
            why = page.locator(".dmf-preset").inner_text()
            assert len(why) > 30
            assert "locked" in caption(page, "query")
            told = caption(page, "scores").replace("−", "-")
            if title.startswith("A wrong answer"):
                assert told.startswith("Wrong")
                assert "without alignment -" in told
                for mode in ("1", "2"):
                    more(page)
                    page.select_option("select[name=mode]", mode)
                    expect(page.locator("[data-stage=scores] .dmf-caption")).to_contain_text("Wrong")
            if title.startswith("Alignment corrects"):
                assert told.startswith("Right")
                assert "without alignment -" in told
            if title == "Points far outside":
                assert page.locator(".dot[data-outside=true]").count() == 9


def test_what_a_preset_says_is_gone_when_cell_class_query_or_points_are_others(browser: Browser) -> None:
    with opened(browser, ROOT / "figures" / "explorer.html") as page:
        chosen, why = page.locator("select[name=preset]"), page.locator(".dmf-preset")
        for title in ("Points far outside", "Alignment corrects the answer"):
            for changes, back in (
                (["ArrowLeft"], ["ArrowRight"]),
                (["+"], ["-"]),
                (["1", "Shift+ArrowUp"], ["Escape"]),
            ):
                chosen.select_option(label=title)
                said = why.inner_text()
                top = page.locator(".dmf-flow").bounding_box()
                press(page, *changes)
                expect(why).to_have_text("")
                expect(chosen.locator("option:checked")).to_have_text("choose a view …")
                assert page.locator(".dmf-flow").bounding_box() == top, "the stages stay where they are"
                press(page, *back)
                expect(why).to_have_text(said)  # it is the same view again
        more(page)
        query = page.locator("select[name=query]")
        query.select_option(index=(int(query.evaluate("e => e.selectedIndex")) + 1) % 5)
        expect(why).to_have_text("")
        # What the sentence itself asks to change is free: the time, and here the class.
        chosen.select_option(label="The same query against another class")
        said = why.inner_text()
        press(page, "+")
        page.locator("input[name=time]").focus()
        page.keyboard.press("Home")
        expect(why).to_have_text(said)


def test_no_view_has_two_names(browser: Browser) -> None:
    for name in ("explorer.html", "explorer_photographs.html"):
        text = (ROOT / "figures" / name).read_text(encoding="utf-8")
        start = text.index("page_js.start(") + len("page_js.start(")
        presets = json.loads(text[start : text.index(").catch")])["header"]["presets"]
        states = [json.dumps(p["state"], sort_keys=True) for p in presets]
        assert len(set(states)) == len(states) >= 3
        with opened(browser, ROOT / "figures" / name) as page:
            for title in page.locator("select[name=preset] option").all_inner_texts()[1:]:
                page.select_option("select[name=preset]", label=title)
                told = caption(page, "scores").replace("−", "-")
                if title == "A sure answer":
                    assert told.startswith("Right")
                    assert "without alignment +" in told
                assert page.get_by_label("Worth a look").locator("option:checked").inner_text() == title


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (1000, 700), (700, 700)], ids=str)
def test_the_text_of_the_tour_and_its_stages_are_in_the_window(
    browser: Browser, exported: Path, size: tuple[int, int]
) -> None:
    with opened(browser, exported, *size) as page:
        page.locator("button[name=tour]").click()
        for _ in range(5):
            page.wait_for_timeout(100)
            page.locator(".dmf-toured .dmf-head").first.hover()
            expect(page.locator(".dmf-tip")).to_be_hidden()  # the text of the tour says it
            for part in (".dmf-tour", ".dmf-toured"):
                for box in [e.bounding_box() for e in page.locator(part).all()]:
                    assert box
                    assert box["y"] >= 0
                    if part == ".dmf-tour" or size[0] > 760:
                        assert box["y"] + box["height"] <= size[1] + 1
            tour, stage = (page.locator(p).first.bounding_box() for p in (".dmf-tour", ".dmf-toured"))
            assert tour
            assert stage
            assert tour["y"] + tour["height"] <= stage["y"], "the text stands above"
            page.locator("button[name=tour-next]").click()
        expect(page.locator(".dmf-tour")).to_have_count(0)


def test_the_tour_goes_through_every_stage_in_five_steps(page: Page) -> None:
    page.locator("button[name=tour]").click()
    for number, stages in enumerate((["1"], ["2"], ["3", "4"], ["5"], ["6"]), 1):
        expect(page.locator(".dmf-tour")).to_contain_text(f"{number} of 5")
        expect(page.locator(".dmf-toured .dmf-step")).to_have_text(stages)
        page.keyboard.press("Enter")  # the button Next has the focus
    expect(page.locator(".dmf-tour")).to_have_count(0)
    page.locator("button[name=tour]").click()
    for _ in range(2):
        page.keyboard.press("Enter")
    page.locator("button[name=tour-play]").click()  # the controls may be out of the window
    for name in ("play", "tour-play"):
        expect(page.locator(f"button[name={name}]")).to_contain_text("Pause")
    page.keyboard.press("Escape")
    expect(page.locator(".dmf-tour")).to_have_count(0)
    expect(page.locator("button[name=tour]")).to_be_focused()


def test_a_view_can_be_shared_and_restored(browser: Browser, exported: Path, explorer: Explorer) -> None:
    with opened(browser, exported, view="task=1&query=2&support_class=4&row=1&column=3&time=0.4") as page:
        press(page, "1", "Shift+ArrowDown")
        more(page)
        view = page.locator("input[name=view]").input_value()
        seen = points(page), scores(page)
        page.wait_for_timeout(800)
        assert "moves" in page.evaluate("location.hash")
    with opened(browser, exported, view=view) as page:
        np.testing.assert_allclose(points(page), seen[0])
        np.testing.assert_allclose(scores(page), seen[1])
    explorer.restore(view)  # Python reads the same text
    try:
        assert (explorer.task, explorer.column, explorer.time) == (1, 3, 0.4)
        assert explorer.moves == {"0": [pytest.approx(1), pytest.approx(0)]}
        assert dict(p.split("=") for p in explorer.view().split("&"))["query"] == "2"
    finally:
        explorer.restore(dict.fromkeys(("task", "query"), 0) | {"support_class": truth(explorer), "time": 1.0})
        explorer.restore({"row": 2, "column": 2})


def test_a_text_that_is_no_view_is_refused_with_words(page: Page) -> None:
    more(page)
    field, said = page.locator("input[name=view]"), page.locator(".dmf-said")
    shown = field.input_value()
    wrong = ("depth=3", "row=many", "row=1.5", "task=99", "query=2.5", "column=77", "time=7", "locked=maybe")
    for text in (*wrong, "overlay=nonsense", *WRONG_MOVES):
        field.fill(text)
        field.press("Enter")
        expect(said).to_contain_text("This is no view")
        field.fill(shown)
        field.press("Enter")
        expect(said).not_to_contain_text("This is no view")


@pytest.mark.parametrize("view", ["row=99", *WRONG_MOVES])
def test_a_page_opens_from_an_address_that_names_no_view_and_says_so(
    browser: Browser, exported: Path, view: str
) -> None:
    with opened(browser, exported, view=view) as page:
        note = page.locator(".dmf-line .dmf-note").first
        expect(note).to_contain_text("This address names no view (")
        expect(note).to_contain_text("); the page's own is shown.")
        if view == "row=99":
            expect(note).to_contain_text("(row must be from 0 to 4, got 99)")
        press(page, "ArrowDown")
        expect(note).to_be_empty()
        page.evaluate("location.hash = 'row=77'")
        expect(note).to_contain_text("the view stays as it was")


def test_export_downloads_a_picture_and_a_drawing(page: Page, tmp_path: Path) -> None:
    more(page)
    found = []
    page.on("download", lambda download: found.append(download))
    page.locator("button[name=export]").click()
    expect(page.locator(".dmf-said")).to_contain_text("were downloaded")
    page.wait_for_timeout(500)
    names = {d.suggested_filename: d for d in found}
    assert set(names) == {"explorer.png", "explorer.svg"}
    names["explorer.png"].save_as(tmp_path / "explorer.png")
    width, height = Image.open(tmp_path / "explorer.png").size
    assert width > 2 * height > 500
    assert Image.open(tmp_path / "explorer.png").convert("L").getextrema() == (pytest.approx(0, abs=40), 255)


def test_the_shipped_page_is_what_the_lab_would_write(explorer: Explorer) -> None:
    """Its code is the present one, and what it shows are the numbers of the shipped network."""
    text = (ROOT / "figures" / "explorer.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    mine = explorer.as_page()
    start, end = "<style>", '<script type="text/plain"'
    assert text[text.index(start) : text.index(end)] == mine[mine.index(start) : mine.index(end)]
    start, end = '<script type="module">', "page_js.start("
    assert text[text.index(start) : text.index(end)] == mine[mine.index(start) : mine.index(end)]
    assert (
        labkit.load_model("quick").groups
        == json.loads(text[text.index(end) + len(end) : text.index(").catch")])["header"]["blocks"][0][0]["groups"]
    )
