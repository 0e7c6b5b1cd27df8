// Pictures of one view as SVG, a stage each, in the pixels of the screen; and all of them as one text, for export.

import { clamp, gain, png, standings, verdict } from "./data.js";
import {
  BARS,
  EDGE,
  centreOf,
  fitted,
  frame,
  groupSpan,
  oneOnAnother,
  rowHeight,
  textLength,
  wrapped,
} from "./geometry.js";
import { asText, tag } from "./nodes.js";
import { STAGES, TITLES } from "./words.js";

export const GREEN = "#009E73";
const RED = "#D55E00";
const BLUE = "#3579b8";
const GREY = "#888888";
const DARK = "#111";

export const STYLE =
  "text{font:12px system-ui,sans-serif;fill:currentColor}.best{font-weight:700}.small{font-size:11px}" +
  ".number{font-size:11px;font-weight:700}.dot{cursor:grab}.onred{fill:#fff}" +
  ".red{fill:#D55E00}.title{font-weight:700;font-size:13px}";

export const fixed = (v, digits = 2) => (Math.abs(v) < 0.5 * 10 ** -digits ? 0 : v).toFixed(digits).replace("-", "−");
export const signed = (v, digits = 2) =>
  (Math.abs(v) < 0.5 * 10 ** -digits ? "±" : v < 0 ? "−" : "+") + fixed(Math.abs(v), digits);
const tenth = (v) => Math.round(10 * v) / 10; // of a pixel
// A share of the spread of the scores; see `standings`.
export const percent = (v, digits = 0) => `${signed(100 * v, digits)}\u00a0%`; // no line begins with "%"

const words = (x, y, text, more = {}) => tag("text", { x, y, ...more }, text);
const box = (x, y, width, height, more) => tag("rect", { x, y, width, height, ...more });
const image = (href, x, y, width, height) =>
  tag("image", {
    ...{ href, x, y, width, height },
    ...{ preserveAspectRatio: "none", style: "image-rendering:pixelated" },
  });

const channelsOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// A map of cells as an image, made once for a key.
function heat(store, key, palette, values, b, low, high) {
  const last = palette.length - 1;
  const share = (v) => clamp(Math.round(((v - low) / (high - low || 1)) * last), 0, last);
  return store.once(`heat ${key}`, () => png(b.h, b.w, (k) => channelsOf(palette[share(values[k])])));
}

// A colour bar with its two ends; what lies between is said in the caption.
function scale(store, palette, x, y, side, ends) {
  const strip = store.once(`strip ${palette.length}`, () => png(1, palette.length, (k) => channelsOf(palette[k])));
  return [
    image(strip, x, y, side, 6),
    words(x, y + 19, ends[0], { class: "small" }),
    words(x + side, y + 19, ends[1], { class: "small", "text-anchor": "end" }),
  ];
}

function picture(store, view, start, w) {
  const f = frame(w, view.task.size);
  return [f, image(store.picture(start, view.task.size), EDGE, EDGE, f.side, f.side)];
}

function overlaid(store, view, key, values, f, low, high) {
  const map = heat(store, key, store.header.palette, values, view.b, low, high);
  return tag("g", { opacity: 0.62 }, [image(map, EDGE, EDGE, f.side, f.side)]);
}

// The cell that is looked at: green inside white inside black, to be seen on any picture.
const outlined = (x, y, width, height, name = "cell") =>
  [
    [DARK, 6.5],
    ["#fff", 4.8],
    [GREEN, 2.6],
  ].map(([stroke, wide]) =>
    box(x, y, width, height, { fill: "none", stroke, "stroke-width": wide, rx: 2, class: name }),
  );

function drawQuery(store, view, s, w) {
  const [f, shown] = picture(store, view, view.queryStart, w);
  const out = [shown];
  const values = view.overlays[s.overlay]?.();
  const key = `${s.overlay} ${view.n} ${view.key}`;
  if (values) out.push(overlaid(store, view, key, values, f, Math.min(...values), Math.max(...values)));
  const [x, y] = f.place(centreOf(view.b, view.row, view.column));
  const cw = f.unit * view.b.stride;
  out.push(...outlined(x - cw / 2, y - cw / 2, cw, cw));
  const spot = { cx: x, cy: y, fill: GREEN };
  out.push(tag("circle", { ...spot, r: 7.5, fill: DARK }));
  out.push(tag("circle", { ...spot, class: "position", r: 5.5, stroke: "#fff", "stroke-width": 2 }));
  return [out, f.height];
}

// Small dots at `at`, as one element for a colour and not one for each dot, inside an edge of another colour.
const dotted = (at, radius, colour, edge, [width, opacity] = [0.6, 1]) => {
  const d = at.map(([x, y]) => `M${tenth(x)} ${tenth(y)}h0`).join("");
  const drawn = (stroke, r, more) =>
    tag("path", { d, stroke, "stroke-width": 2 * r, "stroke-linecap": "round", fill: "none", ...more });
  return [drawn(edge, radius + width, { "stroke-opacity": opacity }), drawn(colour, radius, {})];
};

// Arrows from the regular grid to where the network looks: white with a dark edge, to be seen on any picture.
function arrows(pairs, gap) {
  const [lines, heads] = ["", ""].map(() => []);
  for (const [[x0, y0], [x1, y1]] of pairs) {
    const long = Math.hypot(x1 - x0, y1 - y0);
    if (long < gap + 2) continue;
    const [u, v] = [(x1 - x0) / long, (y1 - y0) / long];
    const back = Math.min(7, long - gap);
    const [tx, ty] = [x1 - gap * u, y1 - gap * v];
    const [bx, by] = [tx - back * u, ty - back * v];
    const corners = [tx, ty, bx - 3 * v, by + 3 * u, bx + 3 * v, by - 3 * u].map(tenth);
    lines.push(`M${[x0, y0, bx, by].map(tenth).join(" ")}`);
    heads.push(`M${corners.join(" ")}Z`);
  }
  const d = lines.join("");
  return [
    tag("path", { d, stroke: "#000", "stroke-width": 3, "stroke-opacity": 0.4, fill: "none" }),
    tag("path", { d, stroke: "#fff", "stroke-width": 1.4, fill: "none" }),
    tag("path", {
      d: heads.join(""),
      ...{ fill: "#fff", stroke: "#000", "stroke-opacity": 0.4, "stroke-width": 0.8 },
    }),
  ];
}

function drawOffsets(store, view, s, w) {
  const [f, shown] = picture(store, view, view.supportStart(view.n, view.shot(view.n)), w);
  const out = [shown];
  if (s.overlay === "similarity")
    out.push(overlaid(store, view, `similarity ${view.n} ${view.cell} ${view.key}`, view.similarity(), f, -1, 1));
  const [grid, pairs, dots] = [[], [], []];
  const places = view.places(view.n, view.cell);
  const drawn = places.map((at) => at && f.hold(f.place(at)));
  const groups = oneOnAnother(drawn, 12);
  places.forEach((at, tap) => {
    const from = f.hold(f.place(view.ghost(tap)));
    grid.push(from);
    if (!at) return;
    const to = drawn[tap];
    pairs.push([from, to]);
    // Of points that lie on each other the topmost bears all numbers, and is hollow if one of them is.
    const group = groups.find((g) => g.includes(tap));
    const top = tap === group.at(-1);
    const far = (top ? group : [tap]).some((k) => view.outside(places[k]));
    const text = top ? group.map((k) => k + 1).join(",") : " ";
    const wide = top ? 17 + 9 * (group.length - 1) : 17;
    const edge = { fill: far ? "#fff" : RED, stroke: far ? RED : "#fff", "stroke-width": 1.8 };
    const data = {
      "data-tap": tap,
      "data-y": at[0].toFixed(3),
      "data-x": at[1].toFixed(3),
      "data-outside": view.outside(at),
      transform: `translate(${to.map((v) => v.toFixed(2))})`, // moved as a whole: its number is not set anew
    };
    dots.push(
      tag("g", { class: "dot", ...data }, [
        tag("circle", { r: 15, fill: "transparent" }), // large enough for a finger
        box(-wide / 2, -8.5, wide, 17, { rx: 8.5, ...edge }),
        words(0, 4, text, { "text-anchor": "middle", class: far ? "number red" : "number onred" }),
      ]),
    );
  });
  return [[...out, ...arrows(pairs, 9), ...dotted(grid, 2.6, "#fff", "#333"), ...dots], f.height];
}

// One bar a group from `low` to `high`, with ticks; `before` marks where moved points found it. All bars are one path,
// and those that are not pointed at another: a hundred elements less for every key.
function bars(view, s, values, before, w, height, low, high, ticks) {
  const { groups } = view.b;
  const y = (v) => 8 + (height - 14) * (1 - (v - low) / (high - low));
  const out = ticks.flatMap(([v, text]) => [
    words(BARS - 5, y(v) + 4, text, { class: "small", "text-anchor": "end" }),
    box(BARS, y(v), w - BARS, 0.7, { fill: "currentColor", opacity: v === low ? 0.8 : 0.2 }),
  ]);
  const path = (wanted, from, to, gap) =>
    values
      .map((_, g) => {
        if (!wanted(g)) return "";
        const [left, right] = groupSpan(g, groups, w);
        const gone = gap * (right - left);
        const [x0, x1, y0, y1] = [left + gone, right - gone, from(g), to(g)].map(tenth);
        return `M${x0} ${y0}V${y1}H${x1}V${y0}Z`;
      })
      .join("");
  const all = (wanted) =>
    path(
      wanted,
      () => y(low),
      (g) => Math.min(y(values[g]), y(low) - 0.5),
      0.08,
    );
  out.push(tag("path", { d: all((g) => s.group === null || s.group === g), fill: BLUE }));
  if (s.group !== null) out.push(tag("path", { d: all((g) => s.group !== g), fill: GREY, opacity: 0.5 }));
  if (before) {
    const marks = path(
      () => true,
      (g) => y(before[g]) + 1,
      (g) => y(before[g]) - 1,
      0,
    );
    out.push(tag("path", { d: marks, fill: RED }));
  }
  out.push(box(0, 0, w, height, { fill: "transparent" }));
  return tag("g", { class: "bars", "data-values": values.map((v) => v.toFixed(4)).join(" ") }, out);
}

function drawFilter(store, view, s, w) {
  const height = Math.round(clamp(0.45 * w, 88, 112));
  const f = view.filterAt(view.n, view.cell);
  const before = view.moves ? view.filterAt(view.n, view.cell, true) : null;
  const ticks = [
    [0, "0"],
    [0.5, "½"],
    [1, "1"],
  ];
  return [[bars(view, s, Array.from(f), before, w, height, 0, 1, ticks)], height];
}

function drawGain(store, view, s, w) {
  const height = Math.round(clamp(0.36 * w, 76, 92));
  const { b } = view;
  const grown = (f) => Array.from(f, (v) => gain(v, view.t, b.rule, b.steps));
  const before = view.moves ? grown(view.filterAt(view.n, view.cell, true)) : null;
  const most = Math.max(1.01, gain(1, 1, b.rule, b.steps));
  const ticks = [
    [1, "×1"],
    [most, `×${fixed(most, 1)}`],
  ];
  const out = [bars(view, s, grown(view.filterAt(view.n, view.cell)), before, w, height, 1, most, ticks)];
  // The channels below, each under the bar of its group.
  const channels = view.channels();
  const top = Math.max(1e-9, ...channels.flat().map(Math.abs)) * (b.rule === "none" || view.t === 1 ? 1 : 1.05);
  const [left, y0, tall] = [BARS, height + 6, 34];
  const wide = (w - left - 2) / channels.length;
  const path = (which, only) =>
    channels
      .map((v, c) => {
        const group = Math.floor((c * b.groups) / b.channels);
        if (only !== null && only !== group) return "";
        const long = (tall * Math.abs(v[which])) / top;
        const x = left + c * wide;
        return `M${tenth(x)} ${y0 + tall}V${tenth(y0 + tall - long)}H${tenth(x + wide)}V${y0 + tall}Z`;
      })
      .join("");
  out.push(tag("path", { d: path(1, s.group), fill: BLUE, class: "channels" }));
  out.push(tag("path", { d: path(0, null), fill: GREY }));
  out.push(box(left, y0 + tall, w - left, 0.7, { fill: "currentColor", opacity: 0.8 }));
  const named = { class: "small", "data-word": "channels", "text-anchor": "end", "font-style": "italic" };
  out.push(words(left - 5, y0 + tall, "X", named));
  return [out, y0 + tall + 4];
}

// The values of a map for those who read the page by a program, written once for a key.
const told = (store, key, values) => store.once(`told ${key}`, () => Array.from(values, (v) => v.toFixed(3)).join(" "));

// What the large map shows: a group's share, the class against the others, or the class alone.
export function mapShown(store, view, s) {
  const { diverging, palette } = store.header;
  if (s.group !== null) {
    const most = view.addedLimit();
    return { values: view.added(s.group, view.t), colours: diverging, low: -most, high: most, kind: "group" };
  }
  if (s.plain || view.N === 1) {
    const { low, high } = view.limits;
    return { values: Array.from(view.scoreMap(view.n, view.t)), colours: palette, low, high, kind: "plain" };
  }
  const most = view.limits.centred;
  return { values: view.centred(view.n, view.t), colours: diverging, low: -most, high: most, kind: "centred" };
}

function drawMap(store, view, s, w) {
  const { b } = view;
  const { values, colours, low, high, kind } = mapShown(store, view, s);
  const key = `${kind} ${s.group} ${view.n} ${view.key}`;
  const side = w - 2 * EDGE;
  const tall = (side * b.h) / b.w;
  const [cw, ch] = [side / b.w, tall / b.h];
  const out = [image(heat(store, key, colours, values, b, low, high), EDGE, EDGE, side, tall)];
  out.push(...outlined(EDGE + view.column * cw, EDGE + view.row * ch, cw, ch, "here"));
  const ends = kind === "plain" ? [fixed(low, 1), fixed(high, 1)] : [signed(low, 1), signed(high, 1)];
  out.push(...scale(store, colours, EDGE, EDGE + tall + 7, side, ends));
  if (kind !== "plain") out.push(words(w / 2, EDGE + tall + 26, "0", { class: "small", "text-anchor": "middle" }));
  return [[tag("g", { "data-values": told(store, key, values), class: "cells" }, out)], EDGE + tall + 32];
}

// A row for each class: its support picture, its score, and where it stands among the classes on a scale that neither
// the time nor the network moves: from all others tied above it to all others tied below it.
function drawScores(store, view, s, w) {
  const { task, N, truth, t, n } = view;
  const now = view.scores(t);
  const standing = standings(now);
  const bare = standings(view.scores(0));
  const learnt = view.moves ? standings(view.scores(t, true)) : null;
  const { best } = verdict(now, truth);
  const { diverging } = store.header;
  const most = view.limits.centred;
  const tall = rowHeight(N);
  const compact = tall < 38;
  const thumb = tall - 6;
  const left = thumb + 10;
  const right = w - thumb - 4;
  const room = right - (compact ? 50 : 92) - left;
  const end = N > 1 ? (N - 1) / N : 1;
  const x = (v) => left + (room * (clamp(v / end, -1, 1) + 1)) / 2;
  const out = [];
  task.names.forEach((name, c) => {
    const y = 3 + c * tall;
    const notes = c === best ? (c === truth ? "right" : "answer") : c === truth ? "true class" : "";
    const after = notes ? ` (${notes})` : "";
    const space = (compact ? room : right - left) - 4; // in low rows the score stands beside the name
    const bold = c === best;
    const title = fitted(name, space - textLength(after, bold), bold) + after;
    const change = percent(standing[c] - bare[c]);
    const bar = compact ? [y + thumb - 7, 6] : [y + 20, 13];
    const from = x(Math.min(0, standing[c]));
    const unit = thumb / task.size;
    const points = view
      .places(c, view.cell)
      .filter(Boolean)
      .map(([v, u]) => [3 + clamp((u + 0.5) * unit, 0, thumb), y + clamp((v + 0.5) * unit, 0, thumb)]);
    const values = N === 1 ? view.scoreMap(c, t) : view.centred(c, t);
    const map = heat(store, `row ${c} ${n} ${view.key}`, diverging, values, view.b, -most, most);
    const parts = [
      box(0, y - 3, w, tall, { rx: 5, fill: c === n ? BLUE : "transparent", "fill-opacity": 0.16 }),
      image(store.picture(view.supportStart(c, view.shot(c)), task.size), 3, y, thumb, thumb),
      ...dotted(points, compact ? 1 : 1.7, RED, "#fff"),
      words(left, y + 12, title, c === best ? { class: "best" } : {}),
      box(left, bar[0], room, bar[1], { fill: "currentColor", opacity: 0.08 }),
      box(from, bar[0], Math.max(1, x(Math.max(0, standing[c])) - from), bar[1], {
        fill: c === truth ? GREEN : GREY,
        class: "standing",
      }),
      box(x(0) - 0.5, bar[0], 1, bar[1], { fill: "currentColor", opacity: 0.6 }),
      box(x(bare[c]) - 1, bar[0] - 2, 2, bar[1] + 4, { fill: "currentColor", class: "bare" }),
      learnt && c === n ? box(x(learnt[c]) - 1, bar[0] - 3, 3, bar[1] + 6, { fill: RED }) : null,
      words(left + room + 6, bar[0] + bar[1] - (compact ? 0 : 2), fixed(now[c]), c === best ? { class: "best" } : {}),
      compact || N === 1
        ? null
        : words(right - 4, bar[0] + 11, change, { class: "small change", "text-anchor": "end" }),
      image(map, right + 2, y, thumb, thumb),
    ];
    const numbers = { "data-score": String(now[c]), "data-standing": String(standing[c]) };
    out.push(tag("g", { class: "class", "data-class": c, ...numbers }, parts));
  });
  const y = 3 + N * tall + 10;
  const named = { class: "small", "data-word": "standing" };
  out.push(words(left, y, percent(-end), named));
  out.push(words(x(0), y, "mean", { ...named, "text-anchor": "middle" }));
  out.push(words(left + room, y, percent(end), { ...named, "text-anchor": "end" }));
  if (!compact) {
    out.push(words(left + room + 6, y, "score", { class: "small", "data-word": "score" }));
    out.push(words(right - 4, y, "change", { class: "small", "data-word": "change", "text-anchor": "end" }));
  }
  // What the ticks mean, and the unit.
  out.push(box(left, y + 5, 2, 12, { fill: "currentColor" }));
  out.push(words(left + 7, y + 15, "without alignment", { class: "small", "data-word": "bare" }));
  const last = view.moves ? "unmoved" : "% of the spread";
  const more = { class: "small", "data-word": view.moves ? "moved" : "spread", "text-anchor": "end" };
  out.push(words(right - 4, y + 15, last, more));
  if (view.moves) out.push(box(right - 12 - textLength(last), y + 5, 3, 12, { fill: RED, class: "moved" }));
  return [out, y + 21];
}

const DRAWN = {
  ...{ query: drawQuery, offsets: drawOffsets, filter: drawFilter },
  ...{ gain: drawGain, map: drawMap, scores: drawScores },
};

// A stage `w` pixels wide: the elements of its drawing, and how high it is.
export const drawStage = (stage, store, view, s, w) => DRAWN[stage](store, view, s, w);

// What stands under the stages, of a `still` picture without what to do. The word that is explained in one of them:
export const MARGIN = "Margin";
export function captions(store, view, s, still = false) {
  const { b, t, truth, task } = view;
  const places = view.places(view.n, view.cell);
  const outside = places.filter((p) => p && view.outside(p)).length;
  const away = places.filter((p) => !p).length;
  const now = view.scores(t);
  const { best, hero, rival, margin } = verdict(now, truth);
  const bare = verdict(view.scores(0), hero).margin;
  const shown = mapShown(store, view, s);
  const here = shown.values[view.cell];
  const means = {
    group: `what group ${(s.group ?? 0) + 1} adds here by growing: ${signed(here)}`,
    plain: `${task.names[view.n]} here: ${fixed(here)}`,
    centred: `${here < 0 ? "against" : "for"} ${task.names[view.n]} here: ${signed(here)} from the mean of all maps`,
  };
  const overlay = view.overlays[s.overlay];
  const unit = s.overlay === "offset length" ? " px" : "";
  const over = overlay ? `; ${s.overlay} ${fixed(overlay()[view.cell])}${unit}` : "";
  const similar = s.overlay === "similarity" ? `; colour: similarity to the query's cell, −1 to 1` : "";
  const cell = `Cell in row ${view.row + 1}, column ${view.column + 1}`;
  const lock = s.locked && !still ? "; locked: click Lock to follow the mouse" : "";
  const what = truth === null ? `Query ${task.files?.[view.q] ?? view.q + 1}` : `True class: ${task.names[truth]}`;
  return {
    query: `${what}. ${cell}${lock}${over}`,
    offsets: `${task.names[view.n]}: ${outside} of 9 points outside${away ? `, ${away} taken away` : ""}${similar}`,
    filter:
      s.group === null
        ? `${b.groups} groups of ${b.channels / b.groups} channels${still ? "" : "; point at one"}`
        : `group ${s.group + 1}`,
    gain:
      (b.rule === "none" ? "no alignment: all gains are 1" : "bars: each group's gain") +
      `; below: its channels, grey before, blue after`,
    map: means[shown.kind],
    scores:
      rival === undefined
        ? `${task.names[best]}: ${fixed(now[best])}`
        : `${truth === null ? "" : best === truth ? "Right. " : "Wrong. "}${MARGIN} ${percent(margin)} of the ` +
          `spread over ${task.names[rival]}; without alignment ${percent(bare)}`,
  };
}

// All stages side by side as one SVG with their captions: what Export writes.
export function sheet(store, view, s) {
  const columns = [["query"], ["offsets"], ["filter", "gain"], ["map"], ["scores"]];
  const widths = [240, 240, 220, 220, 330];
  const said = captions(store, view, s, true);
  const out = [];
  let [x, bottom] = [12, 0];
  columns.forEach((stages, i) => {
    let y = 12;
    for (const stage of stages) {
      const [drawn, height] = drawStage(stage, store, view, s, widths[i]);
      out.push(words(x + 4, y + 12, `${STAGES.indexOf(stage) + 1}  ${TITLES[stage]}`, { class: "title" }));
      out.push(tag("g", { transform: `translate(${x},${y + 18})` }, drawn));
      y += 18 + height;
      for (const line of wrapped(said[stage], Math.floor(widths[i] / 6.6))) out.push(words(x + 4, (y += 15), line));
      y += 12;
    }
    bottom = Math.max(bottom, y);
    x += widths[i] + 18;
  });
  const size = { width: x, height: bottom };
  const back = box(0, 0, x, bottom, { fill: "#fff" });
  const attributes = { viewBox: `0 0 ${x} ${bottom}`, width: 2 * x, height: 2 * bottom, style: "color:#222" };
  const content = [tag("style", {}, STYLE), back, ...out];
  return { ...size, text: asText(tag("svg", { xmlns: "http://www.w3.org/2000/svg", ...attributes }, content)) };
}
