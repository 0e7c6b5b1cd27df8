// Mouse, pen and finger: the position follows them, a group lights up under them, the nine points are dragged.

import { clamp } from "./data.js";
import { BARS, EDGE, cellAt, frame, groupAt, under } from "./geometry.js";

export function listenToPointer(explorer) {
  followPosition(explorer);
  lightGroups(explorer);
  dragPoints(explorer);
  const { scores } = explorer.ui.stage;
  scores.drawing.addEventListener("click", (event) => {
    const found = event.target.closest?.("[data-class]");
    if (found) explorer.put({ support_class: Number(found.dataset.class) });
  });
}

// The cell [row, column] under a pointer, over the query or the score map; null beside them.
function cellUnder({ ui, view }, stage, event) {
  const [x, y] = under(stage.svg, event);
  const f = frame(stage.svg.viewBox.baseVal.width, view.task.size);
  if (Math.min(x, y) < EDGE || Math.max(x, y) > EDGE + f.side) return null;
  if (stage === ui.stage.query) return cellAt(view.b, f.pixel([x, y]));
  return [y, x].map((v, i) => {
    const count = i ? view.b.w : view.b.h;
    const long = i ? f.side : (f.side * view.b.h) / view.b.w;
    return clamp(Math.floor(((v - EDGE) / long) * count), 0, count - 1);
  });
}

// A mouse moves the position until a click locks it; a finger moves it where it touches.
function followPosition(explorer) {
  const { model, ui } = explorer;
  let touched = false;
  for (const stage of [ui.stage.query, ui.stage.map]) {
    stage.drawing.addEventListener("pointermove", (event) => {
      const cell = cellUnder(explorer, stage, event);
      if (cell && (event.pointerType !== "mouse" || !model.get("locked"))) explorer.go(cell);
    });
    stage.drawing.addEventListener("pointerdown", (event) => {
      touched = event.pointerType !== "mouse";
      const cell = touched && cellUnder(explorer, stage, event);
      if (cell) explorer.go(cell);
    });
    stage.drawing.addEventListener("click", (event) => {
      const cell = cellUnder(explorer, stage, event);
      if (!cell || touched) return;
      const other = cell[0] !== model.get("row") || cell[1] !== model.get("column");
      explorer.put({ row: cell[0], column: cell[1], locked: other || !model.get("locked") });
    });
  }
}

function lightGroups(explorer) {
  for (const stage of [explorer.ui.stage.filter, explorer.ui.stage.gain]) {
    const over = (event) => {
      const [x] = under(stage.svg, event);
      if (x >= BARS) explorer.light(groupAt(x, explorer.view.b.groups, stage.svg.viewBox.baseVal.width));
    };
    stage.drawing.addEventListener("pointermove", over);
    stage.drawing.addEventListener("pointerdown", over);
    stage.drawing.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && explorer.light(null));
  }
}

function dragPoints(explorer) {
  const { query, offsets } = explorer.ui.stage;
  let dragged = null;
  offsets.drawing.addEventListener("pointerdown", (event) => {
    const dot = event.target.closest?.(".dot");
    if (!dot) return;
    dragged = explorer.chosen = Number(dot.dataset.tap);
    offsets.drawing.setPointerCapture(event.pointerId);
    event.preventDefault();
    query.drawing.focus({ preventScroll: true });
  });
  offsets.drawing.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    const f = frame(offsets.svg.viewBox.baseVal.width, explorer.view.task.size);
    explorer.move(dragged, f.pixel(f.hold(under(offsets.svg, event))));
  });
  for (const end of ["pointerup", "pointercancel"])
    offsets.drawing.addEventListener(end, () => {
      dragged = null;
    });
}
