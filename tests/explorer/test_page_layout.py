"""The exported page, opened from a file: its layout at every size, in both themes, and how fast it is drawn."""

from __future__ import annotations

import itertools
import json
import re
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.explorer.tasks import Task
from labkit.explorer.widget import Explorer
from tests.helpers.explorer_page import (
    LAYOUT,
    SIZES,
    THEMES,
    bars,
    caption,
    cells,
    more,
    opened,
    press,
)
from tests.helpers.places import ROOT

pytestmark = pytest.mark.integration
KEPT = ROOT / "runs" / "browser"
MOVED = "query=3&locked=true&moves=%7B%220%22%3A%5B0%2C-30%5D%7D"


@pytest.mark.parametrize(("size", "theme"), list(itertools.product(SIZES, THEMES)), ids=str)
def test_at_every_size_nothing_overprints_is_cut_or_too_small(
    browser: Browser, exported: Path, size: tuple[int, int], theme: str
) -> None:
    with opened(browser, exported, *size, theme) as page:
        for view in ("", "task=3&query=4&support_class=2&time=0.3", "query=1&overlay=offset+length&plain=true", MOVED):
            page.evaluate("view => { location.hash = view; }", view)
            page.wait_for_timeout(100)
            found = page.evaluate(LAYOUT)
            assert not found["wrong"]
            assert found["smallest"] > 10.9  # eleven pixels, but for rounding
            assert found["wide"] <= 0
            if size[1] == 720 and view != MOVED:  # which adds a sentence
                assert found["tall"] <= 720
        KEPT.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=KEPT / f"page-{size[0]}-{theme}.png", full_page=True)


def test_the_name_of_a_view_worth_a_look_is_read_to_its_end(browser: Browser, exported: Path) -> None:
    with opened(browser, exported, 1440, 900) as page:
        chosen = page.locator("select[name=preset]")
        chosen.select_option(index=2)
        room = chosen.bounding_box()
        chosen.evaluate("e => { e.style = 'flex: none; max-width: none'; }")  # as wide as its longest name
        whole = chosen.bounding_box()
        assert room
        assert whole
        assert room["width"] >= whole["width"]


@pytest.mark.parametrize("theme", THEMES)
def test_text_stands_out_from_the_page_in_both_themes(browser: Browser, exported: Path, theme: str) -> None:
    with opened(browser, exported, theme=theme) as page:
        for selector, what in ((".dmf-caption", "color"), ("[data-stage=scores] text", "fill")):
            ink = page.eval_on_selector(selector, f"e => getComputedStyle(e).{what}.match(/\\d+/g).map(Number)")[:3]
            assert (max(ink) < 60) if theme == "light" else (min(ink) > 190)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")[:3]
        assert (min(paper) > 240) if theme == "light" else (max(paper) < 60)


def test_every_control_has_a_name_and_what_changes_is_spoken(page: Page) -> None:
    more(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('.dmf-explorer :is(button, select, input)')]
          .filter((e) => !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim() || e.textContent.trim()))
          .map((e) => e.name)"""
    )
    assert not nameless
    slider = page.get_by_role("slider", name="query position")
    expect(slider).to_have_attribute("aria-valuemax", "24")
    press(page, "ArrowDown")
    expect(slider).to_have_attribute("aria-valuenow", "17")
    page.locator("input[name=everywhere]").check()
    expect(page.locator("button[name=grid]")).to_have_attribute("title", re.compile("untick"))
    status = page.locator(".dmf-said")
    expect(status).to_have_attribute("aria-live", "polite")
    for word in ("Row 4, column 3", "of 9 points outside", "Margin"):
        expect(status).to_contain_text(word)


def test_what_is_said_moves_no_button_from_under_the_mouse(page: Page) -> None:
    more(page)
    for name in ("copy", "export"):
        control = page.locator(f"button[name={name}]")
        control.scroll_into_view_if_needed()
        before = control.bounding_box()
        control.click()
        expect(page.locator(".dmf-note:visible")).not_to_have_text("")
        assert control.bounding_box() == before
    top = "document.querySelector('.dmf-flow').offsetTop"
    flow = page.evaluate(top)
    press(page, "3")
    expect(page.locator(".dmf-note:visible")).to_contain_text("Point 3 chosen")
    assert page.evaluate(top) == flow


def test_names_that_hold_markup_are_shown_as_they_are(browser: Browser, explorer: Explorer, tmp_path: Path) -> None:
    task = explorer.tasks[0]
    names = ("</script><b>&", "<img src=x onerror=alert(1)>", '"quoted"', "`${1}`", "\u2028")
    file = tmp_path / "odd.html"
    odd = Task(names[0], names, task.support, task.query, task.shots, task.labels)
    file.write_text(Explorer({names[1]: explorer.models["quick"]}, [odd]).as_page("</title>&"), encoding="utf-8")
    with opened(browser, file) as page:
        assert page.title() == "</title>&"
        for stage in ("scores", "map", "offsets"):
            page.locator(f"button[name=open-{stage}]").click()
        assert page.locator("main img, main b:not(.dmf-panel b)").count() == 0
        texts = page.locator(".class text").all_text_contents()
        assert any(t.startswith("</scr") for t in texts)


def test_queries_that_have_file_names_are_called_by_them(browser: Browser, explorer: Explorer, tmp_path: Path) -> None:
    task, file = explorer.tasks[0], tmp_path / "files.html"
    own = replace(task, labels=None, files=tuple(f"<i>{i}.png" for i in range(len(task.query))))
    file.write_text(Explorer({"quick": explorer.models["quick"]}, [own]).as_page(), encoding="utf-8")
    with opened(browser, file, view="query=1") as page:
        assert caption(page, "query").startswith("Query <i>1.png. Cell in row")
        more(page)
        expect(page.locator("select[name=query] option:checked")).to_have_text("2: <i>1.png")
    with pytest.raises(ValueError, match="files must be 5 names, got 1"):
        replace(task, files=("a.png",))


def large(tmp_path: Path) -> Path:
    """A page of a network that was never trained, at 84 pixels with 64 groups, as in the paper: 11 x 11 cells."""
    torch.manual_seed(0)
    model = DMF("resnet12", 64, backbone_options={"width": 0.4}, alignment="closed", score_scale=0.05).eval()
    model.preprocessing = Preprocessing(84, "none")
    pictures = np.random.default_rng(0).integers(0, 256, (5, 1, 84, 84, 3), dtype=np.uint8)
    task = Task("random", tuple("abcde"), pictures, pictures[:, 0], (1,) * 5, (0, 1, 2, 3, 4))
    file = tmp_path / "large.html"
    file.write_text(Explorer({"untrained": model}, [task]).as_page(), encoding="utf-8")
    return file


# From a key's event to the drawing that shows its effect, and to the moment after the frame that holds it was painted.
KEY_TO_PICTURE = """async () => {
  const stage = document.querySelector('.dmf-stage'), times = [];
  for (let i = 0; i < 31; i++) {
    const before = stage.getAttribute('aria-valuenow'), began = performance.now();
    stage.dispatchEvent(new KeyboardEvent('keydown', {key: i % 2 ? 'ArrowLeft' : 'ArrowRight', bubbles: true}));
    await null;
    stage.getBoundingClientRect();
    const drawn = performance.now() - began;
    if (stage.getAttribute('aria-valuenow') === before) throw new Error('the key was not answered at once');
    await new Promise(r => requestAnimationFrame(() => setTimeout(r, 0)));
    times.push([drawn, performance.now() - began]);
    await new Promise(r => setTimeout(r, 20 + 3 * i));
  }
  return times;
}"""


def test_a_key_is_drawn_within_a_frame_with_maps_of_11_by_11_cells(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, large(tmp_path)) as page:
        assert len(cells(page)) == 121
        assert len(bars(page, "filter")) == 64
        drawn, painted = zip(*page.evaluate(KEY_TO_PICTURE), strict=True)
        found = {
            "key to drawing, ms": round(statistics.median(drawn), 1),
            "key to the frame after it is painted, ms": round(statistics.median(painted), 1),
        }
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / "response.json").write_text(json.dumps(found, indent=1))
        print(found)
        assert sorted(drawn)[len(drawn) // 4] < 16  # not the median: other work on the machine must not fail this
        assert not page.evaluate(LAYOUT)["wrong"]


# Elements that come or go in the drawings, and how many attributes are set, by one key.
TOUCHED = """async () => {
  const seen = [], all = [...document.querySelectorAll('.dmf-drawing svg')];
  const watcher = new MutationObserver((found) => seen.push(...found));
  const what = {childList: true, attributes: true, characterData: true, subtree: true};
  for (const svg of all) watcher.observe(svg, what);
  document.querySelector('.dmf-stage').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
  await new Promise(r => setTimeout(r, 0));
  const touched = new Set(seen.map((m) => m.target));
  const made = seen.flatMap((m) => [...m.addedNodes, ...m.removedNodes]);
  return [made.map((n) => n.outerHTML), touched.size, document.querySelectorAll('.dmf-drawing svg *').length,
          seen.filter((m) => m.target.tagName === 'image').length];
}"""


def test_a_key_moves_what_is_drawn_and_draws_nothing_anew(page: Page) -> None:
    made, touched, there, pictures = page.evaluate(TOUCHED)
    assert not made
    assert not pictures
    assert 10 < touched < there / 2
