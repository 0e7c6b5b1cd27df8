// Elements of a page: made once, and written again only where something is another.

import { MARGIN } from "./drawing.js";

// An element: its name, attributes and children.
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
  made.append(...children);
  return made;
}
export const word = (key, text = key) => make("span", { class: "dmf-word", tabindex: 0, "data-word": key }, text);
export const button = (name, text, more = {}) => make("button", { type: "button", name, ...more }, text);
export const range = (name, more) => make("input", { type: "range", name, ...more });
export const field = (key, text, ...controls) => make("label", {}, word(key, text), ...controls);

// A select's options, rewritten only where they changed.
export function options(select, texts, value) {
  const wanted = texts.join("\n");
  if (select.shown !== wanted) {
    select.shown = wanted;
    select.replaceChildren(...texts.map((text, i) => make("option", { value: i }, text)));
  }
  select.selectedIndex = value;
}

// What is written again only where it is another: the browser lays out anew what is set, even to the same.
export function noted(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
export function told(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
// A caption, in which the word `MARGIN` explains itself.
export function captioned(caption, text) {
  if (caption.told === text) return;
  caption.told = text;
  const at = text.indexOf(MARGIN); // a class may be called so, too
  const [before, after] = at < 0 ? [text] : [text.slice(0, at), text.slice(at + MARGIN.length)];
  const margin = caption.querySelector(".dmf-word");
  if (after === undefined) caption.textContent = text;
  else if (margin) [margin.previousSibling.data, margin.nextSibling.data] = [before, after];
  else {
    const [first, last] = [before, after].map((part) => document.createTextNode(part));
    caption.replaceChildren(first, word("margin", MARGIN), last);
  }
}
