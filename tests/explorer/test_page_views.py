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


def test_presets_show_what_they_promise(browser: Browser) -> None:
    with opened(browser, ROOT / "figures" / "explorer.html") as page:
        titles = page.locator("select[name=preset] option").all_inner_texts()[1:]
        assert {"A wrong answer that no alignment gets right", "Points far outside"} <= set(titles)
        assert "The same query against another class" in titles
        for title in titles:
            page.select_option("select[name=preset]", label=title)
            why = page.locator(".dmf-preset").inner_text()
            assert len(why) > 30
            press(page, "ArrowUp", "ArrowDown")
            assert page.locator(".dmf-preset").inner_text() == why  # what is said of the query stays
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


def test_the_tour_goes_through_every_stage_in_five_steps(page: Page) -> None:
    page.locator("button[name=tour]").click()
    for number, stages in enumerate((["1"], ["2"], ["3", "4"], ["5"], ["6"]), 1):
        expect(page.locator(".dmf-tour")).to_contain_text(f"{number} of 5")
        expect(page.locator(".dmf-toured .dmf-step")).to_have_text(stages)
        page.keyboard.press("Enter")  # the button Next has the focus
    expect(page.locator(".dmf-tour")).to_have_count(0)


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
    for text in ("depth=3", "row=many"):
        page.locator("input[name=view]").fill(text)
        page.locator("input[name=view]").press("Enter")
        expect(page.locator(".dmf-said")).to_contain_text("This is no view")


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
