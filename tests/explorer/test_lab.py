"""The widget in JupyterLab, on localhost: what the exported page cannot show. Kernel alive and dead."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import labkit
from labkit.explorer.widget import Explorer
from tests.helpers.explorer_page import LAYOUT, caption, more, points, press, scores, where
from tests.helpers.places import ROOT
from tests.helpers.servers import free_port, server

pytestmark = pytest.mark.integration
PATIENCE = 120_000  # ms; for a machine that does other things too
KEPT = ROOT / "runs" / "browser"


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, its token, and its folder, with ``explorer.ipynb``."""

    at: str
    token: str
    folder: Path

    def kernels(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.load(urllib.request.urlopen(f"{self.at}/api/kernels?token={self.token}"))
        return found

    def stop_kernels(self) -> None:
        """So that a notebook that is opened next begins with a new one."""
        for kernel in self.kernels():
            address = f"{self.at}/api/kernels/{kernel['id']}?token={self.token}"
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, untrained: labkit.DMF) -> Iterator[Lab]:
    """The notebook without its long cells, with two networks, writing into a folder of its own."""
    folder = tmp_path_factory.mktemp("lab")
    labkit.save_model(untrained, folder / "untrained.safetensors")
    notebook = nbformat.read(ROOT / "notebooks" / "08_explorer.ipynb", as_version=4)
    parameters = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    weights = ["quick", str(folder / "untrained.safetensors")]
    parameters.source += f"\nweights = {weights!r}\nruns = {str(folder)!r}\nepisodes = [1, 2]\nsearch = 0"
    end = next(i for i, c in enumerate(notebook.cells) if "box =" in c.source)
    notebook.cells = notebook.cells[: end + 1]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"] = []
    nbformat.write(notebook, folder / "explorer.ipynb")
    shutil.copy(ROOT / "notebooks" / "08_explorer.ipynb", folder / "saved.ipynb")
    token, port = secrets.token_hex(8), free_port()
    at = f"http://127.0.0.1:{port}"
    options = [
        *("--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    KEPT.mkdir(parents=True, exist_ok=True)
    with server(["jupyterlab", *options], f"{at}/api/status?token={token}", folder):
        yield Lab(at, token, folder)


@pytest.fixture
def notebook(browser: Browser, lab: Lab) -> Iterator[Page]:
    """The notebook, run from the start in a new kernel."""
    lab.stop_kernels()
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{lab.at}/lab/tree/explorer.ipynb?reset&token={lab.token}")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget")
    page.evaluate(  # not waited for: a promise of JupyterLab's that is never kept must not hold up the tests
        "() => { const c = window.jupyterapp.shell.currentWidget.context; c.ready.then(() => c.sessionContext.ready)"
        ".then(() => window.jupyterapp.commands.execute('notebook:run-all-cells')); }"
    )
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
    for number, said in enumerate(("row 3, column 2", "row 3, column 3")):
        sliders.nth(number).focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", said)
    page.locator("input[name=time]").focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator("input[name=time]").input_value() == "0.99"
    press(page, "ArrowUp", "ArrowLeft", "Enter", "Enter")
    expect(page.locator(".widget-readout").first).to_have_text("2")
    page.locator("button[name=play]").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".jp-Cell:visible").count() == cells  # ArrowLeft folds what follows a heading
    assert (
        page.locator(".jp-MarkdownHeadingCollapsed, .jp-mod-collapsed, .jp-showHiddenCellsButton:visible").count() == 0
    )

    # Python writes what the browser drew, and the page.
    more(page)
    page.locator("button[name=export]").click()
    expect(page.locator(".dmf-said")).to_contain_text("Written: figures/explorer-", timeout=PATIENCE)
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


def test_without_a_kernel_it_answers_and_says_what_it_cannot(notebook: Page, lab: Lab) -> None:
    page = notebook
    page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
    deadline = time.monotonic() + 60
    while lab.kernels():
        assert time.monotonic() < deadline, "the kernel is still there"
        time.sleep(0.2)
    before = points(page)
    press(page, "ArrowDown")
    assert where(page) == "row 3, column 2"
    assert (points(page) != before).any()
    press(page, "3", "Shift+ArrowLeft")
    expect(page.locator(".dmf-whatif")).to_contain_text("margin")
    more(page)
    page.locator("button[name=page]").click()
    expect(page.locator(".dmf-said")).to_contain_text("the kernel is not running")
    with page.expect_download():
        page.locator("button[name=export]").click()
        expect(page.locator(".dmf-said")).to_contain_text("the kernel is not running")
    expect(page.locator(".dmf-said")).to_contain_text("downloaded by the browser")
    assert caption(page, "scores")


def test_a_notebook_that_is_not_trusted_shows_a_picture(browser: Browser, lab: Lab) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{lab.at}/lab/tree/saved.ipynb?reset&token={lab.token}")
    picture = page.locator(".jp-OutputArea-output img").first
    expect(picture).to_be_visible(timeout=PATIENCE)
    assert picture.evaluate("e => e.naturalWidth") > 500
    expect(page.locator(".dmf-stage")).to_have_count(0)
    page.close()
