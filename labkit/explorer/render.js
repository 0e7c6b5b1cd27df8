// The explorer, put into an element of a notebook or a page.

import { listenToControls, showControls } from "./controls.js";
import { Explorer } from "./explorer.js";
import { listenForFiles } from "./files.js";
import { listenToKeys } from "./keys.js";
import { Player } from "./player.js";
import { listenToPointer } from "./pointer.js";
import { listenForWords } from "./tips.js";
import { placeTour } from "./tour.js";
import { STAGES } from "./words.js";

// As anywidget calls it; returns what takes the explorer off the model.
export function render({ model, el }) {
  const explorer = new Explorer(model, el, showControls);
  explorer.player = new Player(explorer);
  listenToControls(explorer);
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
  return () => {
    explorer.player.stop();
    seen.disconnect();
    for (const end of ends) end();
  };
}
