// "Show me, step by step": a text that stands right above the stages it speaks of.

import { button, make } from "./elements.js";
import { TITLES, TOUR } from "./words.js";

export function listenToTour(explorer) {
  const { tour, tourBox } = explorer.ui;
  tour.addEventListener("click", () => {
    explorer.light(null);
    show(explorer, 0);
  });
  tourBox.addEventListener("keydown", (event) => event.key === "Escape" && end(explorer));
}

// Take the tour away, without a drawing of what stood below it.
export function closeTour(explorer) {
  explorer.step = null;
  explorer.ui.tourBox.remove();
}

function end(explorer) {
  closeTour(explorer);
  explorer.draw();
  explorer.ui.tour.focus({ preventScroll: true });
}

// Show a step: its text and its stages are brought into the window.
function show(explorer, number) {
  const { ui } = explorer;
  const { stages, text, plays } = TOUR[number];
  const last = number === TOUR.length - 1;
  explorer.step = number;
  [explorer.open] = stages;
  ui.tourBox.remove();
  explorer.draw();
  const title = `${number + 1} of ${TOUR.length}: ${stages.map((stage) => TITLES[stage]).join(", then ")}. `;
  const [back, next] = [button("tour-back", "Back"), button("tour-next", last ? "Done" : "Next")];
  const close = button("tour-end", "Close");
  back.disabled = number === 0;
  back.addEventListener("click", () => show(explorer, number - 1));
  next.addEventListener("click", () => (last ? end(explorer) : show(explorer, number + 1)));
  close.addEventListener("click", () => end(explorer));
  const buttons = make("div", { class: "dmf-row" }, back, next, ...(plays ? [ui.tourPlay] : []), close);
  ui.tourBox.replaceChildren(make("p", {}, make("b", {}, title), text), buttons);
  placeTour(explorer);
  for (const shown of [ui.stage[stages.at(-1)].card, ui.tourBox]) shown.scrollIntoView({ block: "nearest" });
  next.focus({ preventScroll: true });
}

// Put the text above the row in which the first of its stages lies, which depends on the window's width.
export function placeTour({ step, ui }) {
  if (step === null) return;
  const focused = ui.tourBox.contains(document.activeElement) && document.activeElement;
  ui.tourBox.remove();
  const { card } = ui.stage[TOUR[step].stages[0]];
  const top = (card.closest(".dmf-pair") ?? card).offsetTop;
  [...ui.flow.children].find((part) => part.offsetTop === top).before(ui.tourBox);
  if (focused) focused.focus({ preventScroll: true });
}
