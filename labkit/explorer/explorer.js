// What all parts of the explorer share: the model, the page's elements, the view that is drawn, and `draw`, which shows
// every change.

import { Store, look } from "./data.js";
import { aloud, details, whatIf } from "./details.js";
import { captions, drawStage } from "./drawing.js";
import { captioned, noted, told } from "./elements.js";
import { build } from "./layout.js";
import { lay } from "./nodes.js";
import { SHARED } from "./views.js";
import { STAGES, TOUR } from "./words.js";

// Moved points belong to one view of one pair of pictures, and to one position unless they are for all.
const OF_PAIR = ["task", "checkpoint", "mode", "query", "support_class"];

export class Explorer {
  // `showControls` brings the controls to the state that is drawn.
  constructor(model, el, showControls) {
    Object.assign(this, { model, el, showControls });
    this.alone = Boolean(model.alone); // in an exported page, without Python
    this.store = new Store(model.get("header"), model.get("buffer"));
    this.ui = build(el, this.store.header, this.alone);
    this.view = null; // what `look` made of the state
    this.widths = {}; // of the stages' drawings, in pixels
    // What is the page's own, and no part of a shared view:
    this.open = "offsets"; // the stage whose numbers stand below
    this.step = null; // of the tour
    this.group = null; // that is pointed at
    this.chosen = null; // of the nine points, the one that keys move
    this.preset = -1; // the view "worth a look" that is shown
    this.said = ""; // a message, and the element where it stands
    this.home = this.ui.line;
    this.queued = false;
    this.measure();
  }

  state() {
    return { ...Object.fromEntries(SHARED.map((name) => [name, this.model.get(name)])), group: this.group };
  }

  // Change the model.
  put(changes, save = true) {
    const other = (name) => name in changes && changes[name] !== this.model.get(name);
    const moved = !this.model.get("everywhere") && ["row", "column"].some(other);
    const left = OF_PAIR.some(other) || moved;
    const all = left && !("moves" in changes) ? { ...changes, moves: {} } : changes;
    for (const [name, value] of Object.entries(all)) this.model.set(name, value);
    if (save) this.model.save_changes();
  }

  // Look at another cell, [row, column].
  go([row, column]) {
    if (row !== this.model.get("row") || column !== this.model.get("column")) this.put({ row, column });
  }

  // Move one of the nine points to (y, x) in pixels, or take it away (null).
  move(tap, to) {
    const from = this.view.learned(this.view.n, this.view.cell)[tap];
    this.put({ moves: { ...this.model.get("moves"), [tap]: to && to.map((v, i) => v - from[i]) } });
  }

  // Point at a group of channels, or at none.
  light(group) {
    if (group === this.group) return;
    Object.assign(this, { group, said: "" });
    this.later();
  }

  // Draw once, after all changes of this moment.
  later() {
    if (this.queued) return;
    this.queued = true;
    queueMicrotask(() => {
      this.queued = false;
      this.draw();
    });
  }

  draw() {
    const s = this.state();
    this.view = look(this.store, s);
    if (s.group !== null && s.group >= this.view.b.groups) s.group = this.group = null;
    const said = captions(this.store, this.view, s);
    for (const stage of STAGES) this.drawCard(stage, s, said[stage]);
    this.showControls(this, s);
    this.showPanel(s);
    this.speak(said, s);
  }

  drawCard(stage, s, caption) {
    const part = this.ui.stage[stage];
    const width = this.widths[stage];
    const [drawn, height] = drawStage(stage, this.store, this.view, s, width);
    noted(part.svg, "viewBox", `0 0 ${width} ${Math.ceil(height)}`);
    part.drawn = lay(part.group, part.drawn, drawn);
    captioned(part.caption, caption);
    noted(part.head, "aria-expanded", this.open === stage);
    part.card.classList.toggle("dmf-open", this.open === stage);
    part.card.classList.toggle("dmf-toured", this.step !== null && TOUR[this.step].stages.includes(stage));
  }

  showPanel(s) {
    this.ui.panel.hidden = !this.open || this.step !== null;
    if (this.ui.panel.hidden) return;
    details(this.open, this.view, s).forEach((text, i) => {
      const part = this.ui.panel.children[i];
      if (part.made !== text) part.innerHTML = part.made = text;
    });
  }

  // What is said aloud, and the messages; `about` are the captions of the stages.
  speak(about, s) {
    const { ui, view } = this;
    told(ui.said, this.said || aloud(view, s, about));
    told(ui.note, this.said);
    if (ui.note.parentNode !== this.home) this.home.append(ui.note);
    told(ui.whatIf, whatIf(view, s));
  }

  // A message, above the stages or below the buttons it answers; gone with the next change of the view.
  tell(text, home = this.ui.below) {
    Object.assign(this, { said: text, home });
    const s = this.state();
    this.speak(captions(this.store, this.view, s), s);
  }

  // Whether a drawing's width has changed, by the window, a theme or a tab that is shown again.
  measure() {
    const before = JSON.stringify(this.widths);
    for (const stage of STAGES)
      this.widths[stage] = Math.max(120, Math.round(this.ui.stage[stage].drawing.clientWidth || 200));
    return JSON.stringify(this.widths) !== before;
  }

  // Draw from then on whenever the model changes; returns what ends that.
  follow() {
    const { model } = this;
    const changed = () => {
      this.said = "";
      this.later();
    };
    const renewed = () => {
      this.store = new Store(model.get("header"), model.get("buffer"));
      this.draw();
    };
    for (const name of SHARED) model.on(`change:${name}`, changed);
    model.on("change:buffer", renewed);
    return () => {
      for (const name of SHARED) model.off(`change:${name}`, changed);
      model.off("change:buffer", renewed);
    };
  }
}
