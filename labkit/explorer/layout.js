// The explorer's page: its controls, stages and panels.

import { STYLE } from "./drawing.js";
import { button, field, make, range, word } from "./elements.js";
import { STAGES, TITLES } from "./words.js";

export const CHOICES = ["checkpoint", "mode", "task", "query", "support_class", "picture", "overlay"];

const unique = () => `dmf-${Math.random().toString(36).slice(2)}`;

// Everything on the page, built once.
export function build(el, header, alone) {
  const select = Object.fromEntries(CHOICES.map((name) => [name, make("select", { name })]));
  const ui = {
    select,
    row: range("row", { min: 0, step: 1 }),
    column: range("column", { min: 0, step: 1 }),
    time: range("time", { min: 0, max: 1, step: 0.01, "aria-label": "time of the alignment" }),
    timeText: make("output", { class: "dmf-number" }),
    play: button("play", "▶ Play"),
    preset: make("select", { name: "preset" }),
    tourPlay: button("tour-play", "▶ Play"),
    tour: button("tour", "Show me, step by step"),
    lock: button("lock", "Lock", { "aria-pressed": "false", title: "hold the position still under the mouse" }),
    why: make("p", { class: "dmf-preset" }),
    said: make("div", { class: "dmf-said", role: "status", "aria-live": "polite" }),
    note: make("div", { class: "dmf-note", "aria-hidden": "true" }),
    tourBox: make("div", { class: "dmf-tour" }),
    whatIf: make("div", { class: "dmf-whatif", role: "status" }),
    panel: make(
      "div",
      { class: "dmf-panel", id: unique() },
      make("div", { class: "dmf-why" }),
      make("div", { class: "dmf-numbers" }),
    ),
    tip: make("div", { class: "dmf-tip", role: "tooltip", id: unique(), hidden: "" }),
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
      "Keys on the query: arrows move the position, Home, End, Page Up and Page Down to the edges; Enter locks it. " +
        "1 to 9 choose a point: Shift and arrows move it, 0 takes it away. [ and ] go through the groups, + and − " +
        "through the classes. Escape lets the group go first, then undoes moves. Space plays. Points can be dragged.",
    ),
  );
  more.querySelector("[name=view]").previousSibling.dataset.word = "view";
  el.classList.add("dmf-explorer");
  el.replaceChildren(bar, ui.line, flow, ui.whatIf, ui.said, ui.panel, more, ui.tip);
  return ui;
}
