// This file makes elements. Text becomes text nodes and attributes, never markup: names,
// reasons and origins come from strangers.

const asProperty = new Set(["hidden", "disabled", "checked", "value", "selected", "required", "htmlFor", "className", "textContent", "type", "open", "autofocus"]);

// h makes an element: h("a", {class: "x", href: "#", onclick: f}, "text", node, null).
// Properties that are null, undefined or false are left out.
export function h(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (name === "class") e.className = value;
    else if (asProperty.has(name)) e[name] = value;
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...nodes(children));
  return e;
}

// icon draws a small picture in the colour of the text: a path in a square of 16.
export function icon(path) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "path");
  for (const [name, value] of Object.entries({ viewBox: "0 0 16 16", width: "14", height: "14", fill: "none", stroke: "currentColor", "stroke-width": "1.4", "aria-hidden": "true" })) svg.setAttribute(name, value);
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

// fill puts children in place of what an element has.
export function fill(e, ...children) {
  e.replaceChildren(...nodes(children));
  return e;
}

function nodes(children) {
  return children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);
}

// setText changes a text only if it is another one, so that nothing is read out again.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// $ finds an element by its id.
export const $ = (id) => document.getElementById(id);

// table makes a table whose rows become cards on a narrow screen. The roles say again
// that it is a table, which its display there would hide from screen readers.
export function table(caption, heads, body) {
  return h("table", { class: "cards", role: "table" },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map((head) =>
      head instanceof Node ? head : h("th", { scope: "col", role: "columnheader" }, head)))),
    body);
}

// row and cell make a row of such a table; a cell says its column on a card.
export const row = (...cells) => h("tr", { role: "row" }, ...cells);
export const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, ...children);

// keyed updates the children of an element from a list: what is there by the same key is
// kept and updated, so that focus, hover and selection survive. make gets an item and
// returns an element with a method update on it.
export function keyed(parent, items, key, make) {
  const active = document.activeElement;
  const hadFocus = parent.contains(active);
  const place = hadFocus ? placeOf(parent, active) : null;
  const old = new Map([...parent.children].map((e) => [e.dataset.key, e]));
  const wanted = items.map((item) => {
    const k = String(key(item));
    let e = old.get(k);
    if (e?.update) old.delete(k);
    else {
      e = make(item);
      e.dataset.key = k;
    }
    e.update(item);
    return e;
  });
  for (const e of old.values()) e.remove();
  wanted.forEach((e, i) => {
    if (parent.children[i] !== e) parent.insertBefore(e, parent.children[i] ?? null);
  });
  if (!hadFocus || document.activeElement === active) return;
  if (active.isConnected) active.focus({ preventScroll: true }); // it was moved
  else focusAt(parent, place); // it is gone: whoever is there now
}

function placeOf(parent, active) {
  const child = [...parent.children].findIndex((e) => e.contains(active));
  const within = child < 0 ? -1 : focusable(parent.children[child]).indexOf(active);
  return { child, within };
}

function focusAt(parent, { child, within }) {
  const e = parent.children[Math.min(child, parent.children.length - 1)];
  if (!e) return;
  const list = focusable(e);
  list[Math.min(Math.max(within, 0), list.length - 1)]?.focus({ preventScroll: true });
}

const focusable = (e) => [...e.querySelectorAll("a[href], button, input, select, textarea")];
