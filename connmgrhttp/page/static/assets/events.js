// This file shows what happens: the newest events beside the chart, all that are
// remembered in their own section, and a word now and then to screen readers.

import { $, fill, h } from "./dom.js";
import { get } from "./api.js";
import { announce } from "./dialogs.js";
import { clock, count, dateTime, shorten } from "./format.js";
import { eventType, eventTypes } from "./words.js";
import { follow } from "./stream.js";
import { peerLink } from "./peer-link.js";

const bound = 500; // events in the list
const latestShown = 10;
const redraw = 250; // milliseconds between two updates of the lists
const quiet = 20_000; // milliseconds between two announcements

let events = []; // the newest first
let pending = []; // not shown yet, the newest last
let paused = false;
let missed = 0; // events that came while paused
let timer = null;
let lastSaid = 0;
const wanted = new Set(Object.keys(eventTypes));
let list; // the list in the section
let pauseButton;
let empty;

// start makes the section, fills it with what is remembered and follows what comes.
// onEvent gets each new event, onState the state of the stream.
export async function start({ onEvent, onState }) {
  build();
  let since = 0;
  for (;;) {
    try {
      const recent = (await get("events/recent", { limit: 300 })).events;
      events = recent;
      since = recent[0]?.id ?? 0;
      break;
    } catch (e) {
      onState("reconnecting", e);
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
  render();
  follow({
    since, onState,
    onEvent(event) {
      if (event.type === "lost") event = { ...event, text: event.text || "This page was too slow: some events may be missing.", at: event.at ?? new Date().toISOString() };
      onEvent(event);
      pending.push(event);
      if (pending.length > bound) pending.shift();
      missed++;
      timer ??= setTimeout(flush, redraw);
    },
  });
}

function build() {
  list = h("ol", { class: "events", "aria-label": "Events, the newest first" });
  empty = h("p", { class: "empty", hidden: true }, "Nothing of this kind has happened yet.");
  pauseButton = h("button", { type: "button", "aria-pressed": "false", onclick: pause }, "Pause");
  const boxes = Object.entries(eventTypes).map(([type, [, , label]]) => h("label", { class: "check" },
    h("input", {
      type: "checkbox", checked: true, onchange(event) {
        if (event.target.checked) wanted.add(type);
        else wanted.delete(type);
        render();
      },
    }), label));
  fill($("events"),
    h("div", { class: "toolbar" }, h("fieldset", { class: "checks" }, h("legend", { class: "unseen" }, "Kinds of events"), boxes), pauseButton),
    list, empty);
}

function pause() {
  paused = !paused;
  pauseButton.setAttribute("aria-pressed", String(paused));
  missed = 0;
  label();
  if (!paused) flush();
}

const label = () => { pauseButton.textContent = paused ? `Resume${missed ? ` (${missed} new)` : ""}` : "Pause"; };

// flush shows what came since the last time.
function flush() {
  timer = null;
  label();
  if (paused || pending.length === 0) return;
  const fresh = pending.reverse();
  pending = [];
  missed = 0;
  events = [...fresh, ...events].slice(0, bound);
  const shown = fresh.filter(isWanted);
  list.prepend(...shown.map((e) => line(e)));
  while (list.children.length > bound) list.lastChild.remove();
  empty.hidden = list.children.length > 0;
  showLatest();
  say(fresh);
}

const isWanted = (e) => wanted.has(e.type) || !eventTypes[e.type];

function render() {
  fill(list, events.filter(isWanted).map((e) => line(e)));
  empty.hidden = list.children.length > 0;
  showLatest();
}

function showLatest() {
  fill($("latest"), events.length ? events.slice(0, latestShown).map((e) => line(e)) : h("li", { class: "empty" }, "Nothing has happened yet."));
}

// line is an event in one line, with a link to its peer, unless that is known already.
export function line(event, { known = "" } = {}) {
  const [tone, name] = eventType(event.type);
  return h("li", { class: `event ${tone}` },
    h("time", { datetime: event.at, title: dateTime(event.at) }, clock(event.at)),
    h("span", { class: "kind" }, name),
    h("span", { class: "text" }, event.peer && event.peer !== known ? [peerLink(event.peer, shorten(event.peer, 12)), " "] : null, brief(event.text ?? "")));
}

// brief shortens the names of peers, as in rules about them.
const brief = (text) => text.replace(/[A-Za-z0-9]{45,}/g, (name) => shorten(name, 12));

// say tells screen readers how much has happened, and the last of it, now and then.
let unsaid = 0;
function say(fresh) {
  unsaid += fresh.length;
  if (document.hidden || performance.now() - lastSaid < quiet) return;
  lastSaid = performance.now();
  announce(unsaid === 1 ? fresh[0].text : `${count(unsaid, "event")}; the latest: ${fresh[0].text}`);
  unsaid = 0;
}
