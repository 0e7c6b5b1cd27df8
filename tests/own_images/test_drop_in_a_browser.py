"""The widget of notebook 12 in JupyterLab and a real Chromium: files are dropped on it, and a name is changed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from labkit.common.places import PACKAGE
from tests.helpers.notebooks import write_cells
from tests.helpers.places import ROOT
from tests.helpers.servers import jupyterlab

pytestmark = pytest.mark.integration
PATIENCE = 240_000  # ms; for a machine that does other things too
EXAMPLES = PACKAGE / "own_images" / "examples"
KEPT = ROOT / "runs" / "browser"
FILES = """([files]) => {
  const transfer = new DataTransfer();
  for (const [name, content] of files)
    transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type: "image/png" }));
  return transfer;
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The first screen of notebook 12, run."""
    folder = tmp_path_factory.mktemp("lab")
    write_cells(ROOT / "notebooks" / "12_your_images.ipynb", "yours = begin", folder / "own.ipynb")
    KEPT.mkdir(parents=True, exist_ok=True)
    with jupyterlab(folder) as lab:
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.set_default_timeout(PATIENCE)
        found = context.new_page()
        lab.run(found, "own.ipynb")
        expect(found.locator(".own-answer")).to_have_count(8, timeout=PATIENCE)
        yield found
        context.close()


def drop(page: Page, place: str, files: dict[str, Path]) -> None:
    contents = [[name, base64.b64encode(file.read_bytes()).decode()] for name, file in files.items()]
    transfer = page.evaluate_handle(FILES, [contents])
    page.dispatch_event(f"[data-place={place}]", "dragover", {"dataTransfer": transfer})
    page.dispatch_event(f"[data-place={place}]", "drop", {"dataTransfer": transfer})


def test_files_are_dropped_names_are_changed_and_answers_follow(page: Page) -> None:
    page.locator(".own-images").scroll_into_view_if_needed()
    page.screenshot(path=KEPT / "own_images_start.png")
    star, house = (sorted((EXAMPLES / "support" / name).iterdir())[0] for name in ("star", "house"))
    drop(page, "classes", {"star 1.png": star, "house 1.png": house})
    expect(page.locator(".own-class")).to_have_count(2)
    expect(page.locator(".own-message")).to_contain_text("Now drop")
    expect(page.locator(".own-answer")).to_have_count(0)
    drop(page, "query", {"what is it.png": house, "notes.txt": ROOT / "README.md"})
    expect(page.locator(".own-answer")).to_have_count(1)
    expect(page.locator(".own-answer")).to_contain_text("house")
    expect(page.locator(".own-message")).to_contain_text("Skipped notes.txt")
    answered_by = page.get_by_label("Answered by")
    expect(answered_by).to_have_value("mini-full")  # pictures of one's own are taken for photographs
    answered_by.select_option("quick")
    expect(page.locator(".own-message")).to_contain_text("Skipped notes.txt")
    expect(page.locator(".own-answer")).to_contain_text("house")
    name = page.get_by_label("name of the class house")
    name.fill("hut, b x dd")  # letters that a notebook takes for commands
    name.press("Enter")
    expect(page.locator(".own-answer")).to_contain_text("hut, b x dd")
    expect(page.locator(".jp-Cell")).to_have_count(3)
    page.screenshot(path=KEPT / "own_images_dropped.png")
    page.get_by_label("name of the class star").fill("<img src=x onerror=alert(1)>")
    page.get_by_label("name of the class star").press("Enter")
    expect(page.locator(".own-class input").first).to_have_value("<img src=x onerror=alert(1)>")
    with page.expect_file_chooser() as chooser:
        page.locator("[data-place=query]").press("Enter")
    chooser.value.set_files([star, house])
    expect(page.locator(".own-answer")).to_have_count(2)
    page.get_by_title("leave the class hut, b x dd out").click()
    expect(page.locator(".own-message")).to_contain_text("at least 2 classes")
