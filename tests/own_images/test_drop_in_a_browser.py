"""The widget of notebook 12 in JupyterLab and a real Chromium, by mouse and by keyboard; kernel alive and dead."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from labkit.common.places import PACKAGE
from tests.helpers.notebooks import write_cells
from tests.helpers.places import ROOT
from tests.helpers.servers import Lab, jupyterlab

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
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab with the first screen of notebook 12."""
    folder = tmp_path_factory.mktemp("lab")
    write_cells(ROOT / "notebooks" / "12_your_images.ipynb", "yours = begin", folder / "own.ipynb")
    KEPT.mkdir(parents=True, exist_ok=True)
    with jupyterlab(folder) as running:
        yield running


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    """The notebook, run from the start in a new kernel."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    context.set_default_timeout(PATIENCE)
    found = context.new_page()
    lab.run(found, "own.ipynb")
    expect(found.locator(".own-answer")).to_have_count(8, timeout=PATIENCE)
    found.locator(".own-images").scroll_into_view_if_needed()
    yield found
    context.close()


def drop(page: Page, place: str, files: dict[str, Path]) -> None:
    contents = [[name, base64.b64encode(file.read_bytes()).decode()] for name, file in files.items()]
    transfer = page.evaluate_handle(FILES, [contents])
    page.dispatch_event(f"[data-place={place}]", "dragover", {"dataTransfer": transfer})
    page.dispatch_event(f"[data-place={place}]", "drop", {"dataTransfer": transfer})


def test_files_are_dropped_names_are_changed_and_answers_follow(page: Page) -> None:
    assert page.locator(".jp-OutputArea img:visible:not(.own-images img)").count() == 0, "beside the live one"
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
    before = page.locator(".own-answer").inner_text()
    answered_by.select_option("quick")
    expect(page.locator(".own-answer")).not_to_have_text(before, use_inner_text=True)
    expect(page.locator(".own-message")).to_contain_text("Skipped notes.txt")
    expect(answered_by).to_have_value("quick")
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
    expect(page.locator(".own-message")).to_contain_text("Two classes are needed; there is only")


def focused(page: Page) -> str:
    """The name of what has the keyboard."""
    return page.evaluate("document.activeElement.getAttribute('aria-label')") or ""


def test_the_keyboard_stays_where_it_was_and_no_letter_reaches_the_notebook(page: Page) -> None:
    cells = page.locator(".jp-Cell").count()
    page.get_by_role("button", name="leave the class arrow out").focus()
    for key in "abdd":
        page.keyboard.press(key)
    assert page.locator(".jp-Cell").count() == cells
    page.keyboard.press("Enter")
    expect(page.locator(".own-class")).to_have_count(4)
    assert focused(page) == "leave the class fish out"
    # A name is half typed when an answer arrives, and is whole afterwards.
    star, house = (sorted((EXAMPLES / "support" / name).iterdir())[0] for name in ("star", "house"))
    name = page.get_by_label("name of the class fish")
    name.fill("")
    name.press_sequentially("sal")
    drop(page, "query", {"what is it.png": house})
    expect(page.locator(".own-answer")).to_have_count(1)
    expect(page.locator(".own-message")).to_contain_text("The classes are still examples: drop yours.")
    assert focused(page) == "name of the class fish"
    page.keyboard.type("mon")
    expect(name).to_have_value("salmon")
    page.keyboard.press("Enter")
    expect(page.get_by_label("name of the class salmon")).to_be_focused()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    expect(page.locator(".own-message")).to_contain_text("salmon keeps its name: a class needs a name.")
    expect(page.get_by_label("name of the class salmon")).to_have_value("salmon")
    # The pictures to classify were there first, and are answered as soon as there are classes.
    drop(page, "classes", {"star 1.png": star, "house 1.png": house})
    expect(page.locator(".own-class")).to_have_count(2)
    expect(page.locator(".own-answer")).to_contain_text("house")
    for _ in range(2):
        page.get_by_role("button", name="leave the class").last.press("Enter")
        expect(page.locator(".own-message")).to_contain_text("Two classes are needed")
    assert focused(page).startswith("1. Your classes")


def test_without_a_kernel_it_says_so_at_once_and_a_picture_stands_for_it_later(page: Page, lab: Lab) -> None:
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    deadline = time.monotonic() + 60
    while "dmf-no-error" not in (lab.folder / "own.ipynb").read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, "the notebook was not saved"
        time.sleep(0.2)
    page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
    while lab.kernels():
        assert time.monotonic() < deadline, "the kernel is still there"
        time.sleep(0.2)
    message, name = page.locator(".own-message"), page.get_by_label("name of the class fish")
    star = sorted((EXAMPLES / "support" / "star").iterdir())[0]
    for ask in (
        lambda: page.get_by_role("button", name="leave the class fish out").click(),
        lambda: page.get_by_label("Answered by").select_option("mini-full"),
        lambda: drop(page, "query", {"a.png": star}),
    ):
        ask()
        expect(message).to_have_text("Python is gone: run this cell again.", timeout=5000)
        page.evaluate("document.querySelector('.own-message').textContent = ''")
    expect(page.get_by_label("Answered by")).to_have_value("quick")
    name.fill("salmon")
    name.press("Enter")
    expect(message).to_have_text("Python is gone: run this cell again.", timeout=5000)
    expect(name).to_have_value("fish")
    lab.show(page, "own.ipynb")
    area = page.locator(".jp-OutputArea:has(.jp-RenderedImage)").last
    expect(area.locator("img:visible")).to_have_count(1)
    expect(page.get_by_text("Error displaying widget")).to_have_count(1)  # JupyterLab did say it
    expect(page.get_by_text("Error displaying widget")).to_be_hidden()
    page.screenshot(path=KEPT / "own_images_reopened.png")
