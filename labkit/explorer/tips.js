// Words in place: what is pointed at, or has the keyboard, is explained beside it.

import { clamp } from "./data.js";
import { TOUR, WORDS } from "./words.js";

export function listenForWords(explorer) {
  const { el, ui } = explorer;
  let described = null; // the word that has the keyboard
  const hide = () => {
    ui.tip.hidden = true;
    described?.removeAttribute("aria-describedby");
    described = null;
  };
  const explain = (event) => {
    hide();
    const at = event.target.closest?.("[data-word]");
    // What the panel or the tour says already needs no tip.
    const spoken = explorer.step === null ? [explorer.open] : TOUR[explorer.step].stages;
    const said = at?.closest(".dmf-head") && spoken.includes(at.dataset.word);
    const text = at && !said && WORDS[at.dataset.word];
    if (!text) return;
    ui.tip.hidden = false;
    ui.tip.textContent = text;
    const [box, all] = [at.getBoundingClientRect(), el.getBoundingClientRect()];
    ui.tip.style.left = `${clamp(box.left - all.left, 0, Math.max(0, all.width - 300))}px`;
    ui.tip.style.top = `${box.bottom - all.top + 6}px`;
    if (event.type !== "focusin") return;
    described = at;
    at.setAttribute("aria-describedby", ui.tip.id);
  };
  const escape = (event) => {
    if (event.key !== "Escape" || ui.tip.hidden) return;
    hide();
    event.stopPropagation(); // to the tip alone: it would undo moves, too
  };
  el.addEventListener("pointerover", explain);
  el.addEventListener("focusin", explain);
  el.addEventListener("pointerleave", hide);
  el.addEventListener("focusout", hide);
  el.addEventListener("keydown", escape, true);
}
