// The explorer's page and what it answers to: pointer, touch, keys, controls, the kernel. One `draw` for every change.

import { Store, clamp, look, verdict } from "./data.js";
import { details, whatIf } from "./details.js";
import { MARGIN, STYLE, captions, drawStage, fixed, sheet } from "./drawing.js";
import { BARS, EDGE, cellAt, frame, groupAt, under } from "./geometry.js";
import { lay } from "./nodes.js";
import { STAGES, TITLES, TOUR, WORDS } from "./words.js";

const SHARED = [
  ...["task", "checkpoint", "mode", "query", "support_class", "picture", "row", "column"],
  ...["time", "overlay", "locked", "plain", "everywhere", "moves"],
];
const CHOICES = ["checkpoint", "mode", "task", "query", "support_class", "picture", "overlay"];
const OVERLAYS = ["none", "offset length", "score", "similarity", "filter norm"];
const PATIENCE = 4000; // ms that the kernel has to say that it is there
const NO_KERNEL = "No answer from Python: the kernel is not running";

// The state as a string that can be shared, and back.
export function written(model) {
  const pairs = SHARED.map((name) => {
    const value = model.get(name);
    return [
      name,
      name === "moves" ? JSON.stringify(value) : String(Number(value) === value ? +value.toFixed(4) : value),
    ];
  });
  return new URLSearchParams(pairs.filter(([name, value]) => !(name === "moves" && value === "{}"))).toString();
}
export function restored(text, model) {
  const changes = { moves: {} };
  for (const [name, value] of new URLSearchParams(text.replace(/^[#?]/, ""))) {
    if (!SHARED.includes(name)) throw new Error(`a view has no ${name}; it has ${SHARED.join(", ")}`);
    const kind = typeof model.get(name);
    const read = { number: Number, boolean: (v) => v === "true", string: String, object: JSON.parse }[kind](value);
    if (kind === "number" && !Number.isFinite(read)) throw new Error(`${name} must be a number, got ${value}`);
    if (kind === "number" && name !== "time" && !(Number.isInteger(read) && read >= 0))
      throw new Error(`${name} must be a whole number from 0, got ${value}`);
    changes[name] = name === "time" ? clamp(read, 0, 1) : read;
  }
  const { tasks, checkpoints, modes, blocks } = model.get("header");
  const there = (name, count) => {
    const value = changes[name] ?? Math.min(model.get(name), count - 1);
    if (value >= count) throw new Error(`${name} must be from 0 to ${count - 1}, got ${value}`);
    return value;
  };
  const task = there("task", tasks.length);
  const block = blocks[task][there("checkpoint", checkpoints.length)];
  there("mode", modes.length);
  there("query", tasks[task].queries);
  there("picture", tasks[task].shots[there("support_class", tasks[task].names.length)]);
  there("row", block.h);
  there("column", block.w);
  return changes;
}

// An element: its name, attributes and children.
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
  made.append(...children);
  return made;
}
const word = (key, text = key) => make("span", { class: "dmf-word", tabindex: 0, "data-word": key }, text);
const button = (name, text, more = {}) => make("button", { type: "button", name, ...more }, text);
const range = (name, more) => make("input", { type: "range", name, ...more });
const field = (key, text, ...controls) => make("label", {}, word(key, text), ...controls);

// Everything on the page, built once.
function build(el, header, alone) {
  const select = Object.fromEntries(CHOICES.map((name) => [name, make("select", { name })]));
  const ui = {
    select,
    row: range("row", { min: 0, step: 1, "aria-label": "row of the position" }),
    column: range("column", { min: 0, step: 1, "aria-label": "column of the position" }),
    time: range("time", { min: 0, max: 1, step: 0.01, "aria-label": "time of the alignment" }),
    timeText: make("output", { class: "dmf-number" }),
    play: button("play", "▶ Play"),
    preset: make("select", { name: "preset" }),
    tour: button("tour", "Show me, step by step"),
    lock: button("lock", "Lock", { "aria-pressed": "false", title: "hold the position still under the mouse" }),
    why: make("p", { class: "dmf-preset" }),
    said: make("div", { class: "dmf-said", role: "status", "aria-live": "polite" }),
    note: make("div", { class: "dmf-note", "aria-hidden": "true" }),
    tourBox: make("div", { class: "dmf-tour" }),
    whatIf: make("div", { class: "dmf-whatif", role: "status" }),
    panel: make(
      "div",
      { class: "dmf-panel", id: `dmf-${Math.random().toString(36).slice(2)}` },
      make("div", { class: "dmf-why" }),
      make("div", { class: "dmf-numbers" }),
    ),
    tip: make("div", { class: "dmf-tip", role: "tooltip", hidden: "" }),
    everywhere: make("input", { type: "checkbox", name: "everywhere" }),
    plain: make("input", { type: "checkbox", name: "plain" }),
    away: button("away", "Take all away"),
    grid: button("grid", "Back to the grid"),
    reset: button("reset", "Undo moves"),
    save: button("export", "Export picture"),
    page: button("page", "Save as a page"),
    view: make("input", { type: "text", name: "view", spellcheck: "false", "aria-label": "this view as text" }),
    copy: button("copy", "Copy"),
    theme: button("theme", "Dark or light"),
    below: make("div", { class: "dmf-line" }),
    stage: {},
  };
  ui.line = make("div", { class: "dmf-line" }, ui.why, ui.note); // its height is kept when it is empty
  const names = {
    checkpoint: "Network",
    mode: "Offsets",
    task: "Episode",
    query: "Query",
    support_class: "Class",
  };
  Object.assign(names, { picture: "Support picture", overlay: "Overlay" });
  const keys = { checkpoint: "network", task: "episode", support_class: "scores", picture: "offsets" };
  ui.preset.append(make("option", { value: "" }, "choose a view …"));
  (header.presets || []).forEach((p, i) => ui.preset.append(make("option", { value: i }, p.title)));
  const presets = field("worth a look", "Worth a look", ui.preset);
  presets.classList.add("dmf-presets");
  presets.hidden = !header.presets?.length;
  const sliders = alone ? [field("position", "Row", ui.row), field("position", "Column", ui.column)] : [];
  const bar = make("div", { class: "dmf-bar" });
  bar.append(ui.tour, ...sliders, field("time", "Time", ui.time, ui.timeText), ui.play, ui.lock, presets);
  const flow = (ui.flow = make("div", { class: "dmf-flow" }));
  for (const stage of STAGES) {
    const head = button(`open-${stage}`, "", {
      class: "dmf-head",
      "aria-expanded": "false",
      "aria-controls": ui.panel.id,
    });
    head.append(make("span", { class: "dmf-step" }, `${STAGES.indexOf(stage) + 1}`), word(stage, TITLES[stage]));
    head.lastChild.removeAttribute("tabindex");
    head.dataset.word = stage;
    const drawing = make("div", { class: "dmf-drawing" });
    const empty = '<svg xmlns="http://www.w3.org/2000/svg" aria-hidden="true">';
    drawing.innerHTML = `${empty}<style>${STYLE}</style><g></g></svg>`;
    const caption = make("div", { class: "dmf-caption" });
    const card = make(
      "section",
      { class: "dmf-card", "data-stage": stage, "aria-label": TITLES[stage] },
      head,
      drawing,
      caption,
    );
    ui.stage[stage] = {
      card,
      head,
      drawing,
      caption,
      svg: drawing.firstChild,
      group: drawing.querySelector("g"),
      drawn: [],
    };
  }
  const middle = make("div", { class: "dmf-pair" }, ui.stage.filter.card, ui.stage.gain.card);
  flow.append(ui.stage.query.card, ui.stage.offsets.card, middle, ui.stage.map.card, ui.stage.scores.card);
  Object.entries({ role: "slider", tabindex: 0, "aria-label": "query position", "aria-valuemin": 0 }).forEach(
    ([k, v]) => ui.stage.query.drawing.setAttribute(k, v),
  );
  ui.stage.query.drawing.classList.add("dmf-stage");
  const row = (...children) => make("div", { class: "dmf-row" }, ...children);
  const more = make(
    "details",
    { class: "dmf-more" },
    make("summary", {}, "More: network, episode, class, what if, export"),
  );
  more.append(
    row(...CHOICES.map((name) => field(keys[name] || name, names[name], select[name]))),
    row(
      field("plain", "maps as they are, not centred", ui.plain),
      field("what if", "what if for all positions", ui.everywhere),
      ...[ui.away, ui.grid, ui.reset],
    ),
    row(field("query", "This view as text", ui.view), ui.copy, ui.save, ...(alone ? [ui.theme] : [ui.page])),
    ui.below,
    make(
      "p",
      {},
      "Keys on the query: arrows move the position, Enter locks it. 1 to 9 choose a point: " +
        "Shift and arrows move it, 0 takes " +
        "it away, Escape undoes. [ and ] go through the groups, + and − through the classes, " +
        "Space plays. Points can be dragged.",
    ),
  );
  more.querySelector("[name=view]").previousSibling.dataset.word = "view";
  el.classList.add("dmf-explorer");
  el.replaceChildren(bar, ui.line, flow, ui.whatIf, ui.said, ui.panel, more, ui.tip);
  return ui;
}

// A select's options, rewritten only where they changed.
function options(select, texts, value) {
  const wanted = texts.join("\n");
  if (select.shown !== wanted) {
    select.shown = wanted;
    select.replaceChildren(...texts.map((text, i) => make("option", { value: i }, text)));
  }
  select.selectedIndex = value;
}

// What is written again only where it is another: the browser lays out anew what is set, even to the same.
function noted(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
function told(caption, text) {
  if (caption.told === text) return;
  caption.told = text;
  const at = text.indexOf(MARGIN); // a class may be called so, too
  const [before, after] = at < 0 ? [text] : [text.slice(0, at), text.slice(at + MARGIN.length)];
  const margin = caption.querySelector(".dmf-word");
  if (after === undefined) caption.textContent = text;
  else if (margin) [margin.previousSibling.data, margin.nextSibling.data] = [before, after];
  else {
    const [first, last] = [before, after].map((part) => document.createTextNode(part));
    caption.replaceChildren(first, word("margin", MARGIN), last);
  }
}

export function render({ model, el }) {
  const alone = Boolean(model.alone);
  let store = new Store(model.get("header"), model.get("buffer"));
  const ui = build(el, store.header, alone);
  const local = { open: "offsets", group: null, chosen: null, tour: null, said: "", preset: -1, home: ui.line };
  let view = null;
  let queued = false;
  const widths = {};
  const measure = () => {
    const before = JSON.stringify(widths);
    for (const stage of STAGES) widths[stage] = Math.max(120, Math.round(ui.stage[stage].drawing.clientWidth || 200));
    return JSON.stringify(widths) !== before;
  };
  const state = () => ({ ...Object.fromEntries(SHARED.map((n) => [n, model.get(n)])), group: local.group });

  // Changes to the model. Moved points belong to one view of one pair, and to one position unless they are for all.
  const OF_PAIR = ["task", "checkpoint", "mode", "query", "support_class"];
  function put(changes, save = true) {
    const other = (name) => name in changes && changes[name] !== model.get(name);
    const left = OF_PAIR.some(other) || (!model.get("everywhere") && ["row", "column"].some(other));
    const all = left && !("moves" in changes) ? { ...changes, moves: {} } : changes;
    for (const [k, v] of Object.entries(all)) model.set(k, v);
    if (save) model.save_changes();
  }
  function later() {
    if (queued) return;
    queued = true;
    queueMicrotask(() => {
      queued = false;
      draw();
    });
  }

  function draw() {
    const s = state();
    view = look(store, s);
    if (s.group !== null && s.group >= view.b.groups) s.group = local.group = null;
    const said = captions(store, view, s);
    for (const stage of STAGES) {
      const { svg, group, caption, card, head } = ui.stage[stage];
      const w = widths[stage];
      const [drawn, height] = drawStage(stage, store, view, s, w);
      const shown = `0 0 ${w} ${Math.ceil(height)}`;
      if (svg.getAttribute("viewBox") !== shown) svg.setAttribute("viewBox", shown);
      ui.stage[stage].drawn = lay(group, ui.stage[stage].drawn, drawn);
      told(caption, said[stage]);
      noted(head, "aria-expanded", local.open === stage);
      card.classList.toggle("dmf-open", local.open === stage);
      card.classList.toggle("dmf-toured", local.tour !== null && TOUR[local.tour].stages.includes(stage));
    }
    control(s);
    panel(s);
    speak(said, s);
  }

  function control(s) {
    const { task, b, N, n, q, row, column } = view;
    const { header } = store;
    const numbers = (count, text) => Array.from({ length: count }, (_, i) => text(i));
    options(ui.select.checkpoint, header.checkpoints, s.checkpoint);
    options(ui.select.mode, header.modes, view.mode);
    options(
      ui.select.task,
      header.tasks.map((t) => t.title),
      s.task,
    );
    const named = (i) => `${i + 1}${task.labels ? `: ${task.names[task.labels[i]]}` : ""}`;
    options(ui.select.query, numbers(task.queries, named), q);
    options(ui.select.support_class, task.names, n);
    options(
      ui.select.picture,
      numbers(task.shots[n], (i) => `${i + 1} of ${task.shots[n]}`),
      view.shot(n),
    );
    options(ui.select.overlay, OVERLAYS, OVERLAYS.indexOf(s.overlay));
    for (const [slider, last, value] of [
      [ui.row, b.h - 1, row],
      [ui.column, b.w - 1, column],
    ]) {
      noted(slider, "max", last);
      slider.value = value;
    }
    ui.time.value = s.time;
    told(ui.timeText, `t = ${fixed(s.time)}`);
    noted(ui.lock, "aria-pressed", s.locked);
    ui.everywhere.checked = s.everywhere;
    ui.grid.disabled = s.everywhere; // one position's way back is not that of the others
    ui.plain.checked = s.plain;
    ui.plain.disabled = N === 1;
    if (document.activeElement !== ui.view) ui.view.value = written(model);
    if (alone) model.remember(written(model));
    // A preset is named while its view is looked at: what its sentence says is of that cell, class, query and points.
    // Free are the time and what the sentence itself asks to change.
    const presets = header.presets || [];
    const same = ({ state: wanted, free = [] }) =>
      !view.moves &&
      Object.entries({ mode: 0, ...wanted }).every(
        ([name, value]) => name === "time" || free.includes(name) || model.get(name) === value,
      );
    if (!presets[local.preset] || !same(presets[local.preset])) local.preset = presets.findIndex(same);
    ui.preset.value = local.preset < 0 ? "" : local.preset;
    const why = presets[local.preset]?.why ?? "";
    if (ui.why.textContent !== why) ui.why.textContent = why;
    const slider = ui.stage.query.drawing;
    noted(slider, "aria-valuemax", b.h * b.w - 1);
    noted(slider, "aria-valuenow", view.cell);
    noted(slider, "aria-valuetext", `row ${row + 1}, column ${column + 1}`);
  }

  function panel(s) {
    ui.panel.hidden = !local.open || local.tour !== null;
    if (ui.panel.hidden) return;
    details(local.open, view, s).forEach((text, i) => {
      const part = ui.panel.children[i];
      if (part.made !== text) part.innerHTML = part.made = text;
    });
  }
  // A step of the tour stands right above the stages it speaks of, and both are brought into the window.
  function tour(number) {
    local.tour = number;
    if (number !== null) [local.open] = TOUR[number].stages;
    ui.tourBox.remove();
    draw();
    if (number === null) return ui.tour.focus({ preventScroll: true });
    const step = TOUR[number];
    const last = number === TOUR.length - 1;
    const text = make(
      "p",
      {},
      make("b", {}, `${number + 1} of ${TOUR.length}: ${step.stages.map((stage) => TITLES[stage]).join(", then ")}. `),
      step.text,
    );
    const [back, next] = [button("tour-back", "Back"), button("tour-next", last ? "Done" : "Next")];
    back.disabled = number === 0;
    back.addEventListener("click", () => tour(number - 1));
    next.addEventListener("click", () => tour(last ? null : number + 1));
    const end = button("tour-end", "Close");
    end.addEventListener("click", () => tour(null));
    ui.tourBox.replaceChildren(text, make("div", { class: "dmf-row" }, back, next, end));
    placed();
    for (const shown of [ui.stage[step.stages.at(-1)].card, ui.tourBox]) shown.scrollIntoView({ block: "nearest" });
    next.focus({ preventScroll: true });
  }
  function placed() {
    const focused = ui.tourBox.contains(document.activeElement) && document.activeElement;
    ui.tourBox.remove();
    const { card } = ui.stage[TOUR[local.tour].stages[0]];
    const row = [...ui.flow.children].find((part) => part.offsetTop === (card.closest(".dmf-pair") ?? card).offsetTop);
    row.before(ui.tourBox);
    if (focused) focused.focus({ preventScroll: true });
  }

  function speak(captioned, s) {
    const { best } = verdict(view.scores(view.t), view.truth);
    const where = `Row ${view.row + 1}, column ${view.column + 1}. ${captioned.offsets}.`;
    const about = `${where} Answer ${view.task.names[best]}. ${captioned.scores}.`;
    const text = local.said || about;
    if (ui.said.textContent !== text) ui.said.textContent = text;
    if (ui.note.textContent !== local.said) ui.note.textContent = local.said;
    if (ui.note.parentNode !== local.home) local.home.append(ui.note);
    const moved = whatIf(view, s);
    if (ui.whatIf.textContent !== moved) ui.whatIf.textContent = moved;
  }
  // A message of its own, above the stages, or below the buttons it answers; gone with the next change of the view.
  function tell(text, home = ui.below) {
    Object.assign(local, { said: text, home });
    const s = state();
    speak(captions(store, view, s), s);
  }

  const changed = () => {
    local.said = "";
    later();
  };
  for (const name of SHARED) model.on(`change:${name}`, changed);

  // Controls.
  for (const name of CHOICES)
    ui.select[name].addEventListener("change", () => {
      const i = ui.select[name].selectedIndex;
      const changes = { [name]: name === "overlay" ? OVERLAYS[i] : i };
      const labels = (name === "task" ? store.header.tasks[i] : view.task).labels;
      if (name === "task") Object.assign(changes, { query: 0, picture: 0, support_class: labels?.[0] ?? 0 });
      if (name === "query" && labels) changes.support_class = labels[i];
      put(changes);
    });
  for (const name of ["row", "column", "time"])
    ui[name].addEventListener("input", () => put({ [name]: Number(ui[name].value) }));
  for (const name of ["everywhere", "plain"])
    ui[name].addEventListener("change", () => put({ [name]: ui[name].checked }));
  ui.lock.addEventListener("click", () => put({ locked: !model.get("locked") }));
  ui.tour.addEventListener("click", () => tour(0));
  ui.preset.addEventListener("change", () => {
    const chosen = (store.header.presets || [])[ui.preset.value];
    local.preset = chosen ? Number(ui.preset.value) : -1;
    if (chosen) put({ mode: 0, picture: 0, moves: {}, everywhere: false, locked: true, ...chosen.state });
  });
  const every = (value) => Object.fromEntries(Array.from({ length: 9 }, (_, tap) => [tap, value(tap)]));
  ui.away.addEventListener("click", () => put({ moves: every(() => null) }));
  ui.grid.addEventListener("click", () => {
    const at = view.learned(view.n, view.cell);
    put({ moves: every((tap) => view.ghost(tap).map((v, i) => v - at[tap][i])) });
  });
  ui.reset.addEventListener("click", () => put({ moves: {} }));
  ui.view.addEventListener("change", () => {
    try {
      put(restored(ui.view.value, model));
    } catch (error) {
      tell(`This is no view: ${error.message}`);
    }
  });
  ui.copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(alone ? model.address(written(model)) : written(model));
      tell("Copied.");
    } catch {
      ui.view.select();
      tell("Selected: copy it with Ctrl+C.");
    }
  });
  ui.theme.addEventListener("click", () => model.theme?.());

  // Time runs.
  let playing = null;
  function play() {
    if (playing !== null) return stop();
    ui.play.textContent = "❚❚ Pause";
    const from = model.get("time") >= 1 ? 0 : model.get("time");
    const began = performance.now() - from * 3000;
    const frameOf = (now) => {
      const t = clamp((now - began) / 3000, 0, 1);
      put({ time: Math.round(t * 100) / 100 }, false);
      if (t < 1) playing = requestAnimationFrame(frameOf);
      else stop();
    };
    playing = requestAnimationFrame(frameOf);
  }
  function stop() {
    if (playing !== null) cancelAnimationFrame(playing);
    playing = null;
    ui.play.textContent = "▶ Play";
    model.save_changes();
  }
  ui.play.addEventListener("click", play);

  // Stages open on a click on their head.
  for (const stage of STAGES)
    ui.stage[stage].head.addEventListener("click", () => {
      local.open = local.open === stage && local.tour === null ? null : stage;
      local.tour = null;
      ui.tourBox.remove();
      silent();
      draw();
      if (local.open) ui.panel.scrollIntoView({ block: "nearest" });
    });

  // The position follows a pointer over the query or the map; a group lights up under it.
  const { query, offsets, map, scores } = ui.stage;
  const go = ([row, column]) => {
    if (row !== model.get("row") || column !== model.get("column")) put({ row, column });
  };
  function cellUnder(stage, event) {
    const [x, y] = under(stage.svg, event);
    const f = frame(stage.svg.viewBox.baseVal.width, view.task.size);
    if (Math.min(x, y) < EDGE || Math.max(x, y) > EDGE + f.side) return null;
    if (stage === query) return cellAt(view.b, f.pixel([x, y]));
    return [y, x].map((v, i) => {
      const count = i ? view.b.w : view.b.h;
      const long = i ? f.side : (f.side * view.b.h) / view.b.w;
      return clamp(Math.floor(((v - EDGE) / long) * count), 0, count - 1);
    });
  }
  let touched = false;
  for (const stage of [query, map]) {
    stage.drawing.addEventListener("pointermove", (event) => {
      const cell = cellUnder(stage, event);
      if (cell && (event.pointerType !== "mouse" || !model.get("locked"))) go(cell);
    });
    stage.drawing.addEventListener("pointerdown", (event) => {
      touched = event.pointerType !== "mouse";
      const cell = touched && cellUnder(stage, event);
      if (cell) go(cell);
    });
    stage.drawing.addEventListener("click", (event) => {
      const cell = cellUnder(stage, event);
      if (!cell || touched) return;
      const other = cell[0] !== model.get("row") || cell[1] !== model.get("column");
      put({ row: cell[0], column: cell[1], locked: other || !model.get("locked") });
    });
  }
  function light(group) {
    if (group === local.group) return;
    local.group = group;
    later();
  }
  for (const stage of [ui.stage.filter, ui.stage.gain]) {
    const over = (event) => {
      const [x] = under(stage.svg, event);
      if (x >= BARS) light(groupAt(x, view.b.groups, stage.svg.viewBox.baseVal.width));
    };
    stage.drawing.addEventListener("pointermove", over);
    stage.drawing.addEventListener("pointerdown", over);
    stage.drawing.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && light(null));
  }
  scores.drawing.addEventListener("click", (event) => {
    const found = event.target.closest?.("[data-class]");
    if (found) put({ support_class: Number(found.dataset.class) });
  });

  // What if: a point is dragged, or moved by keys.
  function move(tap, to) {
    const from = view.learned(view.n, view.cell)[tap];
    put({ moves: { ...model.get("moves"), [tap]: to && to.map((v, i) => v - from[i]) } });
  }
  let dragged = null;
  offsets.drawing.addEventListener("pointerdown", (event) => {
    const dot = event.target.closest?.(".dot");
    if (!dot) return;
    dragged = local.chosen = Number(dot.dataset.tap);
    offsets.drawing.setPointerCapture(event.pointerId);
    event.preventDefault();
    query.drawing.focus({ preventScroll: true });
  });
  offsets.drawing.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    const f = frame(offsets.svg.viewBox.baseVal.width, view.task.size);
    move(dragged, f.pixel(f.hold(under(offsets.svg, event))));
  });
  for (const end of ["pointerup", "pointercancel"])
    offsets.drawing.addEventListener(end, () => {
      dragged = null;
    });

  const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  query.drawing.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = ARROWS[event.key];
    const { b, row, column, n, N } = view;
    const { chosen } = local;
    const next = (value, by, count) => ((value ?? (by > 0 ? -1 : count)) + by + count) % count;
    if (step && event.shiftKey && chosen !== null) {
      const at = view.places(n, view.cell)[chosen] || view.ghost(chosen);
      move(chosen, [at[0] + step[0], at[1] + step[1]]);
    } else if (step) go([clamp(row + step[0], 0, b.h - 1), clamp(column + step[1], 0, b.w - 1)]);
    else if (/^[1-9]$/.test(event.key)) {
      local.chosen = Number(event.key) - 1;
      tell(`Point ${event.key} chosen: Shift and arrows move it, 0 takes it away.`, ui.line);
    } else if (event.key === "0" && chosen !== null) move(chosen, null);
    else if (event.key === "Escape") put({ moves: {} });
    else if (event.key === "Enter") put({ locked: !model.get("locked") });
    else if (event.key === " ") play();
    else if ("[]".includes(event.key)) light(next(local.group, event.key === "]" ? 1 : -1, b.groups));
    else if ("+-".includes(event.key)) put({ support_class: next(n, event.key === "+" ? 1 : -1, N) });
    else return;
    event.preventDefault();
  });
  // The notebook has its own meaning for arrows, Enter and letters: none of ours reaches it.
  const own = (event) => event.stopPropagation();
  for (const part of [el, ...(el.closest(".jp-OutputArea-output")?.querySelectorAll(".widget-slider") ?? [])])
    part.addEventListener("keydown", own);
  setTimeout(() => {
    for (const part of el.closest(".jp-OutputArea")?.querySelectorAll(".widget-slider") ?? [])
      part.addEventListener("keydown", own);
  });

  // Words in place.
  const explained = (event) => {
    const at = event.target.closest?.("[data-word]");
    const spoken = local.tour === null ? [local.open] : TOUR[local.tour].stages; // by the panel or the tour
    const said = at?.closest(".dmf-head") && spoken.includes(at.dataset.word);
    const text = at && !said && WORDS[at.dataset.word];
    ui.tip.hidden = !text;
    if (!text) return;
    ui.tip.textContent = text;
    const [box, all] = [at.getBoundingClientRect(), el.getBoundingClientRect()];
    ui.tip.style.left = `${clamp(box.left - all.left, 0, Math.max(0, all.width - 300))}px`;
    ui.tip.style.top = `${box.bottom - all.top + 6}px`;
  };
  const silent = () => {
    ui.tip.hidden = true;
  };
  el.addEventListener("pointerover", explained);
  el.addEventListener("focusin", explained);
  el.addEventListener("pointerleave", silent);
  el.addEventListener("focusout", silent);

  // What only Python can do, in a notebook: write files. It says so when nobody answers.
  let waiting = null;
  function ask(message, otherwise) {
    clearTimeout(waiting);
    waiting = setTimeout(otherwise, PATIENCE);
    try {
      model.send(message);
    } catch {
      clearTimeout(waiting);
      otherwise();
    }
  }
  const heard = (answer) => {
    clearTimeout(waiting);
    tell(answer.kind === "written" ? `Written: figures/${answer.file}${answer.also || ""}` : answer.text);
  };
  model.on("msg:custom", heard);
  const download = (name, href) => make("a", { download: name, href }).click();
  function exported() {
    const s = state();
    const drawn = sheet(store, view, s);
    const picture = new Image();
    picture.onload = () => {
      const canvas = Object.assign(document.createElement("canvas"), {
        width: 2 * drawn.width,
        height: 2 * drawn.height,
      });
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      const address = canvas.toDataURL("image/png");
      const fall = (why) => {
        download("explorer.png", address);
        download("explorer.svg", `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawn.text)}`);
        tell(`${why}explorer.png and explorer.svg were downloaded by the browser.`);
      };
      if (alone) return fall("");
      tell("Exporting …");
      const { header } = store;
      const names = {
        checkpoint: header.checkpoints[s.checkpoint],
        mode: header.modes[s.mode],
        task: view.task.title,
      };
      const message = {
        kind: "export",
        svg: drawn.text,
        png: address.split(",")[1],
        state: { ...s, ...names, view: written(model) },
      };
      ask(message, () => fall(`${NO_KERNEL}. Instead, `));
    };
    picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawn.text)}`;
  }
  ui.save.addEventListener("click", exported);
  ui.page.addEventListener("click", () => {
    tell("Writing a page …");
    ask({ kind: "page", view: written(model) }, () => tell(`${NO_KERNEL}, and only Python can write a page.`));
  });

  const renew = () => {
    store = new Store(model.get("header"), model.get("buffer"));
    draw();
  };
  model.on("change:buffer", renew);
  // Drawn anew when a drawing's width has changed, by the window, a theme or a tab that is shown again.
  const anew = () => {
    if (!measure()) return;
    draw();
    if (local.tour !== null) placed();
  };
  const seen = new ResizeObserver(() => requestAnimationFrame(anew));
  for (const stage of STAGES) seen.observe(ui.stage[stage].drawing);
  measure();
  draw();
  return () => {
    stop();
    seen.disconnect();
    for (const name of SHARED) model.off(`change:${name}`, changed);
    model.off("change:buffer", renew);
    model.off("msg:custom", heard);
  };
}
