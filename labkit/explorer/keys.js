// Keys on the query's drawing; what they do stands at the end of the controls.

import { clamp } from "./data.js";

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const [FIRST, LAST] = [-Infinity, Infinity];
const JUMPS = { PageUp: [FIRST, 0], PageDown: [LAST, 0], Home: [FIRST, FIRST], End: [LAST, LAST] };

export function listenToKeys(explorer) {
  explorer.ui.stage.query.drawing.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (pressed(explorer, event)) event.preventDefault();
  });
  keepFromNotebook(explorer.el);
}

// Do what a key means; false where it means nothing.
function pressed(explorer, { key, shiftKey }) {
  const { chosen, model } = explorer;
  const { b, row, column, n, N, cell } = explorer.view;
  const step = ARROWS[key];
  const by = step ?? JUMPS[key];
  const next = (value, by, count) => ((value ?? (by > 0 ? -1 : count)) + by + count) % count;
  if (step && shiftKey && chosen !== null) {
    const at = explorer.view.places(n, cell)[chosen] || explorer.view.ghost(chosen);
    explorer.move(chosen, [at[0] + step[0], at[1] + step[1]]);
  } else if (by) explorer.go([clamp(row + by[0], 0, b.h - 1), clamp(column + by[1], 0, b.w - 1)]);
  else if (/^[1-9]$/.test(key)) {
    explorer.chosen = Number(key) - 1;
    explorer.tell(`Point ${key} chosen: Shift and arrows move it, 0 takes it away.`, explorer.ui.line);
  } else if (key === "0" && chosen !== null) explorer.move(chosen, null);
  else if (key === "Escape" && explorer.group !== null) explorer.light(null);
  else if (key === "Escape") explorer.put({ moves: {} });
  else if (key === "Enter") explorer.put({ locked: !model.get("locked") });
  else if (key === " ") explorer.player.toggle();
  else if ("[]".includes(key)) explorer.light(next(explorer.group, key === "]" ? 1 : -1, b.groups));
  else if ("+-".includes(key)) explorer.put({ support_class: next(n, key === "+" ? 1 : -1, N) });
  else return false;
  return true;
}

// The notebook has its own meaning for arrows, Enter and letters: none of ours reaches it, nor those of the sliders
// beside the explorer.
function keepFromNotebook(el) {
  const own = (event) => event.stopPropagation();
  const keep = (parts) => [...(parts ?? [])].forEach((part) => part.addEventListener("keydown", own));
  keep([el]);
  keep(el.closest(".jp-OutputArea-output")?.querySelectorAll(".widget-slider"));
  setTimeout(() => keep(el.closest(".jp-OutputArea")?.querySelectorAll(".widget-slider")));
}
