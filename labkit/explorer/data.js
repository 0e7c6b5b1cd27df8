// The numbers of one view, computed in the browser from what `precompute.py` put into one buffer.
// At kernel size 1 a filter is a gain for each group and position, so the browser can follow a position from the
// sampled points to the scores by itself: Eq. 5-6 (filter), Eq. 9 (gain), section 4.3 (scores).

export const clamp = (v, low, high) => Math.min(high, Math.max(low, v));

// The factor by which a channel has grown at time t, for a filter value f (labkit/dmf/alignment.py).
export function gain(f, t, rule, steps) {
  if (rule === "none") return 1;
  if (rule === "euler" || rule === "recurrent") {
    const step = rule === "euler" ? 1 / steps : 1;
    const whole = Math.floor(t * steps + 1e-9);
    return (1 + f * step) ** whole * (1 + f * step * (t * steps - whole));
  }
  if (rule === "rk4") {
    const z = f * t;
    return 1 + z * (1 + (z / 2) * (1 + (z / 3) * (1 + z / 4)));
  }
  return Math.exp(f * t);
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const REMEMBERED = 600; // results kept; the one that was not used for longest goes first

export class Store {
  constructor(header, view) {
    this.header = header;
    this.bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    this.known = new Map();
  }

  floats(start, count) {
    return new Float32Array(this.bytes, start, count);
  }

  // What `make` returns, made once for a key.
  once(key, make) {
    const found = this.known.has(key) ? this.known.get(key) : make();
    this.known.delete(key);
    this.known.set(key, found);
    if (this.known.size > REMEMBERED) this.known.delete(this.known.keys().next().value);
    return found;
  }

  // Pixels [height, width, 3] at `start` as the address of a PNG.
  picture(start, size) {
    const pixels = new Uint8Array(this.bytes, start, size * size * 3);
    return this.once(`picture ${start}`, () => png(size, size, (k) => pixels.subarray(3 * k, 3 * k + 3)));
  }
}

// A PNG of h x w pixels as an address; `colour(k)` gives red, green and blue of pixel k.
export function png(h, w, colour) {
  const canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  for (let k = 0; k < h * w; k++) {
    image.data.set(colour(k), 4 * k);
    image.data[4 * k + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

// What a group adds to a class's score map before alignment, [g, hw], and what does not grow, [hw].
function sharesOf(query, weights, block, hw) {
  const { groups, channels, relu, scale } = block;
  const dots = new Float64Array(groups * hw);
  const rest = new Float64Array(hw);
  for (let c = 0; c < channels; c++) {
    const g = Math.floor((c * groups) / channels);
    for (let k = 0; k < hw; k++) {
      const share = query[c * hw + k] * weights[c] * scale;
      if (relu && query[c * hw + k] < 0) rest[k] += share;
      else dots[g * hw + k] += share;
    }
  }
  return { dots, rest };
}

// The pixel on which the first cell is centred; an older header does not say it, and means a backbone of poolings.
export const firstOf = (block) => block.first ?? (block.stride - 1) / 2;

// What one tap reads: psi's responses [g] at (y, x) in pixels, bilinear, zeros outside the map; added to `sums`.
function read(projected, block, tap, [py, px], sums) {
  const { h, w, groups, stride } = block;
  const y = (py - firstOf(block)) / stride;
  const x = (px - firstOf(block)) / stride;
  const top = Math.floor(y);
  const left = Math.floor(x);
  for (const [i, j] of [
    [top, left],
    [top, left + 1],
    [top + 1, left],
    [top + 1, left + 1],
  ]) {
    if (i < 0 || j < 0 || i >= h || j >= w) continue;
    const share = (1 - Math.abs(y - i)) * (1 - Math.abs(x - j));
    const start = ((tap * h + i) * w + j) * groups;
    for (let g = 0; g < groups; g++) sums[g] += share * projected[start + g];
  }
}

// Everything one view shows: sizes, and functions of class (c), cell (k) and time (t).
export function look(store, s) {
  const { header } = store;
  const t0 = clamp(s.task, 0, header.tasks.length - 1);
  const m0 = clamp(s.checkpoint, 0, header.checkpoints.length - 1);
  const task = header.tasks[t0];
  const b = header.blocks[t0][m0];
  const N = task.names.length;
  const hw = b.h * b.w;
  const q = clamp(s.query, 0, task.queries - 1);
  const n = clamp(s.support_class, 0, N - 1);
  const row = clamp(s.row, 0, b.h - 1);
  const column = clamp(s.column, 0, b.w - 1);
  const cell = row * b.w + column;
  const mode = clamp(s.mode, 0, header.modes.length - 1);
  const of = [t0, m0, mode, q].join(" ");
  const moves = s.moves && Object.keys(s.moves).length ? s.moves : null;
  const asked = moves ? JSON.stringify([n, moves, s.everywhere ? "all" : cell]) : "";
  const query = store.floats(b.query + 4 * b.channels * hw * q, b.channels * hw);
  const projected = (c) => store.floats(b.projected + 4 * c * 9 * hw * b.groups, 9 * hw * b.groups);
  const points = (c) => store.floats(b.points[mode] + 4 * 18 * hw * (q * N + c), 18 * hw);
  const shares = (c) =>
    store.once(`shares ${t0} ${m0} ${q} ${c}`, () =>
      sharesOf(query, store.floats(b.weights + 4 * b.channels * c, b.channels), b, hw),
    );

  // The nine points (y, x) in pixels from which a cell's filter is read; null for one that is taken away.
  const learned = (c, k) => {
    const p = points(c);
    return Array.from({ length: 9 }, (_, tap) => [p[2 * tap * hw + k], p[(2 * tap + 1) * hw + k]]);
  };
  const places = (c, k) => {
    const found = learned(c, k);
    if (moves && c === n && (s.everywhere || k === cell))
      for (const [tap, by] of Object.entries(moves)) found[tap] = by && [found[tap][0] + by[0], found[tap][1] + by[1]];
    return found;
  };
  const responses = (c, k, where) =>
    where.map((place, tap) => {
      const sums = new Float64Array(b.groups);
      if (place) read(projected(c), b, tap, place, sums);
      return sums;
    });
  const filterOf = (c, where) => {
    const sums = new Float64Array(b.groups);
    where.forEach((place, tap) => place && read(projected(c), b, tap, place, sums));
    return sums.map(sigmoid);
  };
  const filters = (c) =>
    store.once(`filters ${of} ${c}`, () => {
      const all = new Float64Array(hw * b.groups);
      for (let k = 0; k < hw; k++) all.set(filterOf(c, learned(c, k)), k * b.groups);
      return all;
    });
  const current = (c) => {
    if (!asked || c !== n) return filters(c);
    return store.once(`asked ${of} ${asked}`, () => {
      const all = filters(c).slice();
      for (let k = 0; k < hw; k++) if (s.everywhere || k === cell) all.set(filterOf(c, places(c, k)), k * b.groups);
      return all;
    });
  };
  const filterAt = (c, k, learnt) => (learnt ? filters(c) : current(c)).subarray(k * b.groups, (k + 1) * b.groups);

  const scoreMap = (c, t, learnt = false) =>
    store.once(`map ${of} ${c} ${t} ${learnt || c !== n ? "" : asked}`, () => {
      const { dots, rest } = shares(c);
      const f = learnt ? filters(c) : current(c);
      return Float64Array.from(rest, (still, k) => {
        let sum = still;
        for (let g = 0; g < b.groups; g++) sum += gain(f[k * b.groups + g], t, b.rule, b.steps) * dots[g * hw + k];
        return sum;
      });
    });
  const classes = task.names.map((_, c) => c);
  const scores = (t, learnt = false) =>
    store.once(`scores ${of} ${t} ${learnt ? "" : asked}`, () =>
      classes.map((c) => scoreMap(c, t, learnt).reduce((a, v) => a + v, 0) / b.cells),
    );
  const centred = (c, t, learnt = false) =>
    store.once(`centred ${of} ${c} ${t} ${learnt ? "" : asked}`, () => {
      const all = classes.map((o) => scoreMap(o, t, learnt));
      return Array.from(all[c], (v, k) => v - all.reduce((a, map) => a + map[k], 0) / N);
    });
  // One scale for all classes and times of a query, moved points left aside.
  const limits = store.once(`limits ${of}`, () => {
    const found = { low: Infinity, high: -Infinity, centred: 1e-9 };
    for (const t of [0, 1]) {
      const all = classes.map((c) => scoreMap(c, t, true));
      for (let k = 0; k < hw; k++) {
        const mean = all.reduce((a, map) => a + map[k], 0) / N;
        for (const map of all) {
          found.low = Math.min(found.low, map[k]);
          found.high = Math.max(found.high, map[k]);
          found.centred = Math.max(found.centred, Math.abs(map[k] - mean));
        }
      }
    }
    return found;
  });

  // What a group adds to the class's score map by growing until t, [hw].
  const added = (g, t) =>
    Array.from({ length: hw }, (_, k) => {
      const grown = gain(current(n)[k * b.groups + g], t, b.rule, b.steps) - 1;
      return grown * shares(n).dots[g * hw + k];
    });
  const addedLimit = () =>
    store.once(`added ${of} ${n} ${asked}`, () => {
      let most = 1e-9;
      for (let g = 0; g < b.groups; g++) most = Math.max(most, ...added(g, 1).map(Math.abs));
      return most;
    });
  const truth = task.labels ? task.labels[q] : null;
  const ghost = (tap, k = cell) =>
    [Math.floor(k / b.w) + Math.floor(tap / 3) - 1, (k % b.w) + (tap % 3) - 1].map((v) => b.stride * v + firstOf(b));
  const overlays = {
    "offset length": () =>
      Array.from({ length: hw }, (_, k) => {
        const far = learned(n, k).map((p, tap) => Math.hypot(p[0] - ghost(tap, k)[0], p[1] - ghost(tap, k)[1]));
        return far.reduce((a, v) => a + v, 0) / 9;
      }),
    score: () => Array.from(scoreMap(n, s.time)),
    "filter norm": () => Array.from({ length: hw }, (_, k) => Math.hypot(...filterAt(n, k))),
  };
  return {
    ...{ task, b, N, hw, q, n, row, column, cell, mode, moves, truth, limits, classes, overlays },
    ...{ learned, places, responses, filterAt, scoreMap, scores, centred, added, addedLimit, ghost, shares },
    t: s.time,
    key: `${of} ${s.time} ${asked}`, // of all that is drawn as a map
    everywhere: s.everywhere,
    // The channels of the query at the position, as they come and as they have grown.
    channels: () =>
      Array.from({ length: b.channels }, (_, c) => {
        const v = query[c * hw + cell];
        const f = filterAt(n, cell)[Math.floor((c * b.groups) / b.channels)];
        return [v, b.relu && v < 0 ? v : v * gain(f, s.time, b.rule, b.steps)];
      }),
    similarity: () => {
      const all = new Int8Array(store.bytes, b.similarity + hw * hw * (q * N + n) + hw * cell, hw);
      return Array.from(all, (v) => v / 127);
    },
    outside: (p) => p.some((v) => v < -0.5 || v > task.size - 0.5),
    shot: (c) => clamp(s.picture, 0, task.shots[c] - 1),
    supportStart: (c, k) => task.support + 3 * task.size ** 2 * (c * task.pictures + k),
    queryStart: task.query + 3 * task.size ** 2 * q,
  };
}

// How far each class stands above (+) or below (−) the mean of all classes, as a share of the spread of their scores,
// which is from the worst to the best. The differences of two of them are the margins that are shown.
//
// Why not scores: the alignment lets the scores of all classes grow, and every margin in score units grows along, also
// where no answer changes; so does a softmax, which a common factor makes sharper. Here neither a factor nor an addend
// that all scores have in common changes anything.
//
// Of two classes nothing but a sign would be left; there the longer of the two scores is the measure.
export function standings(scores) {
  const mean = scores.reduce((a, v) => a + v, 0) / scores.length;
  const spread = scores.length > 2 ? Math.max(...scores) - Math.min(...scores) : Math.max(...scores.map(Math.abs));
  return scores.map((v) => (spread > 0 ? (v - mean) / spread : 0));
}

// The answer that scores give: the best class, its runner-up, and how far the class that should win leads, as a
// share of the spread.
export function verdict(scores, truth) {
  const order = scores.map((_, c) => c).sort((a, b) => scores[b] - scores[a]);
  const hero = truth === null ? order[0] : truth;
  const rival = order.find((c) => c !== hero);
  const standing = standings(scores);
  return { best: order[0], hero, rival, margin: rival === undefined ? 0 : standing[hero] - standing[rival] };
}
