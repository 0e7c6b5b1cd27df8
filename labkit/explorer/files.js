// Files: a picture of the view, by Python in a notebook or by the browser; and, by Python alone, a page.

import { sheet } from "./drawing.js";
import { make } from "./elements.js";
import { written } from "./views.js";

const PATIENCE = 4000; // ms that the kernel has to say that it is there
const NO_ANSWER = "No answer from Python: run this cell again.";

const download = (name, href) => make("a", { download: name, href }).click();

// Let the buttons write files; returns what ends that.
export function listenForFiles(explorer) {
  const { model, ui } = explorer;
  let waiting = null;
  // Ask Python, and do something else where nobody answers.
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
    explorer.tell(answer.kind === "written" ? `Written: ${answer.file}${answer.also || ""}` : answer.text);
  };
  model.on("msg:custom", heard);
  ui.save.addEventListener("click", () => exportPicture(explorer, ask));
  ui.page.addEventListener("click", () => {
    explorer.tell("Writing a page …");
    ask({ kind: "page", view: written(model) }, () => explorer.tell(NO_ANSWER));
  });
  return () => model.off("msg:custom", heard);
}

function exportPicture(explorer, ask) {
  const { model, store, view } = explorer;
  const s = explorer.state();
  const drawn = sheet(store, view, s);
  const svg = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawn.text)}`;
  const picture = new Image();
  picture.onload = () => {
    const size = { width: 2 * drawn.width, height: 2 * drawn.height };
    const canvas = Object.assign(document.createElement("canvas"), size);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    const png = canvas.toDataURL("image/png");
    const fall = (why) => {
      download("explorer.png", png);
      download("explorer.svg", svg);
      explorer.tell(`${why}explorer.png and explorer.svg were downloaded by the browser.`);
    };
    if (explorer.alone) return fall("");
    explorer.tell("Exporting …");
    const { checkpoints, modes } = store.header;
    const names = { checkpoint: checkpoints[s.checkpoint], mode: modes[s.mode], task: view.task.title };
    const state = { ...s, ...names, view: written(model) };
    ask({ kind: "export", svg: drawn.text, png: png.split(",")[1], state }, () => fall(`${NO_ANSWER} Meanwhile, `));
  };
  picture.src = svg;
}
