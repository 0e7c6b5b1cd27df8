// The widget of notebook 12. Pictures are dropped, or chosen, on one of two places; Python answers. What is shown comes
// from Python as text and pictures and is never read as HTML.

const PATIENCE = 20000; // ms
const READING = "Reading …";
const FOLLOWED = ["classes", "answers", "message", "network"];

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// The files of a drop with the folders they lie in, `folder/name`: a folder dropped on the classes names its class.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
  if (!entries.some((entry) => entry && entry.isDirectory)) return [...transfer.files].map((file) => [file.name, file]);
  const found = [];
  async function walk(entry, path) {
    if (entry.isFile) {
      found.push([path + entry.name, await new Promise((done, failed) => entry.file(done, failed))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!part.length) return;
      for (const child of part) await walk(child, `${path}${entry.name}/`);
    }
  }
  for (const entry of entries) if (entry) await walk(entry, "");
  return found;
}

// A kernel that is gone answers nothing, and one that is busy answers late.
function reading(model) {
  model.set("message", READING);
  setTimeout(() => {
    if (model.get("message") === READING)
      model.set("message", "No answer from Python yet: it is still busy, or the kernel is not running.");
  }, PATIENCE);
}

async function send(model, zone, files) {
  const most = model.get("most_bytes");
  const total = files.reduce((sum, [, file]) => sum + file.size, 0);
  if (!files.length) return;
  if (total > most) {
    model.set("message", `These files have ${Math.round(total / 2 ** 20)} MiB; at most ${most / 2 ** 20} go at once.`);
    return;
  }
  const contents = await Promise.all(files.map(async ([, file]) => new DataView(await file.arrayBuffer())));
  reading(model);
  model.send({ kind: "add", zone, names: files.map(([name]) => name) }, undefined, contents);
}

function place(model, zone, title, hint) {
  const chooser = element("input", {
    type: "file",
    multiple: true,
    accept: "image/*",
    hidden: true,
    "data-zone": zone,
    onchange: () => {
      send(
        model,
        zone,
        [...chooser.files].map((file) => [file.name, file]),
      );
      chooser.value = "";
    },
  });
  const open = () => chooser.click();
  const box = element(
    "div",
    {
      class: "own-place",
      role: "button",
      tabindex: "0",
      "aria-label": `${title}: drop pictures here, or press Enter to choose files`,
      "data-place": zone,
      onclick: open,
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        open();
      },
    },
    element("b", {}, title),
    element("span", {}, hint),
  );
  const over = (on) => (event) => {
    event.preventDefault();
    event.stopPropagation();
    box.classList.toggle("over", on);
  };
  box.addEventListener("dragenter", over(true));
  box.addEventListener("dragover", over(true));
  box.addEventListener("dragleave", over(false));
  box.addEventListener("drop", async (event) => {
    over(false)(event);
    try {
      await send(model, zone, await dropped(event.dataTransfer));
    } catch (error) {
      model.set("message", `These files could not be read: ${error.message}`);
    }
  });
  return [box, chooser];
}

function ofClass(model, known) {
  const name = element("input", {
    type: "text",
    value: known.name,
    "aria-label": `name of the class ${known.name}`,
    onchange: () => model.send({ kind: "rename", old: known.name, new: name.value }),
    onkeydown: (event) => {
      event.stopPropagation(); // a notebook would take letters for commands
      if (event.key === "Enter") name.blur();
    },
  });
  const count = known.count === 1 ? "1 picture" : `${known.count} pictures`;
  const gone = element(
    "button",
    { title: `leave the class ${known.name} out`, onclick: () => model.send({ kind: "remove", name: known.name }) },
    "×",
  );
  const images = known.pictures.map((src) => element("img", { src, alt: known.name }));
  return element("div", { class: "own-class" }, element("div", {}, name, gone), ...images, element("small", {}, count));
}

function ofAnswer(found) {
  const share = `${Math.round(100 * found.share)} %`;
  const nearest = `most like: ${found.best} (${share}, if it belongs to a class)`;
  const said = [element("b", {}, found.answer), element("span", {}, found.refused ? nearest : share)];
  const bar = element("meter", { min: 0, max: 1, value: found.share, "aria-label": `${found.best} ${share}` });
  const picture = element("img", { src: found.picture, alt: found.file });
  const what = element("div", {}, ...said, bar, element("small", { title: found.file }, found.file));
  return element("div", { class: `own-answer${found.refused ? " refused" : ""}` }, picture, what);
}

// Which network answers, where there is a choice.
function networks(model) {
  const choice = element("select", {
    onchange: () => {
      reading(model);
      model.send({ kind: "choose", network: choice.value });
    },
    onkeydown: (event) => event.stopPropagation(),
  });
  for (const known of model.get("networks")) choice.append(element("option", { value: known.name }, known.label));
  const box = element("label", { hidden: model.get("networks").length < 2 }, "Answered by ", choice);
  return [box, () => (choice.value = model.get("network"))];
}

function render({ model, el }) {
  const classes = element("div", { class: "own-row", "data-list": "classes" });
  const answers = element("div", { class: "own-row", "data-list": "answers" });
  const message = element("p", { class: "own-message", role: "status" });
  const [choice, show] = networks(model);
  const draw = () => {
    show();
    classes.replaceChildren(...model.get("classes").map((known) => ofClass(model, known)));
    answers.replaceChildren(...model.get("answers").map(ofAnswer));
    message.textContent = model.get("message");
  };
  const root = element(
    "div",
    { class: "own-images" },
    element(
      "div",
      { class: "own-places" },
      ...place(model, "classes", "1. Your classes", "drop folders, or cat 1.jpg, cat 2.jpg, dog 1.jpg …"),
      ...place(model, "query", "2. Pictures to classify", "drop any number"),
    ),
    message,
    choice,
    element("h4", {}, "Classes ", element("small", {}, "(a name can be changed; two of one name become one class)")),
    classes,
    element("h4", {}, "Answers"),
    answers,
  );
  // A file that misses its place must not make the browser leave the page.
  for (const kind of ["dragover", "drop"]) root.addEventListener(kind, (event) => event.preventDefault());
  for (const name of FOLLOWED) model.on(`change:${name}`, draw);
  draw();
  el.append(root);
  return () => {
    for (const name of FOLLOWED) model.off(`change:${name}`, draw);
  };
}

export default { render };
