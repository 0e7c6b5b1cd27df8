// The controls: what they show of a state, and how they change it.

import { fixed } from "./drawing.js";
import { noted, options, told } from "./elements.js";
import { CHOICES } from "./layout.js";
import { closeTour } from "./tour.js";
import { OVERLAYS, restored, written } from "./views.js";
import { STAGES } from "./words.js";

// Bring the controls of an explorer to the state that is drawn.
export function showControls(explorer, s) {
  const { alone, model, ui, view } = explorer;
  showChoices(explorer, s);
  showPreset(explorer);
  const { b, row, column } = view;
  showSliders(explorer);
  ui.time.value = s.time;
  told(ui.timeText, `t = ${fixed(s.time)}`);
  noted(ui.lock, "aria-pressed", s.locked);
  ui.everywhere.checked = s.everywhere;
  ui.grid.disabled = s.everywhere;
  noted(ui.grid, "title", s.everywhere ? "each position has its own way back: untick 'what if for all positions'" : "");
  ui.plain.checked = s.plain;
  ui.plain.disabled = view.N === 1;
  if (document.activeElement !== ui.view) ui.view.value = written(model);
  if (alone) model.remember(written(model));
  const position = ui.stage.query.drawing;
  noted(position, "aria-valuemax", b.h * b.w - 1);
  noted(position, "aria-valuenow", view.cell);
  noted(position, "aria-valuetext", `row ${row + 1}, column ${column + 1}`);
}

// The sliders of the position: the page's own, or those that ipywidgets puts above the explorer, which have no name
// and count from 0.
function showSliders({ el, ui, view: { b, row, column } }) {
  const above = el.closest(".widget-vbox")?.querySelectorAll(".widget-slider [role=slider]") ?? [];
  ui.row.max = b.h - 1;
  ui.column.max = b.w - 1;
  [ui.row.value, ui.column.value] = [row, column];
  for (const [name, at, count, sliders] of [
    ["row", row, b.h, [ui.row, above[0]]],
    ["column", column, b.w, [ui.column, above[1]]],
  ])
    for (const slider of sliders.filter(Boolean)) {
      noted(slider, "aria-label", `${name} of the position`);
      noted(slider, "aria-valuetext", `${name} ${at + 1} of ${count}`);
    }
}

function showChoices({ store: { header }, ui: { select }, view }, s) {
  const { task, n, q } = view;
  const numbers = (count, text) => Array.from({ length: count }, (_, i) => text(i));
  const titles = header.tasks.map((t) => t.title);
  const called = (i) => (task.labels ? task.names[task.labels[i]] : task.files?.[i]);
  const query = (i) => `${i + 1}${called(i) ? `: ${called(i)}` : ""}`;
  const picture = (i) => `${i + 1} of ${task.shots[n]}`;
  options(select.checkpoint, header.checkpoints, s.checkpoint);
  options(select.mode, header.modes, view.mode);
  options(select.task, titles, s.task);
  options(select.query, numbers(task.queries, query), q);
  options(select.support_class, task.names, n);
  options(select.picture, numbers(task.shots[n], picture), view.shot(n));
  options(select.overlay, OVERLAYS, OVERLAYS.indexOf(s.overlay));
}

// A preset is named while its view is looked at: what its sentence says is of that cell, class, query and points.
// Free are the time and what the sentence itself asks to change.
function showPreset(explorer) {
  const { model, store, ui, view } = explorer;
  const presets = store.header.presets || [];
  const same = ({ state: wanted, free = [] }) =>
    !view.moves &&
    Object.entries({ mode: 0, ...wanted }).every(
      ([name, value]) => name === "time" || free.includes(name) || model.get(name) === value,
    );
  const shown = presets[explorer.preset];
  if (!shown || !same(shown)) explorer.preset = presets.findIndex(same);
  ui.preset.value = explorer.preset < 0 ? "" : explorer.preset;
  told(ui.why, presets[explorer.preset]?.why ?? "");
}

// Let the controls of an explorer change it.
export function listenToControls(explorer) {
  const { alone, model, ui } = explorer;
  const put = (changes) => explorer.put(changes);
  for (const name of CHOICES) ui.select[name].addEventListener("change", () => choose(explorer, name));
  for (const name of ["row", "column", "time"])
    ui[name].addEventListener("input", () => put({ [name]: Number(ui[name].value) }));
  for (const name of ["everywhere", "plain"])
    ui[name].addEventListener("change", () => put({ [name]: ui[name].checked }));
  ui.lock.addEventListener("click", () => put({ locked: !model.get("locked") }));
  ui.preset.addEventListener("change", () => {
    const chosen = (explorer.store.header.presets || [])[ui.preset.value];
    explorer.preset = chosen ? Number(ui.preset.value) : -1;
    explorer.light(null);
    if (chosen) put({ mode: 0, picture: 0, moves: {}, everywhere: false, locked: true, ...chosen.state });
  });
  const nine = (by) => Object.fromEntries(Array.from({ length: 9 }, (_, tap) => [tap, by(tap)]));
  ui.away.addEventListener("click", () => put({ moves: nine(() => null) }));
  ui.grid.addEventListener("click", () => {
    const { view } = explorer;
    const at = view.learned(view.n, view.cell);
    put({ moves: nine((tap) => view.ghost(tap).map((v, i) => v - at[tap][i])) });
  });
  ui.reset.addEventListener("click", () => put({ moves: {} }));
  ui.view.addEventListener("change", () => {
    try {
      explorer.tell(""); // a view that is shown already changes nothing, and an older message with it
      put(restored(ui.view.value, model));
    } catch (error) {
      explorer.tell(`This is no view: ${error.message}`);
    }
  });
  ui.copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(alone ? model.address(written(model)) : written(model));
      explorer.tell("Copied.");
    } catch {
      ui.view.select();
      explorer.tell("Selected: copy it with Ctrl+C.");
    }
  });
  ui.theme.addEventListener("click", () => model.theme?.());
  for (const stage of STAGES) ui.stage[stage].head.addEventListener("click", () => open(explorer, stage));
}

function choose(explorer, name) {
  const { store, ui, view } = explorer;
  const i = ui.select[name].selectedIndex;
  const changes = { [name]: name === "overlay" ? OVERLAYS[i] : i };
  const { labels } = name === "task" ? store.header.tasks[i] : view.task;
  if (name === "task") Object.assign(changes, { query: 0, picture: 0, support_class: labels?.[0] ?? 0 });
  if (name === "query" && labels) changes.support_class = labels[i];
  explorer.put(changes);
}

// A stage opens on a click on its head, and closes on the next.
function open(explorer, stage) {
  explorer.open = explorer.open === stage && explorer.step === null ? null : stage;
  closeTour(explorer);
  explorer.ui.tip.hidden = true;
  explorer.draw();
  if (explorer.open) explorer.ui.panel.scrollIntoView({ block: "nearest" });
}
