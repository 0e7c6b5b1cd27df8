// What opens under the flow when a stage is chosen: its equation, and the same with the numbers of this position.

import { gain, standings, verdict } from "./data.js";
import { fixed, percent, signed } from "./drawing.js";
import { escaped } from "./nodes.js";
import { TITLES, WORDS } from "./words.js";

const table = (head, rows) =>
  `<table><thead><tr>${head.map((h) => `<th scope="col">${h}</th>`).join("")}</tr></thead>` +
  `<tbody>${rows.map((r) => `<tr>${r.map((v) => `<td>${v}</td>`).join("")}</tr>`).join("")}</tbody></table>`;
const sum = (values) => Array.from(values).reduce((a, v) => a + v, 0);

// The group that is spoken of: the one pointed at, or the one whose gain adds most here.
function groupOf(view, s) {
  if (s.group !== null) return s.group;
  let most = 0;
  const size = (g) => Math.abs(view.added(g, 1)[view.cell]);
  for (let g = 1; g < view.b.groups; g++) if (size(g) > size(most)) most = g;
  return most;
}

function query(view) {
  const values = view.channels().map(([v]) => v);
  const largest = values
    .map((v, c) => [v, c])
    .sort((a, b) => b[0] - a[0])
    .slice(0, 4);
  return [
    `X<sub>q</sub> = backbone(query), ${view.b.channels} channels × ${view.b.h} × ${view.b.w} cells`,
    `The cell in row ${view.row + 1}, column ${view.column + 1} is ${values.length} numbers, of norm ` +
      `${fixed(Math.hypot(...values))}. The largest: ` +
      largest.map(([v, c]) => `channel ${c + 1}: ${fixed(v)}`).join(", ") +
      ".",
  ];
}

function offsets(view) {
  const rows = view.places(view.n, view.cell).map((at, tap) => {
    const from = view.ghost(tap);
    const by = at && [at[0] - from[0], at[1] - from[1]];
    const pair = (p, f) => `(${f(p[1], 1)}, ${f(p[0], 1)})`;
    const where = at ? pair(at, fixed) + (view.outside(at) ? ", outside" : "") : "taken away";
    return [tap + 1, pair(from, fixed), at ? pair(by, signed) : "", where];
  });
  return [
    "M = f<sub>η</sub>(X<sub>supp</sub> ∥ X<sub>q</sub>) (Eq. 4), points = 3 × 3 grid + M",
    table(["point", "grid (x, y), px", "+ offset", "= read at"], rows),
  ];
}

function filter(view, s) {
  const g = groupOf(view, s);
  const read = view.responses(view.n, view.cell, view.places(view.n, view.cell)).map((r) => r[g]);
  const total = sum(read);
  const value = view.filterAt(view.n, view.cell)[g];
  const addends = read.map((v, i) => `<small>${"①②③④⑤⑥⑦⑧⑨"[i]}</small>&#8239;${signed(v)}`);
  return [
    "f<sub>d</sub> = σ(ψ ∗ X<sub>supp</sub> at the nine points) (Eq. 6), one number a group",
    `Group ${g + 1}: σ(${addends.join(" ")}) = σ(${fixed(total)}) = <b>${fixed(value, 3)}</b>. ` +
      "Each addend is what ψ makes of one of the nine points; σ maps the sum to 0…1.",
  ];
}

function grown(view, s) {
  const g = groupOf(view, s);
  const { b } = view;
  const f = view.filterAt(view.n, view.cell)[g];
  const result = gain(f, view.t, b.rule, b.steps);
  const formula = {
    none: "gain = 1: this network does not align",
    euler: `gain = (1 + f / ${b.steps})<sup>${b.steps} t</sup>, Euler steps on dX/dt = f X (Eq. 9)`,
    recurrent: `gain = (1 + f)<sup>${b.steps} t</sup>, unit steps (Eq. 7-8)`,
    rk4: "gain = 1 + z + z²/2 + z³/6 + z⁴/24, z = f t: one Runge-Kutta step on dX/dt = f X (Eq. 9)",
  };
  const channel = view
    .channels()
    .map(([v, w], c) => [v, w, c])
    .filter(([, , c]) => Math.floor((c * b.groups) / b.channels) === g)
    .sort((p, q) => q[0] - p[0])[0];
  return [
    formula[b.rule] ?? "dX/dt = f X, so X(t) = X · e<sup>f t</sup> (Eq. 9)",
    `Group ${g + 1}: f = ${fixed(f, 3)}, t = ${fixed(view.t)}, so the gain is <b>${fixed(result, 3)}</b>. ` +
      `Its strongest channel here, ${channel[2] + 1}, goes from ${fixed(channel[0])} to ${fixed(channel[1])}.`,
  ];
}

function map(view) {
  const { b, cell, n, N } = view;
  const { dots, rest } = view.shares(n);
  const parts = Array.from({ length: b.groups }, (_, g) => {
    const by = gain(view.filterAt(n, cell)[g], view.t, b.rule, b.steps);
    return { g, by, dot: dots[g * view.hw + cell] };
  }).sort((p, q) => Math.abs(q.by * q.dot) - Math.abs(p.by * p.dot));
  const total = view.scoreMap(n, view.t)[cell];
  const others = sum(parts.slice(3).map((p) => p.by * p.dot)) + rest[cell];
  const mean = total - view.centred(n, view.t)[cell];
  return [
    "map = Σ<sub>groups</sub> gain · (W · X<sub>q</sub>)<sub>group</sub>" +
      (b.scale === 1 ? "" : ` · ${b.scale}`) +
      ", W = mean of X<sub>supp</sub> over its cells (section 4.3)" +
      (b.scale === 1 ? "" : `; ${b.scale} is the fixed scale of this network's scores`),
    parts
      .slice(0, 3)
      .map((p) => `${fixed(p.by)} × ${fixed(p.dot, 3)} <small>(group ${p.g + 1})</small>`)
      .join(" + ") +
      (parts.length > 3 ? ` + the other ${parts.length - 3}: ${fixed(others)}` : "") +
      ` = <b>${fixed(total)}</b>` +
      (N > 1
        ? `. Centred: less the mean over the ${N} classes here, ${fixed(mean)}, it is <b>${signed(total - mean)}</b>.`
        : "."),
  ];
}

function scores(view) {
  const { b, n, t, truth, task } = view;
  const now = view.scores(t);
  const bare = view.scores(0);
  const sumOfMap = sum(view.scoreMap(n, t));
  const { hero, rival, margin } = verdict(now, truth);
  const [standing, before] = [standings(now), standings(bare)];
  const lines = task.names.map((name, c) => [
    escaped(name) + (c === truth ? " (true)" : ""),
    ...[fixed(bare[c]), fixed(now[c])],
    ...[percent(before[c]), percent(standing[c]), percent(standing[c] - before[c])],
  ]);
  const spread = now.length > 2 ? Math.max(...now) - Math.min(...now) : Math.max(...now.map(Math.abs));
  const lead =
    rival === undefined
      ? ""
      : ` Margin of ${escaped(task.names[hero])}: ${fixed(now[hero])} − ${fixed(now[rival])} = ` +
        `${signed(now[hero] - now[rival])}, <b>${percent(margin)}</b> of the spread, ${fixed(spread)}.`;
  const mean = sum(now) / now.length;
  const shown =
    rival === undefined
      ? ""
      : ` The mean of the centred map is ${signed(now[n] - mean)}: this score less the mean of all, ${fixed(mean)}.`;
  const head = ["class", "score, t = 0", `t = ${fixed(t)}`, "standing, t = 0", `t = ${fixed(t)}`, "change"];
  return [
    `score = sum of the class's own map / ${b.cells} cells; standing = score − mean of the classes, ` +
      "in % of the spread",
    `${escaped(task.names[n])}: ${fixed(sumOfMap)} / ${b.cells} = <b>${fixed(now[n])}</b>.${shown}${lead}` +
      (rival === undefined ? "" : table(head, lines)),
  ];
}

const MADE = { query, offsets, filter, gain: grown, map, scores };

// The panel of a stage as HTML: what it means, and its numbers.
export function details(stage, view, s) {
  const [equation, numbers] = MADE[stage](view, s);
  return [`<b>${TITLES[stage]}.</b> ${WORDS[stage]}<p class="dmf-equation">${equation}</p>`, numbers];
}

// What is said aloud of a view; `about` are the captions of its stages.
export function aloud(view, s, about) {
  const { b, t } = view;
  const said = [`Row ${view.row + 1}, column ${view.column + 1}.`];
  if (s.locked) said.push("Locked.");
  if (s.group !== null) {
    const f = view.filterAt(view.n, view.cell)[s.group];
    said.push(`Group ${s.group + 1}: filter ${fixed(f)}, gain ${fixed(gain(f, t, b.rule, b.steps))}.`);
  }
  const { best } = verdict(view.scores(t), view.truth);
  return [...said, `${about.offsets}.`, `Answer ${view.task.names[best]}.`, `${about.scores}.`].join(" ");
}

// What moved points change, for the chosen class, as one sentence.
export function whatIf(view, s) {
  if (!view.moves) return "";
  const { n, t, truth, task, cell } = view;
  const [was, now] = [view.scores(t, true), view.scores(t)];
  const [before, after] = [was, now].map((all) => verdict(all, truth ?? verdict(was, null).best));
  const centred = !s.plain && view.N > 1; // as the map is shown
  const at = [true, false].map((learnt) => (centred ? view.centred : view.scoreMap)(n, t, learnt)[cell]);
  const from = (a, b, f, digits) => `${f(a, digits)} → ${f(b, digits)}`;
  return (
    `What if, ${view.everywhere ? "all positions" : "this position"} (orange marks: unmoved): ` +
    `map here ${from(...at, centred ? signed : fixed, 3)}; ` +
    `score of ${task.names[n]} ${from(was[n], now[n], fixed, 3)}; ` +
    `margin ${from(before.margin, after.margin, percent, 2)} of the spread.`
  );
}
