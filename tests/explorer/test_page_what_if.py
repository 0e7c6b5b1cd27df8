"""The exported page, opened from a file: what if the filter looked elsewhere?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from labkit.explorer.precompute import points_of, score
from labkit.explorer.widget import Explorer
from tests.helpers.explorer_network import features, network_points, network_scores, truth
from tests.helpers.explorer_page import (
    bars,
    caption,
    more,
    points,
    press,
    scores,
)

pytestmark = pytest.mark.integration


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
    here = caption(page, "map").split(":")[1].split()[0]
    told = page.locator(".dmf-whatif").inner_text().split("map here")[1].split(";")[0].split("→")[1]
    assert float(told.replace("−", "-")) == pytest.approx(float(here.replace("−", "-")), abs=6e-3), "as the map says"
    expect(page.locator("[data-stage=scores] text[data-word=moved]")).to_have_text("unmoved")
    expect(page.locator(".dmf-whatif")).to_contain_text("orange marks: unmoved")
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
    expect(page.locator("button[name=grid]")).to_be_disabled()  # one position's way back is not that of the others
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
    box = page.locator(f".dot[data-tap='{tap}'] rect").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y - 10, steps=4)
    page.mouse.up()
    expect(page.locator(".dmf-whatif")).to_contain_text("this position")
    unit = 40 / (page.eval_on_selector("[data-stage=offsets] svg", "e => e.viewBox.baseVal.width") - 22)
    np.testing.assert_allclose((points(page) - before)[tap], [-10 * unit, 20 * unit], atol=0.2)
