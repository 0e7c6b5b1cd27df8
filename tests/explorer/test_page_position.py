"""The exported page, opened from a file: the position, the class and the time that are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.explorer.widget import Explorer
from tests.helpers.explorer_network import network_points, network_scores, truth
from tests.helpers.explorer_page import (
    bars,
    caption,
    opened,
    place,
    points,
    press,
    scores,
    where,
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("t", "m", "mode"), [(0, 0, 0), (0, 1, 0), (1, 0, 0), (3, 0, 1), (2, 0, 2), (3, 1, 2)])
def test_points_and_scores_are_those_of_the_network(
    browser: Browser, exported: Path, explorer: Explorer, t: int, m: int, mode: int
) -> None:
    view = f"task={t}&checkpoint={m}&mode={mode}&query=3&support_class=1&row=4&column=0"
    with opened(browser, exported, view=view) as page:
        np.testing.assert_allclose(points(page), network_points(explorer, t, m, mode, 3, 1, 4, 0), atol=2e-3)
        np.testing.assert_allclose(scores(page), network_scores(explorer, t, m, mode, 3), rtol=1e-4, atol=1e-5)


def test_points_are_drawn_where_they_are(page: Page, explorer: Explorer) -> None:
    expected = network_points(explorer, 0, 0, 0, 0, truth(explorer), 2, 2)
    drawn = page.eval_on_selector_all(".dot", "d => d.map(e => e.transform.baseVal[0].matrix).map(m => [m.f, m.e])")
    side = page.eval_on_selector("[data-stage=offsets] svg", "e => e.viewBox.baseVal.width") - 22
    np.testing.assert_allclose(drawn, (11 + (expected + 0.5) * side / 40).clip(11, 11 + side), atol=0.02)


def test_cells_of_a_backbone_without_poolings_are_on_pixels(
    browser: Browser, explorer: Explorer, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = DMF("wrn28", 4, backbone_options={"depth": 10, "width": 1}, alignment="closed").eval()
    model.preprocessing = Preprocessing(40, "none")
    wide, file = Explorer({"wide": model}, explorer.tasks[:1]), tmp_path / "wide.html"
    file.write_text(wide.as_page(), encoding="utf-8")
    with opened(browser, file, view="query=3&support_class=1&row=4&column=7") as page:
        np.testing.assert_allclose(points(page), network_points(wide, 0, 0, 0, 3, 1, 4, 7, 4, 0), atol=2e-3)
        np.testing.assert_allclose(scores(page), network_scores(wide, 0, 0, 0, 3), rtol=1e-4, atol=1e-5)
        box = page.locator("[data-stage=query] svg").evaluate("e => e.viewBox.baseVal.width")
        drawn = [float(page.locator("circle.position").first.get_attribute(name) or 0) for name in ("cy", "cx")]
        np.testing.assert_allclose(drawn, 11 + (np.array([16, 28]) + 0.5) * (box - 22) / 40, atol=0.1)


def test_two_sliders_move_the_position(page: Page) -> None:
    for name, said in (("row", "row 4, column 3"), ("column", "row 4, column 4")):
        page.locator(f"input[name={name}]").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", said)
        slider = page.get_by_role("slider", name=f"{name} of the position")
        expect(slider).to_have_attribute("aria-valuetext", f"{name} 4 of 5")


def test_arrow_keys_move_the_position_and_stop_at_the_edge(page: Page) -> None:
    press(page, "ArrowUp", "ArrowLeft")
    assert where(page) == "row 2, column 2"
    press(page, *["ArrowUp"] * 3)
    assert where(page) == "row 1, column 2"


def test_other_keys_of_a_slider_go_to_the_edges(page: Page) -> None:
    for key, said in (
        ("PageDown", "row 5, column 3"),
        ("PageUp", "row 1, column 3"),
        ("End", "row 5, column 5"),
        ("Home", "row 1, column 1"),
    ):
        press(page, key)
        assert where(page) == said
    press(page, "2", "Shift+End")
    expect(page.locator(".dmf-whatif")).to_be_hidden()  # a point goes nowhere by it


@pytest.mark.parametrize("stage", ["query", "map"])
def test_the_position_follows_the_mouse_until_a_click_locks_it(page: Page, stage: str) -> None:
    page.mouse.move(*place(page, stage, 4, 0))
    expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", "row 5, column 1")
    page.mouse.click(*place(page, stage, 4, 0))
    expect(page.locator("button[name=lock]")).to_have_attribute("aria-pressed", "true")
    page.mouse.move(*place(page, stage, 1, 1))
    assert where(page) == "row 5, column 1"
    assert "locked: click Lock to follow the mouse" in caption(page, "query")
    page.locator("button[name=lock]").click()
    page.mouse.move(*place(page, stage, 1, 1))
    expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", "row 2, column 2")


def test_a_finger_moves_the_position(browser: Browser, exported: Path) -> None:
    with opened(browser, exported, 1000, 800, has_touch=True) as page:
        page.touchscreen.tap(*place(page, "query", 0, 4))
        expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", "row 1, column 5")
        expect(page.locator("button[name=lock]")).to_have_attribute("aria-pressed", "false")


def test_a_class_is_chosen_by_click_and_by_key(page: Page, explorer: Explorer) -> None:
    page.locator(".class").nth(3).click()
    np.testing.assert_allclose(points(page), network_points(explorer, 0, 0, 0, 0, 3, 2, 2), atol=2e-3)
    press(page, "+")
    np.testing.assert_allclose(points(page), network_points(explorer, 0, 0, 0, 0, 4, 2, 2), atol=2e-3)


def test_at_time_zero_nothing_is_aligned(page: Page, explorer: Explorer) -> None:
    page.locator("input[name=time]").focus()
    page.keyboard.press("Home")
    np.testing.assert_allclose(scores(page), network_scores(explorer, 0, 0, None, 0), rtol=1e-4)
    assert bars(page, "gain") == [1.0] * 16
    page.keyboard.press("End")
    np.testing.assert_allclose(scores(page), network_scores(explorer, 0, 0, 0, 0), rtol=1e-4)


# The largest and the smallest height of the page and of the stages in the frames of Play.
HEIGHTS = """async () => {
  const seen = [];
  document.querySelector('button[name=play]').click();
  for (const end = performance.now() + 3300; performance.now() < end;) {
    await new Promise(requestAnimationFrame);
    seen.push([document.documentElement.scrollHeight, document.querySelector('.dmf-flow').offsetHeight]);
  }
  return [0, 1].map((i) => Math.max(...seen.map((s) => s[i])) - Math.min(...seen.map((s) => s[i])));
}"""


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (1000, 700)], ids=str)
def test_nothing_jumps_while_time_runs(browser: Browser, exported: Path, size: tuple[int, int]) -> None:
    with opened(browser, exported, *size) as page:
        assert page.evaluate(HEIGHTS) == [0, 0]


def test_play_runs_time_to_its_end(page: Page) -> None:
    page.locator("button[name=play]").click()
    expect(page.locator("button[name=play]")).to_contain_text("Pause")
    expect(page.locator("output")).not_to_have_text("t = 1.00")
    expect(page.locator("button[name=play]")).to_contain_text("Play", timeout=20_000)
    assert page.locator("input[name=time]").input_value() == "1"
