// Time runs: from t, or from 0 if it is at its end, to 1.

import { clamp } from "./data.js";

const LONG = 3000; // ms from t = 0 to t = 1

export class Player {
  constructor(explorer) {
    this.explorer = explorer;
    this.frame = null; // that is asked for while time runs
    this.buttons = [explorer.ui.play, explorer.ui.tourPlay];
    for (const button of this.buttons) button.addEventListener("click", () => this.toggle());
  }

  toggle() {
    if (this.frame !== null) return this.stop();
    const { model } = this.explorer;
    this.call("❚❚ Pause");
    const from = model.get("time") >= 1 ? 0 : model.get("time");
    const began = performance.now() - from * LONG;
    const step = (now) => {
      const t = clamp((now - began) / LONG, 0, 1);
      this.explorer.put({ time: Math.round(t * 100) / 100 }, false);
      if (t < 1) this.frame = requestAnimationFrame(step);
      else this.stop();
    };
    this.frame = requestAnimationFrame(step);
  }

  stop() {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    this.call("▶ Play");
    this.explorer.model.save_changes();
  }

  call(name) {
    for (const button of this.buttons) button.textContent = name;
  }
}
