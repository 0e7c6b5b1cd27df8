"""The sortable table's script, in a browser, fed with what the widget holds."""

import base64
import json

import pandas as pd
from playwright.sync_api import sync_playwright

from labkit.studies.tables.sortable import SortableTable
from tests.helpers.browser import FLAGS, ensure

PAGE = """<style>%s</style><div id="here"></div><script type="module">
const state = %s, module = await import("data:text/javascript;base64,%s");
module.default.render({ model: { get: (name) => state[name] }, el: document.getElementById("here") });
</script>"""


def test_a_click_on_a_head_sorts_down_then_up_and_leaves_blanks_at_the_end() -> None:
    frame = pd.DataFrame({("PUBLISHED", "a"): [1.0, float("nan"), 10.0], ("MEASURED", "b"): ["x", "y", "z"]})
    frame.index = pd.Index(["one", "none", "ten"], name="name")
    widget = SortableTable(frame)
    state = json.dumps({name: getattr(widget, name) for name in ("heads", "kinds", "rows")})
    script = base64.b64encode(str(widget._esm).encode()).decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=ensure(), args=FLAGS)
        page = browser.new_page()
        page.set_content(PAGE % (widget._css, state, script))
        head = page.get_by_role("button", name="PUBLISHED a")

        def names() -> list[str]:
            return page.locator("tbody td:first-child").all_inner_texts()

        head.wait_for()
        assert names() == ["one", "none", "ten"]
        head.click()
        assert names() == ["ten", "one", "none"]
        head.click()
        assert names() == ["one", "ten", "none"]
        assert page.locator("tbody td.PUBLISHED").all_inner_texts() == ["1", "10", ""]
        browser.close()
