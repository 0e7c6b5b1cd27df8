"""The widget in JupyterLab, on localhost: what the exported page cannot show. Kernel alive and dead."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import labkit
from labkit.explorer.widget import Explorer
from tests.helpers.explorer_page import LAYOUT, caption, more, points, press, scores, where
from tests.helpers.notebooks import write_cells
from tests.helpers.places import ROOT
from tests.helpers.servers import Lab, jupyterlab

pytestmark = pytest.mark.integration
PATIENCE = 120_000  # ms; for a machine that does other things too
KEPT = ROOT / "runs" / "browser"
NOTEBOOK = ROOT / "notebooks" / "08_explorer.ipynb"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, untrained: labkit.DMF) -> Iterator[Lab]:
    """JupyterLab with ``explorer.ipynb``, which is notebook 8 without its long cells and with two networks."""
    folder = tmp_path_factory.mktemp("lab")
    labkit.save_model(untrained, folder / "untrained.safetensors")
    weights = ["quick", str(folder / "untrained.safetensors")]
    own = f"\nweights = {weights!r}\nruns = {str(folder)!r}\nepisodes = [1, 2]\nsearch = 0"
    write_cells(NOTEBOOK, "box =", folder / "explorer.ipynb", own)
    KEPT.mkdir(parents=True, exist_ok=True)
    with jupyterlab(folder) as running:
        yield running


@pytest.fixture
def notebook(browser: Browser, lab: Lab) -> Iterator[Page]:
    """The notebook, run from the start in a new kernel."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    lab.run(page, "explorer.ipynb")
    expect(page.locator(".dot")).to_have_count(9, timeout=PATIENCE)
    page.locator(".dmf-explorer").scroll_into_view_if_needed()
    yield page
    context.close()


@torch.inference_mode()
def test_it_shows_the_network_linked_with_two_sliders_and_no_key_folds_the_notebook(
    notebook: Page, lab: Lab, explorer: Explorer
) -> None:
    page = notebook
    model, known = explorer.models["quick"], explorer.features[0, 0]
    expected = model.score(known.x_supp[:, :, None], known.x_q)[0, 0].tolist()
    np.testing.assert_allclose(scores(page), expected, rtol=1e-4)
    page.screenshot(path=KEPT / "jupyterlab.png")
    box = page.locator(".dmf-explorer").bounding_box()
    assert box
    assert box["width"] > 800  # of the cell's output
    assert box["height"] < 1.5 * box["width"]
    layout = page.evaluate(LAYOUT)
    assert not layout["wrong"]
    assert layout["smallest"] > 10.9

    cells = page.locator(".jp-Cell:visible").count()
    sliders = page.locator(".widget-slider [role=slider]")
    expect(sliders).to_have_count(2)
    for name in ("row", "column"):
        slider = page.get_by_role("slider", name=f"{name} of the position")
        expect(slider).to_have_attribute("aria-valuetext", f"{name} 3 of 5")
    for number, said in enumerate(("row 4, column 3", "row 4, column 4")):
        sliders.nth(number).focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", said)
        expect(sliders.nth(number)).to_have_attribute("aria-valuetext", f"{('row', 'column')[number]} 4 of 5")
    page.locator("input[name=time]").focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator("input[name=time]").input_value() == "0.99"
    press(page, "ArrowUp", "ArrowLeft", "Enter", "Enter")
    expect(sliders.first).to_have_attribute("aria-valuenow", "2.0")
    page.locator("button[name=play]").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".jp-Cell:visible").count() == cells  # ArrowLeft folds what follows a heading
    assert (
        page.locator(".jp-MarkdownHeadingCollapsed, .jp-mod-collapsed, .jp-showHiddenCellsButton:visible").count() == 0
    )

    # Python writes what the browser drew, and the page.
    more(page)
    page.locator("button[name=export]").click()
    expect(page.locator(".dmf-said")).to_contain_text(f"Written: {lab.folder}/figures/explorer-", timeout=PATIENCE)
    (svg,) = (lab.folder / "figures").glob("explorer-*.svg")
    assert Image.open(svg.with_suffix(".png")).size[0] > 2000
    how = json.loads(svg.with_suffix(".json").read_text())["how"]
    assert (how["checkpoint"], how["row"], how["column"]) == ("quick", 2, 2)
    page.locator("button[name=page]").click()
    expect(page.locator(".dmf-said")).to_contain_text(".html", timeout=PATIENCE)
    (written,) = (lab.folder / "figures").glob("explorer-*.html")
    assert written.stat().st_size < 5_000_000

    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
    page.wait_for_timeout(500)
    ink = page.eval_on_selector(".dmf-caption", "e => getComputedStyle(e).color.match(/[\\d.]+/g).map(Number)")
    assert min(ink[:3]) > 150, f"text is {ink} on a dark page"
    assert not page.evaluate(LAYOUT)["wrong"]
    page.screenshot(path=KEPT / "jupyterlab-dark.png")


def test_the_tour_is_in_the_window_of_the_notebook(notebook: Page) -> None:
    page = notebook
    page.locator("button[name=tour]").click()
    for number in range(5):
        page.wait_for_timeout(300)
        window = page.locator(".jp-WindowedPanel-outer").first.bounding_box()
        assert window
        for part in (".dmf-tour", ".dmf-toured"):
            box = page.locator(part).first.bounding_box()
            assert box
            assert window["y"] <= box["y"]
            assert box["y"] + box["height"] <= window["y"] + window["height"] + 1
        if number in (0, 4):
            page.screenshot(path=KEPT / f"jupyterlab-tour-{number + 1}.png")
        page.locator("button[name=tour-next]").click()


def test_without_a_kernel_it_answers_and_says_what_it_cannot(notebook: Page, lab: Lab) -> None:
    page = notebook
    more(page)
    for gone in ("session.kernel.restart", "shutdown"):
        page.evaluate(f"window.jupyterapp.shell.currentWidget.context.sessionContext.{gone}()")
        press(page, "ArrowLeft", "ArrowRight")
        expect(page.locator(".dmf-said")).not_to_contain_text("Python")
        page.locator("button[name=page]").click()
        expect(page.locator(".dmf-said")).to_contain_text("No answer from Python: run this cell again.")
    deadline = time.monotonic() + 60
    while lab.kernels():
        assert time.monotonic() < deadline, "the kernel is still there"
        time.sleep(0.2)
    before = points(page)
    press(page, "ArrowDown")
    assert where(page) == "row 4, column 3"
    assert (points(page) != before).any()
    press(page, "3", "Shift+ArrowLeft")
    expect(page.locator(".dmf-whatif")).to_contain_text("margin")
    more(page)
    page.locator("button[name=page]").click()
    expect(page.locator(".dmf-said")).to_contain_text("No answer from Python: run this cell again.")
    with page.expect_download():
        page.locator("button[name=export]").click()
        expect(page.locator(".dmf-said")).to_contain_text("No answer from Python: run this cell again.")
    expect(page.locator(".dmf-said")).to_contain_text("downloaded by the browser")
    assert caption(page, "scores")


def saved(lab: Lab, page: Page, name: str) -> None:
    """Save the notebook that is shown, and a copy that nobody trusts; then its kernel ends."""
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    deadline = time.monotonic() + 60
    while "dmf-no-error" not in (text := (lab.folder / "explorer.ipynb").read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, "the notebook was not saved"
        time.sleep(0.2)
    (lab.folder / name).write_text(text.replace("dmf-no-error", "dmf-no-error copied"), encoding="utf-8")
    lab.stop_kernels()


def seen(page: Page) -> tuple[int, str]:
    """How many pictures the explorer's cell shows, and its text."""
    area = page.locator(".jp-OutputArea:has(.jp-RenderedImage)").last
    expect(area.locator("img:visible")).to_have_count(1, timeout=PATIENCE)
    area.scroll_into_view_if_needed()
    page.wait_for_timeout(4000)  # in which JupyterLab finds out that the widget is gone
    return area.locator("img:visible").count(), area.inner_text()


def test_a_picture_stands_for_the_widget_where_it_is_gone_and_nowhere_else(notebook: Page, lab: Lab) -> None:
    page = notebook
    assert page.locator(".jp-OutputArea img:visible:not(.dmf-explorer img)").count() == 0, "beside the live one"
    saved(lab, page, "not_trusted.ipynb")
    lab.show(page, "explorer.ipynb")  # trusted: it was run here
    shown, text = seen(page)
    page.screenshot(path=KEPT / "jupyterlab-reopened.png")
    assert (shown, text.strip()) == (1, "")
    expect(page.get_by_text("Error displaying widget")).to_be_hidden()
    expect(page.get_by_text("Error displaying widget")).to_have_count(1)  # JupyterLab did say it
    trusted = "[...window.jupyterapp.shell.currentWidget.content.model.cells].map((c) => c.trusted)"
    assert all(page.evaluate(trusted)[1:])
    lab.show(page, "not_trusted.ipynb")
    shown, text = seen(page)
    page.screenshot(path=KEPT / "jupyterlab-not-trusted.png")
    assert (shown, text.strip()) == (1, "")
    assert not any(page.evaluate(trusted)[1:])
    expect(page.locator(".dmf-stage")).to_have_count(0)
