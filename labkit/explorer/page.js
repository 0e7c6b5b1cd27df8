// The exported page: the widget's model without Jupyter, its numbers unpacked from the page itself.

import { open } from "./render.js";
import { restored } from "./views.js";

export async function start(packed) {
  const text = document.getElementById("dmf-data").textContent.trim();
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer()); // of bytes; see _planes in page.py
  const buffer = planes.map((_, i) => planes[(i % 4) * (planes.length / 4) + (i >> 2)]).buffer;
  const values = { ...packed.state, header: packed.header, buffer: new DataView(buffer) };
  const listeners = new Map();
  const model = {
    alone: true,
    get: (name) => values[name],
    set(name, value) {
      if (values[name] === value) return;
      values[name] = value;
      for (const call of listeners.get(`change:${name}`) || []) call();
    },
    save_changes() {},
    on: (event, call) => listeners.set(event, [...(listeners.get(event) || []), call]),
    off: (event, call) =>
      listeners.set(
        event,
        (listeners.get(event) || []).filter((c) => c !== call),
      ),
    send() {},
    remember(view) {
      clearTimeout(model.written);
      model.written = setTimeout(() => history.replaceState(null, "", `#${view}`), 250);
    },
    address: (view) => `${location.href.split("#")[0]}#${view}`,
    theme() {
      const { style } = document.documentElement;
      const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
      const now = dark || (!style.colorScheme && matchMedia("(prefers-color-scheme: dark)").matches);
      style.colorScheme = now ? "light" : "dark";
    },
  };
  const explorer = open({ model, el: document.getElementById("explorer") });
  const wanted = (otherwise) => {
    try {
      for (const [name, value] of Object.entries(restored(location.hash, model))) model.set(name, value);
      explorer.tell("");
    } catch (error) {
      explorer.tell(`This address names no view (${error.message}); ${otherwise}.`, explorer.ui.line);
    }
  };
  if (location.hash.length > 1) wanted("the page's own is shown");
  addEventListener("hashchange", () => wanted("the view stays as it was"));
}
