// A view as a text that can be shared, and back; views.py reads and writes the same.

import { clamp } from "./data.js";

export const SHARED = [
  ...["task", "checkpoint", "mode", "query", "support_class", "picture", "row", "column"],
  ...["time", "overlay", "locked", "plain", "everywhere", "moves"],
];

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
    const kind = typeof model.get(name);
    const read = { number: Number, boolean: (v) => v === "true", string: String, object: JSON.parse }[kind](value);
    if (kind === "number" && !Number.isFinite(read)) throw new Error(`${name} must be a number, got ${value}`);
    if (kind === "number" && name !== "time" && !(Number.isInteger(read) && read >= 0))
      throw new Error(`${name} must be a whole number from 0, got ${value}`);
    changes[name] = name === "time" ? clamp(read, 0, 1) : read;
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
