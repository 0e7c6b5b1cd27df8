// Words in place: what is pointed at, or has the keyboard, is explained beside it.

import { clamp } from "./data.js";
import { TOUR, WORDS } from "./words.js";

export function listenForWords(explorer) {
  const { el, ui } = explorer;
  const explain = (event) => {
    const at = event.target.closest?.("[data-word]");
    // What the panel or the tour says already needs no tip.
    const spoken = explorer.step === null ? [explorer.open] : TOUR[explorer.step].stages;
    const said = at?.closest(".dmf-head") && spoken.includes(at.dataset.word);
    const text = at && !said && WORDS[at.dataset.word];
    ui.tip.hidden = !text;
    if (!text) return;
    ui.tip.textContent = text;
    const [box, all] = [at.getBoundingClientRect(), el.getBoundingClientRect()];
    ui.tip.style.left = `${clamp(box.left - all.left, 0, Math.max(0, all.width - 300))}px`;
    ui.tip.style.top = `${box.bottom - all.top + 6}px`;
  };
  const hide = () => {
    ui.tip.hidden = true;
  };
  el.addEventListener("pointerover", explain);
  el.addEventListener("focusin", explain);
  el.addEventListener("pointerleave", hide);
  el.addEventListener("focusout", hide);
}
