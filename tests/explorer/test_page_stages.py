"""The exported page, opened from a file: what its stages show and say, and their equations."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from labkit.explorer.widget import Explorer
from tests.helpers.explorer_network import features, network_points, network_scores, truth
from tests.helpers.explorer_page import (
    bars,
    caption,
    cells,
    more,
    point_at_group,
    points,
    press,
    scores,
)

pytestmark = pytest.mark.integration


def standings(scores: list[float]) -> np.ndarray[Any, Any]:
    """How far each class is from the mean of the classes, as a share of what lies between the worst and the best."""
    s = np.array(scores)
    return (s - s.mean()) / np.ptp(s)


def percent(value: float) -> str:
    return f"{100 * value:+.0f}\u00a0%"  # no line begins with "%"


def test_margin_and_change_by_alignment_are_told_as_shares_of_the_spread(page: Page, explorer: Explorer) -> None:
    now, bare = (standings(network_scores(explorer, 0, 0, mode, 0)) for mode in (0, None))
    right = truth(explorer)
    margin, before = (float(s[right] - np.delete(s, right).max()) for s in (now, bare))
    told = caption(page, "scores").replace("−", "-")
    assert f"Margin {percent(margin)} of the spread over" in told
    assert f"without alignment {percent(before)}" in told
    changes = [text.replace("−", "-").replace("±", "+") for text in page.locator(".change").all_text_contents()]
    assert changes == [percent(v).replace("-0\u00a0%", "+0\u00a0%") for v in now - bare]
    page.locator(".dmf-caption .dmf-word").hover()
    expect(page.locator(".dmf-tip")).to_contain_text("Alignment makes all scores grow")


def test_what_all_scores_have_in_common_moves_no_bar_and_no_margin(page: Page) -> None:
    module = page.evaluate("document.querySelector('script[type=module]').textContent.split('page_js.start(')[0]")
    found = page.evaluate(
        """module => {
          const {standings, verdict} = new Function(module + 'return data_js')();
          const all = [[5, 4, 1, 1.5], [10, 8, 2, 3], [6, 5, 2, 2.5], [4, 3], [8, 6], [3], [2, 2, 2]];
          return all.map((s) => [standings(s), verdict(s, 0).margin]);
        }""",
        module,
    )
    several, grown, shifted, two, both, one, tied = found
    assert several == grown == shifted
    np.testing.assert_allclose(several[0], standings([5, 4, 1, 1.5]))
    assert several[1] == two[1] == both[1] == 0.25  # of two classes, of the longer score
    assert one == [[0], 0]
    assert tied == [[0, 0, 0], 0]


def test_bars_are_drawn_on_one_scale_that_time_does_not_move(page: Page, explorer: Explorer) -> None:
    read = "b => b.map(e => [e.x.baseVal.value + e.width.baseVal.value / 2, e.width.baseVal.value])"
    found = []
    for key, mode in (("End", 0), ("Home", None)):
        page.locator("input[name=time]").focus()
        page.keyboard.press(key)
        middle, width = np.array(page.eval_on_selector_all("rect.standing", read)).T
        value = standings(network_scores(explorer, 0, 0, mode, 0))
        scale = width / abs(value)
        zero = middle - value / 2 * scale
        found += [*zip(scale, zero, strict=True)]
    np.testing.assert_allclose(found, [found[0]] * len(found), rtol=0.02)


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


def test_no_tip_covers_a_stage_whose_panel_says_the_same(page: Page) -> None:
    tip, head = page.locator(".dmf-tip"), page.locator("button[name=open-gain]")
    head.hover()
    expect(tip).to_be_visible()
    head.click()
    expect(tip).to_be_hidden()
    page.mouse.move(5, 5)
    head.hover()
    expect(tip).to_be_hidden()
    page.locator("button[name=open-filter]").hover()
    expect(tip).to_be_visible()
    head.click()  # closes it
    page.mouse.move(5, 5)
    head.hover()
    expect(tip).to_be_visible()


def test_labels_of_points_on_each_other_are_one(page: Page) -> None:
    labels = page.locator(".dot .number")
    assert sorted(",".join(t for t in labels.all_text_contents() if t.strip()).split(",")) == list("123456789")
    here = points(page)
    near = here[4] - here[2]
    press(page, "3", *["Shift+ArrowDown" if near[0] > 0 else "Shift+ArrowUp"] * round(abs(near[0])))
    press(page, *["Shift+ArrowRight" if near[1] > 0 else "Shift+ArrowLeft"] * round(abs(near[1])))
    assert any({"3", "5"} <= set(t.split(",")) for t in labels.all_text_contents())
    assert sorted(",".join(t for t in labels.all_text_contents() if t.strip()).split(",")) == list("123456789")
    expect(page.locator(".dot")).to_have_count(9)


def test_the_cell_is_outlined_in_light_and_dark(page: Page) -> None:
    for name in ("cell", "here"):
        strokes = page.locator(f"rect.{name}").evaluate_all("r => r.map(e => e.getAttribute('stroke'))")
        assert strokes == ["#111", "#fff", "#009E73"]


def test_score_and_centred_map_agree(page: Page) -> None:
    """The score is the mean of the class's own map; that of the map shown is less the mean of all scores."""
    page.locator("button[name=open-scores]").click()
    text = page.locator(".dmf-panel").inner_text().replace("−", "-")
    found = re.search(r"mean of the centred map is ([+-][\d.]+): this score less the mean of all, (\d+\.\d+)", text)
    assert found
    assert float(found[1]) == pytest.approx(np.mean(cells(page)), abs=6e-3)
    assert float(found[2]) == pytest.approx(np.mean(scores(page)), abs=6e-3)
    more(page)
    page.get_by_text("maps as they are, not centred").hover()
    expect(page.locator(".dmf-tip")).to_contain_text("its mean is the score")
    page.locator("button[name=open-map]").click()
    expect(page.locator(".dmf-panel")).to_contain_text("0.08 is the fixed scale of this network's scores")


def test_every_label_explains_itself_on_hover_and_on_focus(page: Page) -> None:
    more(page)
    page.locator("button[name=open-offsets]").click()  # closed: the panel of an open stage says the same
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


def test_the_explanation_of_a_word_is_bound_to_it_and_escape_closes_it(page: Page) -> None:
    word, tip = page.locator(".dmf-word[data-word=time]"), page.locator(".dmf-tip")
    word.focus()
    expect(tip).to_be_visible()
    expect(word).to_have_accessible_description(tip.inner_text())
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    assert word.get_attribute("aria-describedby") is None
    press(page, "1", "Shift+ArrowUp")
    word.hover()
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    expect(page.locator(".dmf-whatif")).to_be_visible()  # it closes the explanation and nothing else


def test_a_group_that_is_lit_by_keys_is_spoken_and_escape_lets_it_go_before_it_undoes_moves(page: Page) -> None:
    said, lit = page.locator(".dmf-said"), page.locator("[data-stage=filter] .dmf-caption")
    press(page, "1", "Shift+ArrowUp", "]", "]", "]")
    expect(said).to_contain_text(f"Group 3: filter {bars(page, 'filter')[2]:.2f}, gain {bars(page, 'gain')[2]:.2f}.")
    press(page, "Enter")
    expect(said).to_contain_text("Locked.")
    press(page, "Escape")
    expect(lit).to_contain_text("point at one")
    expect(page.locator(".dmf-whatif")).to_be_visible()
    expect(said).not_to_contain_text("Group")
    press(page, "Escape")
    expect(page.locator(".dmf-whatif")).to_be_hidden()
    for button in ("tour", "tour-end"):
        press(page, "]")
        page.locator(f"button[name={button}]").click()
        expect(lit).to_contain_text("point at one" if button == "tour" else "group 1")
    press(page, "]")
    page.locator("select[name=preset]").select_option(index=1)
    expect(lit).to_contain_text("point at one")
