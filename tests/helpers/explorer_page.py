"""An explorer in a browser: what it shows, read from the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

SIZES = ((1440, 900), (1280, 720), (1200, 800), (900, 900), (700, 900), (390, 844), (1800, 1000))
THEMES = ("light", "dark")


# Texts of one drawing that overprint each other or leave it, the smallest size in which one is read, and the page.
LAYOUT = """() => {
  const wrong = [];
  let smallest = 99;
  for (const card of document.querySelectorAll('.dmf-card')) {
    const all = [...card.querySelectorAll('svg text')].filter((t) => !t.classList.contains('number'));
    const boxes = all.map((t) => [t, t.getBoundingClientRect()]);
    const edge = card.getBoundingClientRect();
    for (const [t, b] of boxes) {
      const grown = t.ownerSVGElement.getBoundingClientRect().width / t.ownerSVGElement.viewBox.baseVal.width;
      smallest = Math.min(smallest, parseFloat(getComputedStyle(t).fontSize) * grown);
      if (b.left < edge.left - 1 || b.right > edge.right + 1) wrong.push(`${t.textContent} leaves its card`);
    }
    boxes.forEach(([t, a], i) => boxes.slice(i + 1).forEach(([u, b]) => {
      const over = Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
      if (over) wrong.push(`${t.textContent} | ${u.textContent}`);
    }));
    for (const t of all.filter((t) => t.closest('.class')))
      for (const image of t.closest('.class').querySelectorAll('image')) {
        const [a, b] = [t.getBoundingClientRect(), image.getBoundingClientRect()];
        if (a.right > b.left + 1 && a.left < b.right - 1) wrong.push(`${t.textContent} on a picture`);
      }
    const head = card.querySelector('.dmf-head .dmf-word');
    if (head.getBoundingClientRect().right > edge.right - 4) wrong.push(`${head.textContent} leaves its card`);
    const caption = card.querySelector('.dmf-caption');
    if (caption.scrollWidth > caption.clientWidth + 1) wrong.push(`${caption.textContent} is cut`);
    smallest = Math.min(smallest, parseFloat(getComputedStyle(caption).fontSize));
  }
  const page = document.documentElement;
  return {wrong, smallest, wide: page.scrollWidth - page.clientWidth, tall: page.scrollHeight};
}"""


@contextmanager
def opened(
    browser: Browser,
    file: Path,
    width: int = 1280,
    height: int = 720,
    theme: str = "light",
    view: str = "",
    **more: Any,
) -> Iterator[Page]:
    """An exported page opened from its file; afterwards it must have raised nothing and asked nobody."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,  # type: ignore[arg-type]
        **more,
    )
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri() + (f"#{view}" if view else ""))
    expect(page.locator(".dot")).to_have_count(9)
    yield page
    context.close()
    assert not errors
    assert not [url for url in asked if not url.startswith((file.as_uri(), "data:", "blob:"))]


def points(page: Page) -> NDArray[np.float64]:
    """(y, x) of the drawn points, in image pixels, in the order of their numbers."""
    found = page.eval_on_selector_all(".dot", "d => d.map(e => [e.dataset.tap, e.dataset.y, e.dataset.x].map(Number))")
    return np.array([rest for _, *rest in sorted(found)])


def scores(page: Page) -> list[float]:
    """The scores of the classes, unrounded."""
    found: list[float] = page.eval_on_selector_all(".class", "c => c.map(e => Number(e.dataset.score))")
    return found


def bars(page: Page, stage: str) -> list[float]:
    """What the bars of a stage show, to four digits."""
    selector = f"[data-stage={stage}] .bars"
    found: list[float] = page.eval_on_selector(selector, "e => e.dataset.values.split(' ').map(Number)")
    return found


def point_at_group(page: Page, group: int, stage: str = "filter") -> None:
    """Move the mouse to a group's bar."""
    box = page.locator(f"[data-stage={stage}] svg").bounding_box()
    assert box
    wide = (box["width"] - 36) / len(bars(page, stage))
    page.mouse.move(box["x"] + 34 + (group + 0.5) * wide, box["y"] + 50)


def cells(page: Page) -> list[float]:
    """The values of the large map, to three digits."""
    found: list[float] = page.eval_on_selector(".cells", "e => e.dataset.values.split(' ').map(Number)")
    return found


def caption(page: Page, stage: str) -> str:
    """What stands under a stage."""
    return page.locator(f"[data-stage={stage}] .dmf-caption").inner_text()


def where(page: Page) -> str:
    """The position as a screen reader hears it."""
    return page.locator(".dmf-stage").get_attribute("aria-valuetext") or ""


def press(page: Page, *keys: str) -> None:
    """Keys, one after the other, on the query."""
    page.locator(".dmf-stage").focus()
    for key in keys:
        page.keyboard.press(key)


def more(page: Page) -> None:
    """Unfold what is folded."""
    page.eval_on_selector(".dmf-more", "e => { e.open = true; }")


def place(page: Page, stage: str, row: int, column: int, h: int = 5, w: int = 5) -> tuple[float, float]:
    """Where the middle of a cell of a picture or map is on the page."""
    box = page.locator(f"[data-stage={stage}] svg").bounding_box()
    assert box
    side = box["width"] - 22
    return box["x"] + 11 + side * (column + 0.5) / w, box["y"] + 11 + side * (row + 0.5) / h
