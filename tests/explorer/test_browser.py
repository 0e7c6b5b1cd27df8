"""The explorer in a real browser: JupyterLab and Voila on localhost, headless Chromium, keyboard and mouse.

Screenshots, and the measured response to keys, are kept in ``runs/browser``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

import labkit
from labkit.explorer.precompute import tasks_of
from labkit.explorer.widget import Explorer
from tests.helpers.browser import FLAGS, ensure
from tests.helpers.places import ROOT
from tests.helpers.servers import free_port, server

KEPT = ROOT / "runs" / "browser"
PATIENCE = 120_000  # ms; for a machine that does other things too
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebook without its long cells, with two networks, writing into a folder of its own."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(ROOT / "notebooks" / "08_explorer.ipynb", as_version=4)
    parameters = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source += f'\nweights = ["quick", {str(untrained(folder))!r}]\nruns = {str(folder)!r}\nepisodes = [1, 2]'
    end = next(i for i, c in enumerate(notebook.cells) if c.source.startswith("box ="))
    notebook.cells = notebook.cells[: end + 1]
    for cell in notebook.cells:
        cell["outputs"] = [] if cell.cell_type == "code" else cell.get("outputs")
        if cell.cell_type != "code":
            cell.pop("outputs")
    nbformat.write(notebook, folder / "explorer.ipynb")
    return folder


def untrained(folder: Path) -> Path:
    model = labkit.build_model(labkit.experiment("quick"), 64, 0)
    model.preprocessing = labkit.load_model("quick").preprocessing
    labkit.save_model(model, folder / "untrained.safetensors")
    return folder / "untrained.safetensors"


@pytest.fixture(scope="module")
def expected(folder: Path) -> Explorer:
    """What the widget in the browser must show, computed here."""
    models = {name: labkit.load_model(name) for name in ("quick", folder / "untrained.safetensors")}
    images = labkit.load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    return Explorer({str(k): v for k, v in models.items()}, tasks_of(images, [1, 2], 5, (1, 5)))


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(folder / f"browser-{secrets.token_hex(4)}"),
            executable_path=ensure(),
            headless=True,
            args=FLAGS,
            viewport={"width": 1300, "height": 1000},
        )
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        yield page
        context.close()


def dots(page: Page) -> np.ndarray[Any, Any]:
    """(y, x) of the nine drawn points, in image pixels, as (tap, 2)."""
    found = page.eval_on_selector_all(".dot", "d => d.map(e => [e.dataset.tap, e.dataset.y, e.dataset.x].map(Number))")
    return np.array([rest for _, *rest in sorted(found)])


def scores(page: Page) -> list[float]:
    found: list[float] = page.eval_on_selector_all(".class", "c => c.map(e => Number(e.dataset.score))")
    return found


def of_buffer(explorer: Explorer, t: int, m: int, mode: int, q: int, n: int, i: int, j: int) -> np.ndarray[Any, Any]:
    block = explorer.header["blocks"][t][m]
    shape = (len(explorer.tasks[t].query), len(explorer.tasks[t].names), 9, 2, block["h"], block["w"])
    values = np.frombuffer(explorer.buffer, np.float32, int(np.prod(shape)), block["points"][mode]).reshape(shape)
    return values[q, n, :, :, i, j]


def centre(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the drawing, in its own units, is on the page."""
    box = page.locator(".dmf-stage svg").bounding_box()
    assert box
    return box["x"] + x / 920 * box["width"], box["y"] + y / 510 * box["height"]


@torch.inference_mode()
def test_in_jupyterlab(folder: Path, expected: Explorer) -> None:
    token, port = secrets.token_hex(8), free_port()
    at = f"http://127.0.0.1:{port}"
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    KEPT.mkdir(parents=True, exist_ok=True)
    with server(["jupyterlab", *options], f"{at}/api/status?token={token}", folder), chromium(folder) as page:
        page.goto(f"{at}/lab/tree/explorer.ipynb?reset&token={token}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget")
        page.evaluate(
            "async () => { const c = window.jupyterapp.shell.currentWidget.context; await c.ready;"
            " await c.sessionContext.ready; await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
        )
        stage = page.locator(".dmf-stage")
        expect(page.locator(".dot")).to_have_count(9)
        stage.scroll_into_view_if_needed()

        # The points drawn are those of the network, and the scores too.
        truth = expected.tasks[0].labels[0]  # type: ignore[index]
        where = of_buffer(expected, 0, 0, 0, 0, truth, 2, 2)
        np.testing.assert_allclose(dots(page), where, atol=2e-3)
        circles = page.eval_on_selector_all(".dot circle", "c => c.map(e => [e.cy, e.cx].map(v => v.baseVal.value))")
        seen = ((where + 0.5) * 250 / 40).clip(0, 250) + np.array([26, 278])  # the picture's scale and corner
        np.testing.assert_allclose(circles, seen, atol=0.02)
        model = expected.models["quick"]
        known = expected.features[0, 0]
        computed = model.score(known.x_supp[:, :, None], known.x_q)[0, 0].tolist()
        np.testing.assert_allclose(scores(page), computed, rtol=1e-4)

        # Two sliders of ipywidgets, by keyboard, linked with the drawing.
        sliders = page.locator(".widget-slider [role=slider]")
        expect(sliders).to_have_count(2)
        for number, (key, said) in enumerate((("ArrowRight", "row 3, column 2"), ("ArrowRight", "row 3, column 3"))):
            sliders.nth(number).focus()
            page.keyboard.press(key)
            expect(stage).to_have_attribute("aria-valuetext", said)
        np.testing.assert_allclose(dots(page), of_buffer(expected, 0, 0, 0, 0, truth, 3, 3), atol=2e-3)

        # Arrow keys and hover; a click locks.
        stage.focus()
        page.keyboard.press("ArrowUp")
        expect(stage).to_have_attribute("aria-valuenow", "13")
        page.mouse.move(*centre(page, 2 + 25, 26 + 225))
        expect(stage).to_have_attribute("aria-valuetext", "row 4, column 0")
        expect(page.locator(".widget-readout").first).to_have_text("4")
        page.mouse.click(*centre(page, 2 + 25, 26 + 225))
        expect(page.locator("button[name=lock]")).to_have_attribute("aria-pressed", "true")
        page.mouse.move(*centre(page, 2 + 125, 26 + 125))
        expect(stage).to_have_attribute("aria-valuetext", "row 4, column 0")
        page.mouse.click(*centre(page, 2 + 125, 26 + 125))
        expect(stage).to_have_attribute("aria-valuetext", "row 2, column 2")
        page.locator("button[name=lock]").click()
        expect(page.locator("button[name=lock]")).to_have_attribute("aria-pressed", "false")

        # Class, offsets, overlay, network, episode.
        page.locator(".class").nth(3).click()
        expect(page.locator("select[name=support_class]")).to_have_value("3")
        np.testing.assert_allclose(dots(page), of_buffer(expected, 0, 0, 0, 0, 3, 2, 2), atol=2e-3)
        page.select_option("select[name=mode]", "2")
        np.testing.assert_allclose(dots(page), of_buffer(expected, 0, 0, 2, 0, 3, 2, 2), atol=2e-3)
        page.select_option("select[name=mode]", "0")
        for overlay in ("offset length", "score", "similarity", "filter norm"):
            page.select_option("select[name=overlay]", label=overlay)
            expect(page.locator(".dmf-stage svg")).to_contain_text(overlay)
        page.screenshot(path=KEPT / "overlay.png")
        page.select_option("select[name=overlay]", label="none")
        page.select_option("select[name=checkpoint]", "1")
        np.testing.assert_allclose(dots(page), of_buffer(expected, 0, 1, 0, 0, 3, 2, 2), atol=2e-3)
        page.select_option("select[name=checkpoint]", "0")
        page.select_option("select[name=task]", "3")
        expect(page.locator("select[name=picture] option")).to_have_count(5)
        page.select_option("select[name=task]", "0")

        # Time: at 0 nothing is aligned.
        page.locator("input[name=time]").focus()
        page.keyboard.press("Home")
        expect(page.locator(".dmf-stage svg")).to_contain_text("t = 0.00")
        unaligned = model.variant(alignment="none").score(known.x_supp[:, :, None], known.x_q)[0, 0].tolist()
        np.testing.assert_allclose(scores(page), unaligned, rtol=1e-4)
        page.keyboard.press("End")
        np.testing.assert_allclose(scores(page), computed, rtol=1e-4)

        # What if: the third point, moved by a key, asks the kernel.
        stage.focus()
        page.keyboard.press("3")
        page.keyboard.press("Shift+ArrowLeft")
        page.locator(".what-if").wait_for()
        asked = page.evaluate(KEY_TO_ANSWER)
        steps = 1 + len(asked)
        moved = of_buffer(expected, 0, 0, 0, 0, truth, 2, 2) - [[0, steps * (tap == 2)] for tap in range(9)]
        np.testing.assert_allclose(dots(page), moved, atol=2e-3)
        request = dict.fromkeys(("task", "checkpoint", "query", "mode"), 0) | {"row": 2, "column": 2}
        answer = expected.what_if(request | {"support_class": truth, "points": moved.tolist()})
        expect(page.locator(".what-if")).to_contain_text(f"{answer['score']:.3f} instead of {answer['was']:.3f}")
        page.screenshot(path=KEPT / "jupyterlab.png")
        page.keyboard.press("0")
        expect(page.locator(".dot")).to_have_count(8)
        page.keyboard.press("Escape")
        expect(page.locator(".what-if")).to_have_count(0)

        # Or dragged: the eighth point, to 20 units of the drawing to the right and 30 up.
        grip = np.array(
            page.eval_on_selector(".dot[data-tap='7'] circle", "e => [e.cx, e.cy].map(v => v.baseVal.value)")
        )
        page.mouse.move(*centre(page, *grip))
        page.mouse.down()
        page.mouse.move(*centre(page, *(grip + np.array([20, -30]))), steps=4)
        page.mouse.up()
        page.locator(".what-if").wait_for()
        expect(page.locator(".dmf-said")).to_contain_text("With the moved points")
        dragged = of_buffer(expected, 0, 0, 0, 0, truth, 2, 2) + [
            [-4.8 * (tap == 7), 3.2 * (tap == 7)] for tap in range(9)
        ]
        np.testing.assert_allclose(dots(page), dragged, atol=0.1)
        page.locator("button[name=reset]").click()
        expect(page.locator(".what-if")).to_have_count(0)

        # Export.
        page.locator("button[name=export]").click()
        expect(page.locator(".dmf-said")).to_contain_text("Written: figures/explorer-")
        (svg,) = (folder / "figures").glob("explorer-*.svg")
        assert Image.open(svg.with_suffix(".png")).size == (1840, 1020)
        assert svg.read_text().startswith("<svg")
        assert json.loads(svg.with_suffix(".json").read_text())["how"]["checkpoint"] == "quick"

        # Without a kernel it still answers: all of the above but what-if and export is drawn from the buffer.
        (kernel,) = json.load(urllib.request.urlopen(f"{at}/api/kernels?token={token}"))
        page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
        deadline = time.monotonic() + 60
        while json.load(urllib.request.urlopen(f"{at}/api/kernels?token={token}")):
            assert time.monotonic() < deadline, f"kernel {kernel['id']} is still there"
            time.sleep(0.2)
        stage.focus()
        page.keyboard.press("ArrowDown")
        expect(stage).to_have_attribute("aria-valuetext", "row 3, column 2")
        expect(page.locator(".widget-readout").first).to_have_text("3")
        np.testing.assert_allclose(dots(page), of_buffer(expected, 0, 0, 0, 0, truth, 3, 2), atol=2e-3)
        drawn, painted = zip(*page.evaluate(KEY_TO_PICTURE), strict=True)
        found = {
            "key to drawing, ms": drawn,
            "key to the frame after it is painted, ms": painted,
            "key to the answer of what-if, ms": asked,
        }
        medians = {f"{name}, median of {len(of)}": round(statistics.median(of), 1) for name, of in found.items()}
        (KEPT / "response.json").write_text(json.dumps(medians, indent=1))
        print(medians)

        # In the dark.
        page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
        page.wait_for_timeout(500)
        shade = page.eval_on_selector(".dmf-stage .title", "e => getComputedStyle(e).fill.match(/\\d+/g).map(Number)")
        assert min(shade[:3]) > 150, f"text is {shade} on a dark page"
        page.screenshot(path=KEPT / "dark.png")

        # Somebody else's notebook, as it was saved and not trusted: a picture of the first view.
        shutil.copy(ROOT / "notebooks" / "08_explorer.ipynb", folder / "saved.ipynb")
        page.goto(f"{at}/lab/tree/saved.ipynb?reset&token={token}")
        picture = page.locator(".jp-OutputArea-output img").first
        expect(picture).to_be_visible()
        assert picture.evaluate("e => e.naturalWidth") > 500
        expect(page.locator(".dmf-stage")).to_have_count(0)


# From a key's event to the drawing that shows its effect, and to the moment after the frame that holds it was painted.
KEY_TO_PICTURE = """async () => {
  const stage = document.querySelector('.dmf-stage'), times = [];
  for (let i = 0; i < 15; i++) {
    const before = stage.getAttribute('aria-valuenow'), began = performance.now();
    stage.dispatchEvent(new KeyboardEvent('keydown', {key: i % 2 ? 'ArrowLeft' : 'ArrowRight', bubbles: true}));
    const drawn = performance.now() - began;
    if (stage.getAttribute('aria-valuenow') === before) throw new Error('the key was not answered at once');
    await new Promise(r => requestAnimationFrame(() => setTimeout(r, 0)));
    times.push([drawn, performance.now() - began]);
    await new Promise(r => setTimeout(r, 30 + 7 * i));
  }
  return times;
}"""

# From a key's event that moves the chosen point to the drawing of the kernel's answer to it.
KEY_TO_ANSWER = """async () => {
  const stage = document.querySelector('.dmf-stage'), times = [];
  const serial = () => { const shown = stage.querySelector('.what-if'); return shown && shown.dataset.serial; };
  for (let i = 0; i < 15; i++) {
    const before = serial(), began = performance.now();
    stage.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', shiftKey: true, bubbles: true}));
    while (serial() === before) {
      if (performance.now() - began > 60000) throw new Error('no answer');
      await new Promise(r => setTimeout(r, 1));
    }
    times.push(performance.now() - began);
    await new Promise(r => setTimeout(r, 50));
  }
  return times;
}"""


def test_in_voila(folder: Path) -> None:
    token, port = secrets.token_hex(8), free_port()
    at = f"http://127.0.0.1:{port}"
    options = ["--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1", f"--token={token}"]
    command = ["voila", str(folder / "explorer.ipynb"), *options]
    with server(command, f"{at}/voila/static/favicon.ico?token={token}", folder), chromium(folder) as page:
        page.goto(f"{at}/?token={token}")
        expect(page.locator(".dot")).to_have_count(9)
        assert page.locator(".jp-CodeMirrorEditor, .jp-InputArea-editor").count() == 0  # no code is shown
        page.locator(".dmf-stage").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".dmf-stage")).to_have_attribute("aria-valuetext", "row 2, column 3")
        page.screenshot(path=KEPT / "voila.png")
