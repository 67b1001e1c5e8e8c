// This file asks people: dialogs with a form, and short notices of what was done.
// <dialog> keeps the focus inside, gives it back, and closes at Escape.

import { $, fill, h } from "./dom.js";

let ids = 0;

// ask shows a dialog and returns whether it was confirmed. Its parts:
//
//	title, content   what it says: nodes, with inputs perhaps
//	confirm          the text of the button that does it
//	danger           says that this cannot be undone, or hurts
//	problem          what is wrong already
//	run              does it, when confirmed. If it throws, the dialog says why and stays.
export function ask({ title, content, confirm, danger = false, problem = null, run }) {
  return new Promise((resolve) => {
    const id = `dialog-${++ids}`;
    const trouble = h("div", { class: "trouble", role: "alert", id: `${id}-trouble` });
    const yes = h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm);
    const no = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    let confirmed = false;
    let busy = false;
    const form = h("form", {
      novalidate: true,
      async onsubmit(event) {
        event.preventDefault();
        if (busy || yes.disabled) return;
        busy = true;
        yes.setAttribute("aria-disabled", "true");
        clearFields(form);
        fill(trouble);
        try {
          await run?.();
          confirmed = true;
          dialog.close();
        } catch (e) {
          say(trouble, e);
          showAtField(form, e, trouble.id);
        } finally {
          busy = false;
          yes.removeAttribute("aria-disabled");
        }
      },
    }, h("h2", { id }, title), h("div", { class: "content" }, content), trouble, h("div", { class: "buttons" }, no, yes));
    const dialog = h("dialog", { class: "ask", "aria-labelledby": id }, form);
    const before = document.activeElement;
    dialog.addEventListener("close", () => {
      dialog.remove();
      refocus(before);
      resolve(confirmed);
    });
    if (problem) say(trouble, problem);
    document.body.append(dialog);
    dialog.showModal();
    if (danger && !form.querySelector("[autofocus]")) no.focus();
  });
}

// refocus gives the focus back if the browser did not: what had it may have been drawn
// anew meanwhile, and it must not fall to the top of the page.
function refocus(before) {
  if (document.activeElement !== document.body) return;
  if (before?.isConnected) before.focus();
  else $("main").focus({ preventScroll: true });
}

// problemText is a problem in nodes: its title, what is wrong, and where.
export function problemText(p) {
  const where = [p.line ? `line ${p.line}` : "", p.column ? `column ${p.column}` : ""].filter(Boolean).join(", ");
  const title = p.title ?? p.message ?? String(p);
  return [
    h("strong", null, where ? `${title} (${where})` : title),
    p.detail ? h("p", null, p.detail) : null,
    p.in_force ? h("p", null, "It is in force until the node is restarted.") : null,
  ];
}

// say shows a problem in an element.
export function say(e, p) {
  if (!p?.title) console.warn(p); // a mistake of the page itself
  fill(e, h("div", { class: "problem" }, problemText(p)));
}

// complain shows a problem of a section that is kept up to date. That the node cannot be
// reached is said once, at the top of the page.
export function complain(e, p) {
  if (p.type !== "unreachable") say(e, p);
}

// showAtField marks the input that a problem is about, if it names one.
export function showAtField(form, p, describedBy) {
  if (!p?.field) return false;
  const name = p.field.replace(/\[(\d+)\]/g, ".$1");
  const named = [...form.elements].filter((e) => e.name);
  const input = named.find((e) => e.name === name) ?? named.find((e) => e.name.startsWith(name + "."))
    ?? named.find((e) => name.endsWith("." + e.name) || e.name.endsWith("." + name));
  if (!input) return false;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", describedBy);
  input.focus();
  return true;
}

export function clearFields(form) {
  for (const e of form.elements) e.removeAttribute("aria-invalid");
}

// notice says in the corner what was done. It goes by itself, later if it is long.
export function notice(text, tone = "good") {
  const e = h("div", { class: `notice ${tone}` }, h("span", null, text),
    h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => e.remove() }, "×"));
  const list = $("notices");
  list.append(e);
  while (list.children.length > 4) list.firstChild.remove();
  setTimeout(() => e.remove(), 6000 + text.length * 50);
}

// announce says a text to screen readers alone.
export const announce = (text) => { $("announce").textContent = text; };

// durations are what blocks can last, in seconds; 0 is for good.
const durations = [[600, "10 minutes"], [3600, "1 hour"], [86400, "1 day"], [604800, "1 week"], [2592000, "30 days"], [0, "for good"]];

// durationSelect lets choose how long, at first an hour.
export function durationSelect(id, chosen = 3600) {
  return h("select", { id, name: "for_seconds" }, durations.map(([s, text]) =>
    h("option", { value: String(s), selected: s === chosen }, text)));
}

export const durationText = (seconds) => durations.find(([s]) => s === Number(seconds))?.[1] ?? `${seconds} s`;

// field is a label above its input.
export function field(label, input, hint) {
  const note = hint ? h("small", { id: `${input.id}-hint` }, hint) : null;
  if (note) input.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { htmlFor: input.id }, label), input, note);
}
