"""A table that is sorted by a click on a column's head, in the browser, without a kernel."""

from __future__ import annotations

from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

_SCRIPT = """
export default { render({ model, el }) {
  const table = document.createElement("table"), heads = model.get("heads"), rows = model.get("rows").slice();
  let by = -1, down = false;
  const bigger = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  const shown = (v) => v === null ? "" : typeof v === "number" ? String(+v.toPrecision(Math.abs(v) >= 1e4 ? 9 : 4)) : v;
  function draw() {
    table.replaceChildren();
    const line = table.createTHead().insertRow();
    heads.forEach((head, i) => {
      const th = document.createElement("th"), button = document.createElement("button");
      button.textContent = head + (i === by ? (down ? " ▼" : " ▲") : "");
      button.onclick = () => { down = i === by ? !down : true; by = i; sort(); draw(); };
      th.setAttribute("aria-sort", i === by ? (down ? "descending" : "ascending") : "none");
      th.append(button); line.append(th);
    });
    const body = table.createTBody();
    for (const row of rows) {
      const tr = body.insertRow();
      row.forEach((v, i) => {
        const td = tr.insertCell();
        td.textContent = shown(v); td.className = model.get("kinds")[i] + (typeof v === "number" ? " number" : "");
      });
    }
  }
  function sort() {  // what is missing stays at the end either way
    rows.sort((a, b) => (a[by] === null) - (b[by] === null) || (down ? -1 : 1) * bigger(a[by], b[by]));
  }
  table.className = "labkit-sortable"; draw(); el.append(table);
} };
"""
_STYLE = """
.labkit-sortable { border-collapse: collapse; font-size: 12px; }
.labkit-sortable button { border: 0; background: none; font: inherit; font-weight: bold; cursor: pointer; }
.labkit-sortable th { vertical-align: bottom; max-width: 10em; padding: 0 4px; }
.labkit-sortable td { padding: 1px 6px; white-space: nowrap; }
.labkit-sortable td.number { text-align: right; font-variant-numeric: tabular-nums; }
.labkit-sortable td.PUBLISHED { color: #777; font-style: italic; background: #f4f4f4; }
.labkit-sortable td.MEASURED { color: #00496f; background: #eaf4fb; }
"""


class SortableTable(anywidget.AnyWidget):
    """A data frame whose column groups, where it has some, are told apart by colour: ``PUBLISHED`` and ``MEASURED``.

    Args:
        frame: index and columns are shown; columns may have two levels.
    """

    _esm, _css = _SCRIPT, _STYLE
    heads: traitlets.List[Any] = traitlets.List().tag(sync=True)
    kinds: traitlets.List[Any] = traitlets.List().tag(sync=True)
    rows: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(self, frame: pd.DataFrame) -> None:
        flat = frame.reset_index()
        names = [tuple(map(str, c)) if isinstance(c, tuple) else (str(c),) for c in flat]
        kinds = [name[0].split(",")[0] if len(name) > 1 and name[1] else "index" for name in names]
        heads = [
            " ".join([kind, name[-1]]) if kind != "index" else name[0] for kind, name in zip(kinds, names, strict=True)
        ]
        rows = [[None if isinstance(v, float) and np.isnan(v) else _plain(v) for v in r] for r in flat.to_numpy(object)]
        super().__init__(heads=heads, kinds=kinds, rows=rows)

    def __repr__(self) -> str:
        return f"SortableTable({len(self.rows)} rows, {len(self.heads)} columns)"


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
