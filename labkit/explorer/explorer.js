// Draws the explorer from one precomputed buffer (see explorer.py). No library, nothing fetched.
// A state is the widget's model; `view` turns it into one SVG, which is also what is exported.

const WIDTH = 920, HEIGHT = 510, SIDE = 250, GREEN = "#009E73", RED = "#D55E00", BLUE = "#0072B2", GREY = "#888888";
const CHOICES = ["checkpoint", "mode", "task", "query", "support_class", "picture", "overlay"];
const OVERLAYS = ["none", "offset length", "score", "similarity", "filter norm"];
const STATE = [...CHOICES, "row", "column", "locked", "time"];

const clamp = (v, low, high) => Math.min(high, Math.max(low, v));
const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const fixed = (v, digits = 2) => v.toFixed(digits);

// The factor by which a channel has grown at time t, for filter values f (labkit/dmf/alignment.py).
function gain(f, t, rule, steps) {
  if (rule === "none") return 1;
  if (rule === "euler" || rule === "recurrent") {
    const step = rule === "euler" ? 1 / steps : 1, whole = Math.floor(t * steps + 1e-9), rest = t * steps - whole;
    return (1 + f * step) ** whole * (1 + f * step * rest);
  }
  if (rule === "rk4") { const z = f * t; return 1 + z * (1 + (z / 2) * (1 + (z / 3) * (1 + z / 4))); }
  return Math.exp(f * t);
}

class Data {
  constructor(header, view) {
    this.header = header;
    this.bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    this.urls = new Map();
  }
  floats(start, count) { return new Float32Array(this.bytes, start, count); }

  // A picture of `size` x `size` pixels at `start` as a PNG, made once.
  picture(start, size) {
    if (!this.urls.has(start)) {
      const pixels = new Uint8Array(this.bytes, start, size * size * 3);
      const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
      const context = canvas.getContext("2d"), image = context.createImageData(size, size);
      for (let i = 0; i < size * size; i++) {
        image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
        image.data[4 * i + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      this.urls.set(start, canvas.toDataURL());
    }
    return this.urls.get(start);
  }
}

// Everything one view shows, as numbers: task, block, and functions of class and cell.
function look(data, s) {
  const task = data.header.tasks[s.task], b = data.header.blocks[s.task][s.checkpoint];
  const q = clamp(s.query, 0, task.queries - 1), n = clamp(s.support_class, 0, task.names.length - 1);
  const hw = b.h * b.w, N = task.names.length, row = clamp(s.row, 0, b.h - 1), column = clamp(s.column, 0, b.w - 1);
  const cell = row * b.w + column;
  const of = (start, size, c) => data.floats(start + 4 * size * (q * N + c), size);
  const points = of(b.points[s.mode], 18 * hw, n);
  const looks = (c) => { const p = of(b.points[s.mode], 18 * hw, c); return Array.from({ length: 9 }, (_, tap) => [p[2 * tap * hw + cell], p[(2 * tap + 1) * hw + cell]]); };
  const filters = (c) => of(b.filters[s.mode], b.groups * hw, c);
  const whatIf = s.whatIf && s.whatIf.key === keyOf(s) ? s.whatIf : null;
  const gains = (c, k, t) => {
    const f = filters(c), own = whatIf && whatIf.answer && c === n && k === cell ? whatIf.answer.filter : null;
    return (g) => gain(own ? own[g] : f[g * hw + k], t, b.rule, b.steps);
  };
  const scoreMap = (c, t) => {
    const dots = of(b.dots, b.groups * hw, c), rest = of(b.rest, hw, c);
    return Array.from({ length: hw }, (_, k) => {
      const grown = gains(c, k, t);
      let sum = rest[k];
      for (let g = 0; g < b.groups; g++) sum += grown(g) * dots[g * hw + k];
      return sum * b.scale;
    });
  };
  const energy = data.floats(b.energy + 4 * b.groups * hw * q, b.groups * hw);
  const still = data.floats(b.restEnergy + 4 * hw * q, hw);
  return {
    task, b, q, n, N, hw, row, column, cell, whatIf, filters, scoreMap, looks,
    shown: (c) => (whatIf && c === n ? whatIf.points : looks(c)),
    ghost: (tap) => [row + Math.floor(tap / 3) - 1, column + (tap % 3) - 1].map((v) => b.stride * v + (b.stride - 1) / 2),
    lengths: () => Array.from({ length: hw }, (_, k) => {
      let sum = 0;
      for (let tap = 0; tap < 9; tap++) {
        const y = points[2 * tap * hw + k], x = points[(2 * tap + 1) * hw + k];
        const gy = b.stride * (Math.floor(k / b.w) + Math.floor(tap / 3) - 1) + (b.stride - 1) / 2;
        const gx = b.stride * ((k % b.w) + (tap % 3) - 1) + (b.stride - 1) / 2;
        sum += Math.hypot(y - gy, x - gx) / 9;
      }
      return sum;
    }),
    norms: () => { const f = filters(n); return Array.from({ length: hw }, (_, k) => { let s2 = 0; for (let g = 0; g < b.groups; g++) s2 += f[g * hw + k] ** 2; return Math.sqrt(s2); }); },
    similarity: () => Array.from(of(b.similarity, hw * hw, n).subarray(cell * hw, (cell + 1) * hw)),
    aligned: (t) => Array.from({ length: hw }, (_, k) => { const grown = gains(n, k, t); let sum = still[k]; for (let g = 0; g < b.groups; g++) sum += grown(g) ** 2 * energy[g * hw + k]; return Math.sqrt(sum); }),
    supportStart: (c, k) => task.support + 3 * task.size ** 2 * (c * task.pictures + k),
    queryStart: task.query + 3 * task.size ** 2 * q,
  };
}

const keyOf = (s) => [s.task, s.checkpoint, s.mode, s.query, s.support_class, s.row, s.column].join();

function colour(palette, v, low, high) {
  return palette[clamp(Math.round(((v - low) / (high - low || 1)) * (palette.length - 1)), 0, palette.length - 1)];
}

function heat(palette, values, h, w, x, y, side, low, high, opacity = 1) {
  const cw = side / w, ch = side / h;
  const cells = values.map((v, k) => `<rect x="${fixed(x + (k % w) * cw)}" y="${fixed(y + Math.floor(k / w) * ch)}" width="${fixed(cw)}" height="${fixed(ch)}" fill="${colour(palette, v, low, high)}"/>`);
  return `<g shape-rendering="crispEdges" fill-opacity="${opacity}">${cells.join("")}</g>`;
}

// A colour bar under a map with its ends and, on it, the value at the position.
function scale(palette, x, y, side, low, high, here, digits, what = "here") {
  const strip = palette.map((c, k) => `<rect x="${fixed(x + (k * side) / palette.length)}" y="${y}" width="${fixed(side / palette.length)}" height="6" fill="${c}"/>`);
  const at = x + clamp((here - low) / (high - low || 1), 0, 1) * side;
  return `<g shape-rendering="crispEdges">${strip.join("")}</g><path d="M${fixed(at)},${y + 5}l4,6h-8z" fill="${GREEN}" stroke="white" stroke-width="0.8"/>`
    + label(x, y + 22, fixed(low, digits), 'class="small"') + label(x + side, y + 22, fixed(high, digits), 'class="small" text-anchor="end"')
    + label(x + side / 2, y + 22, `${what} ${fixed(here, digits)}`, 'class="small" text-anchor="middle"');
}

// From the regular grid to where the network looks: white with a dark edge, to be seen on any picture.
function arrow([x0, y0], [x1, y1], gap) {
  const long = Math.hypot(x1 - x0, y1 - y0);
  if (long < gap + 2) return "";
  const [u, v] = [(x1 - x0) / long, (y1 - y0) / long], [tx, ty] = [x1 - gap * u, y1 - gap * v], back = Math.min(8, long - gap);
  const [bx, by] = [tx - back * u, ty - back * v];
  const head = [[tx, ty], [bx - 3.4 * v, by + 3.4 * u], [bx + 3.4 * v, by - 3.4 * u]].map((p) => p.map((z) => fixed(z)).join()).join(" ");
  const line = (colour, width, more) => `<line x1="${fixed(x0)}" y1="${fixed(y0)}" x2="${fixed(bx)}" y2="${fixed(by)}" stroke="${colour}" stroke-width="${width}" ${more}/>`;
  return `${line("#000", 3, 'stroke-opacity="0.4"')}${line("white", 1.4, 'class="arrow"')}<polygon points="${head}" fill="white" stroke="#000" stroke-opacity="0.4" stroke-width="0.8"/>`;
}

const label = (x, y, text, more = "") => `<text x="${x}" y="${y}" ${more}>${escaped(text)}</text>`;

// A small map with its title above and its colour bar below.
function tile(palette, values, l, x, y, side, title, low, high, digits = 1, what = "here") {
  const mark = `<rect x="${x + (l.column * side) / l.b.w}" y="${y + (l.row * side) / l.b.h}" width="${side / l.b.w}" height="${side / l.b.h}" fill="none" stroke="${GREEN}" stroke-width="2.5"/>`;
  return label(x, y - 7, title) + heat(palette, values, l.b.h, l.b.w, x, y, side, low, high) + mark
    + scale(palette, x, y + side + 5, side, low, high, values[l.cell], digits, what);
}

function view(data, s) {
  const l = look(data, s), { b, task } = l, palette = data.header.palette, t = s.time, out = [];
  const maps = task.names.map((_, c) => l.scoreMap(c, t)), scores = maps.map((m) => m.reduce((a, v) => a + v, 0) / b.cells), best = scores.indexOf(Math.max(...scores));
  const truth = task.labels ? task.labels[l.q] : null;
  const Y = 26, QX = 2, SX = 2 + SIDE + 26, CX = SX + SIDE + 34, px = SIDE / task.size;
  const place = ([y, x], x0) => [x0 + (x + 0.5) * px, Y + (y + 0.5) * px];
  const image = (start, x, y, side) => `<image href="${data.picture(start, task.size)}" x="${x}" y="${y}" width="${side}" height="${side}" image-rendering="pixelated" preserveAspectRatio="none"/>`;

  // Query, with an overlay of its positions.
  out.push(label(QX, 16, `Query ${l.q + 1}, cell (${l.row}, ${l.column})${s.locked ? ", locked" : ""}`, 'class="title"'), image(l.queryStart, QX, Y, SIDE));
  const overlays = { "offset length": l.lengths, score: () => l.scoreMap(l.n, t), "filter norm": l.norms };
  if (overlays[s.overlay]) {
    const values = overlays[s.overlay](), low = Math.min(...values), high = Math.max(...values);
    out.push(heat(palette, values, b.h, b.w, QX, Y, SIDE, low, high, 0.62));
    out.push(scale(palette, QX, Y + SIDE + 4, SIDE, low, high, values[l.cell], 1, s.overlay === "offset length" ? "offset length, px:" : `${s.overlay}:`));
  }
  const [qx, qy] = place([4, 5].map((_, i) => b.stride * [l.row, l.column][i] + (b.stride - 1) / 2), QX);
  out.push(`<circle class="position" cx="${fixed(qx)}" cy="${fixed(qy)}" r="8" fill="${GREEN}" stroke="white" stroke-width="2"/>`);

  // Support, with the nine points.
  const k = clamp(s.picture, 0, task.shots[l.n] - 1), shown = l.shown(l.n);
  out.push(label(SX, 16, `Support: ${task.names[l.n]}`.slice(0, 34), 'class="title"'), image(l.supportStart(l.n, k), SX, Y, SIDE));
  if (s.overlay === "similarity") {
    const values = l.similarity();
    out.push(heat(palette, values, b.h, b.w, SX, Y, SIDE, -1, 1, 0.62), label(QX, Y + SIDE + 16, "similarity to the query position: cosine, -1 to 1", 'class="small"'));
  }
  let outside = 0, unread = 0;
  const ghosts = [], arrows = [], dots = [];
  for (let tap = 0; tap < 9; tap++) {
    const at = shown[tap], [gx, gy] = place(l.ghost(tap), SX).map((v, i) => clamp(v, [SX, Y][i], [SX, Y][i] + SIDE));
    ghosts.push(`<circle class="ghost" cx="${fixed(gx)}" cy="${fixed(gy)}" r="4" fill="white" fill-opacity="0.75" stroke="#333" stroke-width="0.8"/>`);
    if (!at) { unread++; continue; }
    const far = at.some((v) => v < -0.5 || v > task.size - 0.5);
    outside += far;
    const [x, y] = place(at, SX), dx = clamp(x, SX, SX + SIDE), dy = clamp(y, Y, Y + SIDE);
    arrows.push(arrow([gx, gy], [dx, dy], 9));
    dots.push(`<g class="dot" data-tap="${tap}" data-y="${fixed(at[0], 3)}" data-x="${fixed(at[1], 3)}" data-outside="${far}"><circle cx="${fixed(dx)}" cy="${fixed(dy)}" r="8.5" fill="${far ? "white" : RED}" stroke="${far ? RED : "white"}" stroke-width="1.6"/><text x="${fixed(dx)}" y="${fixed(dy + 3.6)}" text-anchor="middle" class="number" fill="${far ? RED : "white"}">${tap + 1}</text></g>`);
  }
  out.push(...ghosts, ...arrows, ...dots);
  const away = unread ? `, ${unread} taken away` : "";
  out.push(label(SX, Y + SIDE + 16, `${outside} of 9 points outside the picture${away}`, 'class="small outside"'));
  if (outside) out.push(label(SX, Y + SIDE + 31, "(hollow, on its edge): they read zeros, or partly", 'class="small"'));

  // All classes, with their scores.
  const most = Math.max(...scores.map(Math.abs), 1e-9), high = Math.min(52, 260 / l.N), thumb = high - 6, MX = WIDTH - 12 - thumb;
  const all = maps.flat(), least = Math.min(...all), largest = Math.max(...all);
  out.push(label(CX, 16, `Scores at t = ${fixed(t)}`, 'class="title"'), label(MX + thumb, 16, "score maps", 'class="small" text-anchor="end"'));
  task.names.forEach((name, c) => {
    const y = Y + c * high, x = CX + thumb + 8, length = Math.max(1, (Math.max(0, scores[c]) / most) * 160), tight = high < 36;
    const notes = [c === truth ? "true" : "", c === best ? "predicted" : ""].filter(Boolean).join(", "), room = (tight ? 34 : 40) - notes.length;
    const shown = (name.length > room ? `${name.slice(0, room - 1)}…` : name) + (notes ? ` (${notes})` : "");
    out.push(`<g class="class" data-class="${c}" data-score="${scores[c]}"><rect x="${CX - 4}" y="${y - 3}" width="${WIDTH - 4 - CX}" height="${high}" rx="5" fill="${c === l.n ? BLUE : "transparent"}" fill-opacity="0.16"/>`,
      image(l.supportStart(c, clamp(k, 0, task.shots[c] - 1)), CX, y, thumb),
      ...l.shown(c).filter(Boolean).map(([v, u]) => [((u + 0.5) * thumb) / task.size, ((v + 0.5) * thumb) / task.size].map((z) => clamp(z, 0, thumb)))
        .map(([u, v]) => `<circle cx="${fixed(CX + u)}" cy="${fixed(y + v)}" r="${tight ? 1.2 : 2.2}" fill="${RED}" stroke="white" stroke-width="${tight ? 0.4 : 0.7}"/>`),
      heat(palette, maps[c], b.h, b.w, MX, y, thumb, least, largest),
      `<rect x="${x}" y="${tight ? y : y + 20}" width="${fixed(length)}" height="${tight ? thumb : 12}" fill="${c === truth ? GREEN : GREY}" fill-opacity="${tight ? 0.4 : 1}"/>`,
      label(x + (tight ? 3 : 0), tight ? y + thumb / 2 + 4 : y + 13, shown, c === best ? 'class="best"' : ""),
      tight ? label(MX - 8, y + thumb / 2 + 4, fixed(scores[c]), 'text-anchor="end"') : label(fixed(x + length + 6), y + 30, fixed(scores[c])), "</g>");
  });
  if (l.whatIf && l.whatIf.answer) {
    const a = l.whatIf.answer;
    out.push(label(CX, Y + SIDE + 31, `What if, at t = 1: ${fixed(a.score, 3)} instead of ${fixed(a.was, 3)}`, `class="what-if" data-serial="${a.serial}"`));
  }

  // Alignment: query, score maps, filter.
  const TY = 346, side = 128, gap = 22;
  const start = l.aligned(0), grown = l.aligned(t), full = l.aligned(1), top = Math.max(...start, ...full);
  const before = l.scoreMap(l.n, 0), after = l.scoreMap(l.n, t), whole = [...before, ...l.scoreMap(l.n, 1)];
  const low = Math.min(...whole), up = Math.max(...whole);
  out.push(tile(palette, grown, l, QX, TY, side, `Aligned query, t = ${fixed(t)}`, 0, top, 1, "norm"));
  out.push(tile(palette, before, l, QX + side + gap, TY, side, "Score map before", low, up, 2));
  out.push(tile(palette, after, l, QX + 2 * (side + gap), TY, side, `Score map, t = ${fixed(t)}`, low, up, 2));
  const FX = QX + 3 * (side + gap) + 26, width = 910 - FX, f = l.filters(l.n), bar = width / b.groups;
  const own = l.whatIf && l.whatIf.answer ? l.whatIf.answer.filter : null;
  out.push(label(FX, TY - 7, `Filter at this position, ${b.groups} groups`), `<line x1="${FX}" y1="${TY + side}" x2="${FX + width}" y2="${TY + side}" stroke="currentColor"/>`);
  for (const v of [0, 0.5, 1]) out.push(label(FX - 5, TY + side * (1 - v) + 4, v, 'text-anchor="end" class="small"'), `<line x1="${FX}" y1="${TY + side * (1 - v)}" x2="${FX + width}" y2="${TY + side * (1 - v)}" stroke="currentColor" stroke-opacity="0.2"/>`);
  for (let g = 0; g < b.groups; g++) {
    const v = own ? own[g] : f[g * l.hw + l.cell], old = f[g * l.hw + l.cell];
    out.push(`<rect class="bar" data-value="${fixed(v, 4)}" x="${fixed(FX + g * bar + bar * 0.1)}" y="${fixed(TY + side * (1 - v))}" width="${fixed(bar * 0.8)}" height="${fixed(side * v)}" fill="${BLUE}"/>`);
    if (own) out.push(`<line x1="${fixed(FX + g * bar)}" x2="${fixed(FX + (g + 1) * bar)}" y1="${fixed(TY + side * (1 - old))}" y2="${fixed(TY + side * (1 - old))}" stroke="${RED}" stroke-width="2"/>`);
  }
  out.push(label(FX, TY + side + 15, b.groups > 1 ? `group 1 to ${b.groups}` : "one group", 'class="small"'));
  const moved = l.whatIf && l.whatIf.answer ? ` With the moved points ${task.names[l.n]} scores ${fixed(l.whatIf.answer.score, 3)} instead of ${fixed(l.whatIf.answer.was, 3)}.` : "";
  const answer = truth === null ? "" : best === truth ? ", right" : ", wrong";
  const spoken = `Query ${l.q + 1}, row ${l.row}, column ${l.column}: ${outside} of 9 points outside. Predicted ${task.names[best]}, ${fixed(scores[best])}${answer}.${moved}`;
  return { svg: out.join(""), spoken, layout: { QX, SX, CX, Y, px, high, TY }, l };
}

const STYLE = "text{font:12px system-ui,sans-serif;fill:currentColor}.title,.best{font-weight:600}.small{font-size:11px;opacity:.85}.number{font-size:10px;font-weight:700}.what-if{font-weight:600}.dot{cursor:grab}.number[fill=white]{fill:#fff}.number:not([fill=white]){fill:#D55E00}";

function render({ model, el }) {
  let data = new Data(model.get("header"), model.get("buffer"));
  let whatIf = null, chosen = null, serial = 0, current = null;
  const $ = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
    made.append(...children);
    return made;
  };
  const names = { checkpoint: "Network", mode: "Offsets", task: "Episode", query: "Query", support_class: "Class", picture: "Picture", overlay: "Overlay" };
  const selects = Object.fromEntries(CHOICES.map((name) => [name, $("select", { name })]));
  const time = $("input", { type: "range", name: "time", min: 0, max: 1, step: 0.01, "aria-label": "time of the alignment" });
  const timeText = $("output", {}, "");
  const lock = $("button", { name: "lock", type: "button", "aria-pressed": "false" }, "Lock");
  const reset = $("button", { name: "reset", type: "button", title: "put moved points back" }, "Reset points");
  const save = $("button", { name: "export", type: "button" }, "Export");
  const stage = $("div", { class: "dmf-stage", role: "slider", tabindex: 0, "aria-label": "query position", "aria-valuemin": 0 });
  const said = $("div", { class: "dmf-said", role: "status", "aria-live": "polite" });
  const help = $("details", {}, $("summary", {}, "Keys"), $("p", {}, "Arrows move the query position; Enter or a click locks it. 1 to 9 choose a point: shift and arrows move it, 0 takes it away, Escape puts all back. Points can be dragged."));
  stage.innerHTML = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true"><style>${STYLE}</style><g></g></svg>`;
  const svg = stage.firstChild, group = svg.querySelector("g");
  const labelled = (text, ...controls) => $("label", {}, $("span", {}, text), ...controls);
  el.classList.add("dmf-explorer");
  el.replaceChildren($("div", { class: "dmf-controls" }, ...CHOICES.map((n) => labelled(names[n], selects[n])), labelled("Time", time, timeText), lock, reset, save), stage, said, help);

  const state = () => Object.assign(Object.fromEntries(STATE.map((n) => [n, model.get(n)])), { whatIf });
  const put = (changes) => { for (const [k, v] of Object.entries(changes)) model.set(k, v); model.save_changes(); };

  function options(select, texts, value) {
    const known = [...select.options].map((o) => o.text).join("\n");
    if (known !== texts.join("\n")) select.replaceChildren(...texts.map((t, i) => { const o = $("option", {}, t); o.value = i; return o; }));
    select.selectedIndex = value;
  }

  function draw() {
    const s = state(), header = data.header;
    if (whatIf && whatIf.key !== keyOf(s)) whatIf = s.whatIf = null;
    current = view(data, s);
    group.innerHTML = current.svg;
    const { task, b, n, q, row, column, cell } = current.l;
    options(selects.checkpoint, header.checkpoints, s.checkpoint);
    options(selects.mode, header.modes, s.mode);
    options(selects.task, header.tasks.map((t) => t.title), s.task);
    options(selects.query, Array.from({ length: task.queries }, (_, i) => `${i + 1}${task.labels ? `: ${task.names[task.labels[i]]}` : ""}`), q);
    options(selects.support_class, task.names, n);
    options(selects.picture, Array.from({ length: task.shots[n] }, (_, i) => `${i + 1} of ${task.shots[n]}`), clamp(s.picture, 0, task.shots[n] - 1));
    options(selects.overlay, OVERLAYS, OVERLAYS.indexOf(s.overlay));
    time.value = s.time;
    timeText.textContent = fixed(s.time);
    lock.setAttribute("aria-pressed", s.locked);
    stage.setAttribute("aria-valuemax", b.h * b.w - 1);
    stage.setAttribute("aria-valuenow", cell);
    stage.setAttribute("aria-valuetext", `row ${row}, column ${column}`);
    said.textContent = current.spoken;
  }

  for (const name of CHOICES) {
    selects[name].addEventListener("change", () => {
      const i = selects[name].selectedIndex;
      const changes = { [name]: name === "overlay" ? OVERLAYS[i] : i };
      if (name === "task") Object.assign(changes, { query: 0, picture: 0, support_class: (data.header.tasks[i].labels || [0])[0] });
      if (name === "query" && current.l.task.labels) changes.support_class = current.l.task.labels[i];
      put(changes);
    });
  }
  time.addEventListener("input", () => put({ time: Number(time.value) }));
  lock.addEventListener("click", () => put({ locked: !model.get("locked") }));
  reset.addEventListener("click", () => { whatIf = null; draw(); });
  save.addEventListener("click", exported);

  // Where a pointer is: a cell of the query, a pixel of the support picture, or a class.
  function under(event) {
    const box = svg.getBoundingClientRect(), { QX, SX, CX, Y, px, high } = current.layout, { task, b, N } = current.l;
    const x = ((event.clientX - box.left) / box.width) * WIDTH, y = ((event.clientY - box.top) / box.height) * HEIGHT;
    const inside = (x0) => x >= x0 && x <= x0 + SIDE && y >= Y && y <= Y + SIDE;
    const at = (x0) => [(y - Y) / px - 0.5, (x - x0) / px - 0.5];
    const found = { pixel: at(SX).map((v) => clamp(v, -0.5, task.size - 0.5)) };
    if (inside(QX)) found.cell = at(QX).map((v, i) => clamp(Math.round((v - (b.stride - 1) / 2) / b.stride), 0, (i ? b.w : b.h) - 1));
    if (x >= CX - 4 && y >= Y && y < Y + N * high) found.class = Math.floor((y - Y) / high);
    return found;
  }
  let dragged = null;
  stage.addEventListener("pointermove", (event) => {
    const found = under(event);
    if (dragged !== null) return move(dragged, found.pixel);
    if (found.cell && !model.get("locked") && keep(found.cell)) put({ row: found.cell[0], column: found.cell[1] });
  });
  const keep = ([r, c]) => r !== model.get("row") || c !== model.get("column");
  stage.addEventListener("pointerdown", (event) => {
    const dot = event.target.closest ? event.target.closest(".dot") : null;
    if (dot) { dragged = chosen = Number(dot.dataset.tap); stage.setPointerCapture(event.pointerId); event.preventDefault(); stage.focus(); }
  });
  stage.addEventListener("pointerup", () => { dragged = null; });
  stage.addEventListener("click", (event) => {
    const found = under(event);
    if (found.cell) put({ row: found.cell[0], column: found.cell[1], locked: keep(found.cell) || !model.get("locked") });
    else if (found.class !== undefined) put({ support_class: found.class });
  });
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const { b, row, column } = current.l;
    if (step && event.shiftKey && chosen !== null) {
      const at = current.l.shown(current.l.n)[chosen] || current.l.ghost(chosen);
      move(chosen, at.map((v, i) => v + step[i]));
    } else if (step) put({ row: clamp(row + step[0], 0, b.h - 1), column: clamp(column + step[1], 0, b.w - 1) });
    else if (/^[1-9]$/.test(event.key)) { chosen = Number(event.key) - 1; said.textContent = `Point ${event.key} chosen.`; }
    else if (event.key === "0" && chosen !== null) move(chosen, null);
    else if (event.key === "Escape") { whatIf = null; draw(); }
    else if (event.key === "Enter" || event.key === " ") put({ locked: !model.get("locked") });
    else return;
    event.preventDefault();
    event.stopPropagation();  // or the notebook would move to another cell
  });

  // Only this asks the kernel: what if one point were read elsewhere, or not at all?
  let waiting = false, pending = false;
  function move(tap, at) {
    const s = state(), key = keyOf(s);
    if (!whatIf) whatIf = { key, points: current.l.looks(current.l.n), answer: null };
    whatIf.points[tap] = at;
    draw();
    ask();
  }
  function ask() {
    if (waiting) { pending = true; return; }
    const s = state(), { q, n, row, column } = current.l;
    waiting = true;
    model.send({ kind: "what-if", serial: ++serial, task: s.task, checkpoint: s.checkpoint, mode: s.mode, query: q, support_class: n, row, column, points: whatIf.points });
  }
  const heard = (answer) => {
    if (answer.kind === "what-if") {
      waiting = false;
      if (whatIf && answer.serial === serial) whatIf.answer = answer;
      draw();
      if (pending && whatIf) { pending = false; ask(); }
    } else if (answer.kind === "export") said.textContent = `Written: figures/${answer.file}, .png and .json`;
    else if (answer.kind === "error") { waiting = false; said.textContent = answer.text; }
  };

  function exported() {
    const copy = svg.cloneNode(true);
    Object.entries({ width: 2 * WIDTH, height: 2 * HEIGHT, style: "color:#222;background:#fff" }).forEach(([k, v]) => copy.setAttribute(k, v));
    copy.insertBefore(Object.assign(document.createElementNS("http://www.w3.org/2000/svg", "rect")), copy.firstChild);
    Object.entries({ width: WIDTH, height: HEIGHT, fill: "#fff" }).forEach(([k, v]) => copy.firstChild.setAttribute(k, v));
    const text = new XMLSerializer().serializeToString(copy), picture = new Image();
    picture.onload = () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 2 * WIDTH, height: 2 * HEIGHT });
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      const s = state(), header = data.header, { whatIf: moved, ...rest } = s;
      const named = { ...rest, checkpoint: header.checkpoints[s.checkpoint], mode: header.modes[s.mode], task: header.tasks[s.task].title, points: moved ? moved.points : null };
      model.send({ kind: "export", svg: text, png: canvas.toDataURL("image/png").split(",")[1], state: named });
      said.textContent = "Exporting ... (needs the kernel)";
    };
    picture.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  }

  const renew = () => { data = new Data(model.get("header"), model.get("buffer")); draw(); };
  for (const name of STATE) model.on(`change:${name}`, draw);
  model.on("change:buffer", renew);
  model.on("msg:custom", heard);
  draw();
  return () => { for (const name of STATE) model.off(`change:${name}`, draw); model.off("change:buffer", renew); model.off("msg:custom", heard); };
}

export default { render };
