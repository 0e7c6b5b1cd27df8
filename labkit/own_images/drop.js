// The widget of notebook 12. Pictures are dropped, or chosen, on one of two places; Python answers. What is shown comes
// from Python as text and pictures and is never read as HTML.

const PATIENCE = 20000; // ms
const READING = "Reading …";
const GONE = "Python is gone: run this cell again.";
const LATE = "No answer from Python yet: it is still busy, or this cell must be run again.";

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

// Ask Python for something. A kernel that is gone answers nothing, and one that is busy answers late.
function tell(model, message, buffers) {
  clearTimeout(model.late); // of an earlier question
  model.set("message", READING);
  try {
    model.send(message, undefined, buffers);
  } catch {
    model.set("message", GONE);
  }
  model.late = setTimeout(() => {
    if (model.get("message") === READING) model.set("message", LATE);
  }, PATIENCE);
}

async function add(model, zone, given) {
  try {
    const files = await given;
    const most = model.get("most_bytes");
    const total = files.reduce((sum, [, file]) => sum + file.size, 0);
    if (!files.length) return;
    if (total > most) {
      const size = Math.round(total / 2 ** 20);
      model.set("message", `These files have ${size} MiB; at most ${most / 2 ** 20} go at once.`);
      return;
    }
    const contents = await Promise.all(files.map(async ([, file]) => new DataView(await file.arrayBuffer())));
    tell(model, { kind: "add", zone, names: files.map(([name]) => name) }, contents);
  } catch (error) {
    model.set("message", `These files could not be read: ${error.message}`);
  }
}

function place(model, zone, title, hint) {
  const chooser = element("input", {
    type: "file",
    multiple: true,
    accept: "image/*",
    hidden: true,
    "data-zone": zone,
    onchange: () => {
      const files = [...chooser.files].map((file) => [file.name, file]);
      add(model, zone, files);
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
  box.addEventListener("drop", (event) => {
    over(false)(event);
    add(model, zone, dropped(event.dataTransfer));
  });
  return [box, chooser];
}

// A class: its name, which can be changed, and its pictures.
function ofClass(model) {
  const part = { name: "", wanted: null };
  const rename = () => {
    part.wanted = field.value.trim();
    if (part.wanted !== part.name) tell(model, { kind: "rename", old: part.name, new: part.wanted });
  };
  const remove = () => tell(model, { kind: "remove", name: part.name });
  const field = element("input", { type: "text", onchange: rename });
  const gone = element("button", { onclick: remove }, "×");
  const [images, count] = [element("span"), element("small")];
  part.box = element("div", { class: "own-class" }, element("div", {}, field, gone), images, count);
  part.show = (known) => {
    if (!part.name || field.value.trim() === part.wanted) field.value = known.name;
    part.name = known.name;
    field.setAttribute("aria-label", `name of the class ${known.name}`);
    for (const said of ["title", "aria-label"]) gone.setAttribute(said, `leave the class ${known.name} out`);
    images.replaceChildren(...known.pictures.map((src) => element("img", { src, alt: known.name })));
    count.textContent = known.count === 1 ? "1 picture" : `${known.count} pictures`;
  };
  // Python has answered: a name that it refused is taken back, unless somebody types on.
  part.settle = () => {
    if (field.value.trim() === part.wanted) field.value = part.name;
    part.wanted = null;
  };
  return part;
}

// The classes. What is left of them stays in the page when others change: somebody may be typing there. Where the
// keyboard was on a class that goes, it goes to the next one's ×, or to `otherwise`.
function classList(model, otherwise) {
  const row = element("div", { class: "own-row", "data-list": "classes" });
  let parts = new Map(); // by name
  const show = () => {
    const classes = model.get("classes");
    const left = new Set(classes.map(({ name }) => name));
    const renamed = (name) => [...parts.values()].find((part) => part.wanted === name && !left.has(part.name));
    const focused = document.activeElement;
    const at = [...row.children].findIndex((box) => box.contains(focused));
    const shown = classes.map((known) => {
      const part = renamed(known.name) ?? parts.get(known.name) ?? ofClass(model);
      part.show(known);
      return part;
    });
    parts = new Map(shown.map((part) => [part.name, part]));
    const boxes = shown.map((part) => part.box);
    for (const box of [...row.children]) if (!boxes.includes(box)) box.remove();
    boxes.forEach((box, i) => row.children[i] === box || row.insertBefore(box, row.children[i] ?? null));
    if (at < 0 || document.activeElement === focused) return;
    const next = boxes[Math.min(at, boxes.length - 1)]?.querySelector("button") ?? otherwise;
    (row.contains(focused) ? focused : next).focus();
  };
  return { row, show, settle: () => parts.forEach((part) => part.settle()) };
}

function ofAnswer(found) {
  const share = `${Math.round(100 * found.share)}\u00a0%`;
  const nearest = `most like: ${found.best} (${share}, if it belongs to a class)`;
  const said = [element("b", {}, found.answer), element("span", {}, found.refused ? nearest : share)];
  const bar = element("meter", { min: 0, max: 1, value: found.share, "aria-label": `${found.best} ${share}` });
  const picture = element("img", { src: found.picture, alt: found.file });
  const what = element("div", {}, ...said, bar, element("small", { title: found.file }, found.file));
  return element("div", { class: `own-answer${found.refused ? " refused" : ""}` }, picture, what);
}

// Which network answers, where there is a choice.
function networks(model) {
  const ask = () => tell(model, { kind: "choose", network: choice.value });
  const choice = element("select", { onchange: ask });
  for (const known of model.get("networks")) choice.append(element("option", { value: known.name }, known.label));
  const box = element("label", { hidden: model.get("networks").length < 2 }, "Answered by ", choice);
  return [box, () => (choice.value = model.get("network"))];
}

function render({ model, el }) {
  const places = [
    place(model, "classes", "1. Your classes", "drop folders, or cat 1.jpg, cat 2.jpg, dog 1.jpg …"),
    place(model, "query", "2. Pictures to classify", "drop any number"),
  ];
  const classes = classList(model, places[0][0]);
  const answers = element("div", { class: "own-row", "data-list": "answers" });
  const message = element("p", { class: "own-message", role: "status" });
  const [choice, showChoice] = networks(model);
  const root = element(
    "div",
    { class: "own-images", onkeydown: (event) => event.stopPropagation() }, // a notebook takes letters for commands
    element("div", { class: "own-places" }, ...places.flat()),
    message,
    choice,
    element("h4", {}, "Classes ", element("small", {}, "(a name can be changed; two of one name become one class)")),
    classes.row,
    element("h4", {}, "Answers"),
    answers,
  );
  // A file that misses its place must not make the browser leave the page.
  for (const kind of ["dragover", "drop"]) root.addEventListener(kind, (event) => event.preventDefault());
  const follow = {
    classes: classes.show,
    answers: () => answers.replaceChildren(...model.get("answers").map(ofAnswer)),
    network: showChoice,
    message() {
      message.textContent = model.get("message");
      if (model.get("message") === READING) return;
      classes.settle();
      showChoice(); // which Python may have refused
    },
  };
  for (const [name, show] of Object.entries(follow)) {
    model.on(`change:${name}`, show);
    show();
  }
  el.append(root);
  return () => {
    for (const [name, show] of Object.entries(follow)) model.off(`change:${name}`, show);
  };
}

export default { render };
