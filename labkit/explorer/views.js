// A view as a text that can be shared, and back; views.py reads and writes the same.

export const SHARED = [
  ...["task", "checkpoint", "mode", "query", "support_class", "picture", "row", "column"],
  ...["time", "overlay", "locked", "plain", "everywhere", "moves"],
];

export const OVERLAYS = ["none", "offset length", "score", "similarity", "filter norm"];

const isPair = (by) => Array.isArray(by) && by.length === 2 && by.every(Number.isFinite);
const areMoves = (moves) =>
  moves?.constructor === Object &&
  Object.entries(moves).every(([tap, by]) => /^[0-8]$/.test(tap) && (by === null || isPair(by)));

// What a value must be, by its name or its kind.
const MUST = {
  time: [(v) => typeof v === "number" && v >= 0 && v <= 1, "from 0 to 1"],
  overlay: [(v) => OVERLAYS.includes(v), `one of ${OVERLAYS.join(", ")}`],
  moves: [areMoves, "points from 0 to 8, each with two numbers or null"],
  number: [(v) => Number.isInteger(v) && v >= 0, "a whole number from 0"],
  boolean: [(v) => typeof v === "boolean", "true or false"],
};

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function valueOf(name, text, kind) {
  const [is, must] = MUST[name] ?? MUST[kind];
  const value = name === "overlay" ? text : parsed(text);
  if (!is(value)) throw new Error(`${name} must be ${must}, got ${text}`);
  return value;
}

// The state as a string that can be shared, and back.
export function written(model) {
  const pairs = SHARED.map((name) => {
    const value = model.get(name);
    return [
      name,
      name === "moves" ? JSON.stringify(value) : String(Number(value) === value ? +value.toFixed(4) : value),
    ];
  });
  return new URLSearchParams(pairs.filter(([name, value]) => !(name === "moves" && value === "{}"))).toString();
}
export function restored(text, model) {
  const changes = { moves: {} };
  for (const [name, value] of new URLSearchParams(text.replace(/^[#?]/, ""))) {
    if (!SHARED.includes(name)) throw new Error(`a view has no ${name}; it has ${SHARED.join(", ")}`);
    changes[name] = valueOf(name, value, typeof model.get(name));
  }
  const { tasks, checkpoints, modes, blocks } = model.get("header");
  const there = (name, count) => {
    const value = changes[name] ?? Math.min(model.get(name), count - 1);
    if (value >= count) throw new Error(`${name} must be from 0 to ${count - 1}, got ${value}`);
    return value;
  };
  const task = there("task", tasks.length);
  const block = blocks[task][there("checkpoint", checkpoints.length)];
  there("mode", modes.length);
  there("query", tasks[task].queries);
  there("picture", tasks[task].shots[there("support_class", tasks[task].names.length)]);
  there("row", block.h);
  there("column", block.w);
  return changes;
}
