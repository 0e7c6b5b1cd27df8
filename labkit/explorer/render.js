// The explorer, put into an element of a notebook or a page.

import { listenToControls, showControls } from "./controls.js";
import { Explorer } from "./explorer.js";
import { listenForFiles } from "./files.js";
import { listenToKeys } from "./keys.js";
import { Player } from "./player.js";
import { listenToPointer } from "./pointer.js";
import { listenForWords } from "./tips.js";
import { listenToTour, placeTour } from "./tour.js";
import { STAGES } from "./words.js";

// Show it; its `end` takes it off the model.
export function open({ model, el }) {
  const explorer = new Explorer(model, el, showControls);
  explorer.player = new Player(explorer);
  listenToControls(explorer);
  listenToTour(explorer);
  listenToPointer(explorer);
  listenToKeys(explorer);
  listenForWords(explorer);
  const ends = [explorer.follow(), listenForFiles(explorer)];
  const resized = () => {
    if (!explorer.measure()) return;
    explorer.draw();
    placeTour(explorer);
  };
  const seen = new ResizeObserver(() => requestAnimationFrame(resized));
  for (const stage of STAGES) seen.observe(explorer.ui.stage[stage].drawing);
  explorer.draw();
  explorer.end = () => {
    explorer.player.stop();
    seen.disconnect();
    for (const end of ends) end();
  };
  return explorer;
}

// As anywidget calls it.
export const render = (where) => open(where).end;
