// Where things are: cells, pixels of a picture, units of a drawing, and where a pointer is in them.

import { clamp, firstOf } from "./data.js";

export const EDGE = 11; // round a picture, so that points on its border are not cut

// A square picture of `size` pixels in a drawing `width` wide.
export function frame(width, size) {
  const side = width - 2 * EDGE;
  const unit = side / size;
  return {
    side,
    unit,
    height: width,
    place: ([y, x]) => [EDGE + (x + 0.5) * unit, EDGE + (y + 0.5) * unit],
    pixel: ([x, y]) => [(y - EDGE) / unit - 0.5, (x - EDGE) / unit - 0.5],
    hold: ([x, y]) => [clamp(x, EDGE, EDGE + side), clamp(y, EDGE, EDGE + side)],
  };
}

// Bars of the groups: where they begin, where one ends, and which is at x.
export const BARS = 34;
export const groupSpan = (g, groups, width) => [g, g + 1].map((k) => BARS + (k * (width - BARS - 2)) / groups);
export const groupAt = (x, groups, width) =>
  clamp(Math.floor(((x - BARS) * groups) / (width - BARS - 2)), 0, groups - 1);

// The numbers of places, those together whose labels would cover one another; null where there is none.
export function oneOnAnother(places, near) {
  const groups = [];
  places.forEach((place, k) => {
    if (!place) return;
    const close = ([first]) => place.every((v, i) => Math.abs(v - places[first][i]) < near);
    const group = groups.find(close);
    if (group) group.push(k);
    else groups.push([k]);
  });
  return groups;
}

// The cell [row, column] at a pixel (y, x).
export const cellAt = (b, [y, x]) =>
  [y, x].map((v, i) => clamp(Math.round((v - firstOf(b)) / b.stride), 0, (i ? b.w : b.h) - 1));

// The centre of a cell, (y, x) in pixels.
export const centreOf = (b, row, column) => [row, column].map((v) => b.stride * v + firstOf(b));

// Where a pointer is in the units of a drawing.
export function under(svg, event) {
  const box = svg.getBoundingClientRect();
  const { width, height } = svg.viewBox.baseVal;
  return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
}

// How high a row of the list of classes is, so that all of them fit beside a picture.
export const rowHeight = (classes) => clamp(Math.floor(250 / classes), 24, 50);

// A text, cut so that it is at most `room` pixels long as it is drawn.
const pen = document.createElement("canvas").getContext("2d");
const lengths = new Map();
export function textLength(text, bold) {
  const key = `${bold}${text}`;
  if (!lengths.has(key)) {
    pen.font = `${bold ? "700" : "400"} 12px system-ui, sans-serif`;
    lengths.set(key, pen.measureText(text).width);
  }
  return lengths.get(key);
}
export function fitted(text, room, bold = false) {
  if (textLength(text, bold) <= room) return text;
  const letters = Array.from(text);
  while (letters.length > 1 && textLength(`${letters.join("")}…`, bold) > room) letters.pop();
  return `${letters.join("")}…`;
}

// Lines of a text that are at most `letters` long.
export function wrapped(text, letters) {
  const lines = [""];
  for (const word of text.split(/[ \n]+/)) {
    if (lines.at(-1) && lines.at(-1).length + 1 + word.length > letters) lines.push(word);
    else lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines;
}
