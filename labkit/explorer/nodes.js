// SVG as a tree of plain objects: laid over what a page shows already, or written as a text for export.
// Between two positions a few dozen numbers change and everything else stays, so only the attributes that differ are
// touched: text parsed anew for every key makes the browser lay out every letter and decode every picture again.

export const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

// One element: its name, its attributes (numbers to a hundredth), and its children or its text.
export function tag(name, attributes, content = []) {
  const given = {};
  for (const k in attributes) {
    const v = attributes[k];
    given[k] = typeof v === "number" ? String(Math.round(v * 100) / 100) : String(v);
  }
  return {
    name,
    attributes: given,
    content: Array.isArray(content) ? content.filter(Boolean) : String(content),
  };
}

export function asText({ name, attributes, content }) {
  const given = Object.entries(attributes).map(([k, v]) => ` ${k}="${escaped(v)}"`);
  const inner = typeof content === "string" ? escaped(content) : content.map(asText).join("");
  return `<${name}${given.join("")}>${inner}</${name}>`;
}

function made(node) {
  node.element = document.createElementNS("http://www.w3.org/2000/svg", node.name);
  for (const k in node.attributes) node.element.setAttribute(k, node.attributes[k]);
  if (typeof node.content === "string") node.element.textContent = node.content;
  else for (const child of node.content) node.element.append(made(child));
  return node.element;
}

// Make the element that shows `old` show `node`.
function change(old, node) {
  const element = (node.element = old.element);
  for (const k in node.attributes)
    if (old.attributes[k] !== node.attributes[k]) element.setAttribute(k, node.attributes[k]);
  for (const k in old.attributes) if (!(k in node.attributes)) element.removeAttribute(k);
  if (typeof node.content !== "string") lay(element, old.content, node.content);
  else if (old.content !== node.content) element.firstChild.data = node.content;
}

// Make the children of `parent`, which are those of the last call, the wanted ones.
export function lay(parent, old, wanted) {
  wanted.forEach((node, i) => {
    const was = old[i];
    if (!was) parent.append(made(node));
    else if (was.name === node.name && typeof was.content === typeof node.content) change(was, node);
    else was.element.replaceWith(made(node));
  });
  for (const gone of old.slice(wanted.length)) gone.element.remove();
  return wanted;
}
