"""The exported page in a real browser, opened from a file: a test a feature."""

from __future__ import annotations

import itertools
import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import labkit
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.explorer.precompute import MODES, Task, points_of, score
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
    place,
    point_at_group,
    points,
    press,
    scores,
    where,
)
from tests.helpers.places import ROOT

pytestmark = pytest.mark.integration
KEPT = ROOT / "runs" / "browser"


def features(explorer: Explorer, t: int = 0, m: int = 0) -> tuple[DMF, torch.Tensor, torch.Tensor]:
    known = explorer.features[t, m]
    return list(explorer.models.values())[m], known.x_supp, known.x_q


@torch.inference_mode()
def network_points(
    explorer: Explorer, t: int, m: int, mode: int, q: int, n: int, i: int, j: int
) -> np.ndarray[Any, Any]:
    model, x_supp, x_q = features(explorer, t, m)
    found: np.ndarray[Any, Any] = points_of(model, MODES[mode], x_supp, x_q)[0, q, n, :, :, i, j].numpy() * 8 + 3.5
    return found


@torch.inference_mode()
def network_scores(explorer: Explorer, t: int, m: int, mode: int | None, q: int) -> list[float]:
    model, x_supp, x_q = features(explorer, t, m)
    points = None if mode is None else points_of(model, MODES[mode], x_supp, x_q)
    found: list[float] = score(model, x_supp, x_q, points)[q].tolist()
    return found


def truth(explorer: Explorer) -> int:
    labels = explorer.tasks[0].labels
    assert labels
    return labels[0]


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
    drawn = page.eval_on_selector_all(
        ".dot circle:nth-child(2)", "c => c.map(e => [e.cy, e.cx].map(v => v.baseVal.value))"
    )
    side = page.eval_on_selector("[data-stage=offsets] svg", "e => e.viewBox.baseVal.width") - 22
    np.testing.assert_allclose(drawn, (11 + (expected + 0.5) * side / 40).clip(11, 11 + side), atol=0.02)


def test_two_sliders_move_the_position(page: Page) -> None:
    for name, said in (("row", "row 3, column 2"), ("column", "row 3, column 3")):
        page.locator(f"input[name={name}]").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", said)


def test_arrow_keys_move_the_position_and_stop_at_the_edge(page: Page) -> None:
    press(page, "ArrowUp", "ArrowLeft")
    assert where(page) == "row 1, column 1"
    press(page, *["ArrowUp"] * 3)
    assert where(page) == "row 0, column 1"


@pytest.mark.parametrize("stage", ["query", "map"])
def test_the_position_follows_the_mouse_until_a_click_locks_it(page: Page, stage: str) -> None:
    page.mouse.move(*place(page, stage, 4, 0))
    expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", "row 4, column 0")
    page.mouse.click(*place(page, stage, 4, 0))
    expect(page.locator("button[name=lock]")).to_have_attribute("aria-pressed", "true")
    page.mouse.move(*place(page, stage, 1, 1))
    assert where(page) == "row 4, column 0"
    page.locator("button[name=lock]").click()
    page.mouse.move(*place(page, stage, 1, 1))
    expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", "row 1, column 1")


def test_a_finger_moves_the_position(browser: Browser, exported: Path) -> None:
    with opened(browser, exported, 1000, 800, has_touch=True) as page:
        page.touchscreen.tap(*place(page, "query", 0, 4))
        expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", "row 0, column 4")
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


def test_play_runs_time_to_its_end(page: Page) -> None:
    page.locator("button[name=play]").click()
    expect(page.locator("button[name=play]")).to_contain_text("Pause")
    expect(page.locator("output")).not_to_have_text("t = 1.00")
    expect(page.locator("button[name=play]")).to_contain_text("Play", timeout=20_000)
    assert page.locator("input[name=time]").input_value() == "1"


def test_margin_and_change_by_alignment_are_told(page: Page, explorer: Explorer) -> None:
    now, bare = (np.array(network_scores(explorer, 0, 0, mode, 0)) for mode in (0, None))
    right = truth(explorer)

    def margin(s: np.ndarray[Any, Any]) -> float:
        return float(s[right] - np.delete(s, right).max())

    told = caption(page, "scores").replace("−", "-")
    assert f"Margin {margin(now):+.2f} over" in told
    assert f"without alignment {margin(bare):+.2f}" in told
    changes = page.locator(".class").nth(right).inner_html().replace("−", "-")
    assert f"{now[right] - bare[right]:+.1f}" in changes


def test_bars_are_drawn_on_one_scale_that_time_does_not_move(page: Page) -> None:
    ratio = "b => b.map(e => e.width.baseVal.value / Number(e.closest('.class').dataset.score))"
    before = page.eval_on_selector_all("rect.score", ratio)
    page.locator("input[name=time]").focus()
    page.keyboard.press("Home")
    after = page.eval_on_selector_all("rect.score", ratio)
    np.testing.assert_allclose(before, before[0], rtol=0.02)
    np.testing.assert_allclose(after, before[0], rtol=0.02)


@torch.inference_mode()
def test_the_map_is_centred_over_the_classes_or_as_it_is(page: Page, explorer: Explorer) -> None:
    model, x_supp, x_q = features(explorer)
    maps = model.score_maps(x_supp, x_q, model.filters(x_supp, x_q))[0, 0]
    right = truth(explorer)
    np.testing.assert_allclose(cells(page), (maps - maps.mean(0))[right].flatten(), atol=2e-3)
    more(page)
    page.locator("input[name=plain]").check()
    np.testing.assert_allclose(cells(page), maps[right].flatten(), atol=2e-3)


@torch.inference_mode()
def test_a_group_lights_up_its_channels_and_the_cells_it_changes(page: Page, explorer: Explorer) -> None:
    model, x_supp, x_q = features(explorer)
    right, group = truth(explorer), 4
    whole = page.locator("path.channels").get_attribute("d") or ""
    point_at_group(page, group)
    expect(page.locator("[data-stage=map] .dmf-caption")).to_contain_text(f"group {group + 1} adds")
    share = (x_q[0, 0].view(16, 10, 5, 5) * model.class_weights(x_supp)[0, right].view(16, 10, 1, 1)).sum(1) * 0.08
    added = share * model.filters(x_supp, x_q)[0, 0, right, :, 0].expm1()
    np.testing.assert_allclose(cells(page), added[group].flatten(), atol=2e-3)
    lit = page.locator("path.channels").get_attribute("d") or ""
    assert lit.count("M") == 10
    assert set(lit.split("M")) <= set(whole.split("M"))
    page.mouse.move(5, 5)
    expect(page.locator("[data-stage=map] .dmf-caption")).not_to_contain_text("adds")
    press(page, "]", "]")
    expect(page.locator("[data-stage=filter] .dmf-caption")).to_have_text("group 2")


@pytest.mark.parametrize("overlay", ["offset length", "score", "filter norm", "similarity"])
def test_an_overlay_says_what_it_shows_under_the_picture_it_is_on(page: Page, overlay: str) -> None:
    more(page)
    page.select_option("select[name=overlay]", label=overlay)
    on, other = ("offsets", "query") if overlay == "similarity" else ("query", "offsets")
    expect(page.locator(f"[data-stage={on}] .dmf-caption")).to_contain_text(overlay)
    expect(page.locator(f"[data-stage={other}] .dmf-caption")).not_to_contain_text(overlay)
    assert page.locator(f"[data-stage={on}] image").count() == 2


def test_what_if_for_one_position_is_what_python_says(page: Page, explorer: Explorer) -> None:
    right = truth(explorer)
    press(page, "3", "Shift+ArrowLeft", "Shift+ArrowLeft")
    moved = network_points(explorer, 0, 0, 0, 0, right, 2, 2) - [[0, 2 * (tap == 2)] for tap in range(9)]
    np.testing.assert_allclose(points(page), moved, atol=2e-3)
    request = dict.fromkeys(("task", "checkpoint", "query", "mode"), 0) | {"row": 2, "column": 2}
    answer = explorer.what_if(request | {"support_class": right, "points": moved.tolist()})
    np.testing.assert_allclose(bars(page, "filter"), answer["filter"], atol=2e-4)
    np.testing.assert_allclose(scores(page)[right], answer["score"], rtol=1e-5)
    expect(page.locator(".dmf-whatif")).to_contain_text(f"{answer['was']:.3f} → {answer['score']:.3f}")
    expect(page.locator(".dmf-whatif")).to_contain_text("margin")
    press(page, "0")
    expect(page.locator(".dot")).to_have_count(8)
    press(page, "Escape")
    expect(page.locator(".dmf-whatif")).to_be_hidden()
    np.testing.assert_allclose(scores(page), network_scores(explorer, 0, 0, 0, 0), rtol=1e-4)


@torch.inference_mode()
def test_what_if_for_all_positions_changes_the_whole_map(page: Page, explorer: Explorer) -> None:
    model, x_supp, x_q = features(explorer)
    right = truth(explorer)
    asked = points_of(model, "trained", x_supp, x_q)
    asked[..., 2, 1, :, :] -= 1 / 8  # a pixel to the left, in feature cells
    expected = score(model, x_supp, x_q, asked)[0, right]
    more(page)
    page.locator("input[name=everywhere]").check()
    press(page, "3", "Shift+ArrowLeft")
    np.testing.assert_allclose(scores(page)[right], expected, rtol=1e-5)
    press(page, "ArrowDown")
    np.testing.assert_allclose(scores(page)[right], expected, rtol=1e-5)
    expect(page.locator(".dmf-whatif")).to_contain_text("all positions")
    page.locator("button[name=away]").click()
    assert bars(page, "filter") == [0.5] * 16  # psi reads zeros, and sigma(0) is one half
    page.locator("button[name=reset]").click()
    np.testing.assert_allclose(scores(page), network_scores(explorer, 0, 0, 0, 0), rtol=1e-4)


def test_back_to_the_grid_reads_where_zero_offsets_would(page: Page, explorer: Explorer) -> None:
    more(page)
    page.locator("button[name=grid]").click()
    np.testing.assert_allclose(points(page), network_points(explorer, 0, 0, 2, 0, truth(explorer), 2, 2), atol=2e-3)


def test_a_point_can_be_dragged(page: Page, explorer: Explorer) -> None:
    before = points(page)
    tap = int(np.abs(before - 20).max(1).argmin())  # the one nearest the middle: it is not on the edge
    box = page.locator(f".dot[data-tap='{tap}'] circle").nth(1).bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y - 10, steps=4)
    page.mouse.up()
    expect(page.locator(".dmf-whatif")).to_contain_text("this position")
    unit = 40 / (page.eval_on_selector("[data-stage=offsets] svg", "e => e.viewBox.baseVal.width") - 22)
    np.testing.assert_allclose((points(page) - before)[tap], [-10 * unit, 20 * unit], atol=0.2)


@pytest.mark.parametrize("stage", ["query", "offsets", "filter", "gain", "map", "scores"])
def test_a_stage_opens_and_shows_its_equation_with_numbers(page: Page, explorer: Explorer, stage: str) -> None:
    head = page.locator(f"button[name=open-{stage}]")
    if head.get_attribute("aria-expanded") == "false":
        head.click()
    expect(head).to_have_attribute("aria-expanded", "true")
    panel = page.locator(f"#{head.get_attribute('aria-controls')}")
    text = panel.inner_text().replace("−", "-")
    right = truth(explorer)
    value = max(bars(page, "filter"))
    numbers = {
        "query": [f"{features(explorer)[2][0, 0, :, 2, 2].norm():.2f}"],
        "offsets": [f"({x:.1f}, {y:.1f})" for y, x in network_points(explorer, 0, 0, 0, 0, right, 2, 2)],
        "filter": ["σ("],
        "gain": ["t = 1.00"],
        "map": [f"{np.array(cells(page))[12]:+.2f}"],
        "scores": [f"{s:.2f}" for s in network_scores(explorer, 0, 0, 0, 0)],
    }
    assert value > 0
    for number in numbers[stage]:
        assert number in text
    head.click()
    expect(panel).to_be_hidden()


def test_the_filter_told_is_the_bar_and_the_gain_its_exponential(page: Page) -> None:
    page.locator("button[name=open-filter]").click()
    group = 5
    point_at_group(page, group)
    value = bars(page, "filter")[group]
    expect(page.locator(".dmf-panel")).to_contain_text(f"Group {group + 1}")
    told = re.search(r"= ([\d.]+)\.\s+Each addend", page.locator(".dmf-panel").inner_text())
    assert told
    assert float(told[1]) == pytest.approx(value, abs=6e-4)
    assert bars(page, "gain")[group] == pytest.approx(np.exp(value), abs=2e-3)


def test_every_label_explains_itself_on_hover_and_on_focus(page: Page) -> None:
    more(page)
    tip = page.locator(".dmf-tip")
    said = set()
    for label in page.locator("[data-word]:visible").all():
        label.hover()
        expect(tip).to_be_visible()
        said.add(tip.inner_text())
        page.mouse.move(2, 2)
        label.focus() if label.get_attribute("tabindex") == "0" or label.evaluate(
            "e => e.tagName"
        ) == "BUTTON" else None
        assert len(tip.inner_text()) > 20
    assert len(said) > 12


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


def test_the_tour_has_five_steps(page: Page) -> None:
    page.locator("button[name=tour]").click()
    for number in range(1, 6):
        expect(page.locator(".dmf-tour")).to_contain_text(f"{number} of 5")
        expect(page.locator(".dmf-toured")).to_have_count(1)
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


@pytest.mark.parametrize(("size", "theme"), list(itertools.product(SIZES, THEMES)), ids=str)
def test_at_every_size_nothing_overprints_is_cut_or_too_small(
    browser: Browser, exported: Path, size: tuple[int, int], theme: str
) -> None:
    with opened(browser, exported, *size, theme) as page:
        for view in ("", "task=3&query=4&support_class=2&time=0.3", "query=1&overlay=offset+length&plain=true"):
            page.evaluate("view => { location.hash = view; }", view)
            page.wait_for_timeout(100)
            found = page.evaluate(LAYOUT)
            assert not found["wrong"]
            assert found["smallest"] > 10.9  # eleven pixels, but for rounding
            assert found["wide"] <= 0
            if size[1] == 720:
                assert found["tall"] <= 720
        KEPT.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=KEPT / f"page-{size[0]}-{theme}.png", full_page=True)


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
    status = page.locator(".dmf-said")
    expect(status).to_have_attribute("aria-live", "polite")
    for word in ("Row 3, column 2", "of 9 points outside", "Margin"):
        expect(status).to_contain_text(word)


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
