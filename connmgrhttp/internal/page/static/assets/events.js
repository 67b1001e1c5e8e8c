// This file shows what happens: the newest events beside the chart, all that are
// remembered in their own section, and a word now and then to screen readers.

import { $, fill, h } from "./dom.js";
import { get } from "./api.js";
import { announce } from "./dialogs.js";
import { count, now } from "./format.js";
import { eventTypes } from "./words.js";
import { follow } from "./stream.js";
import { addressOf, line, text } from "./event-line.js";
import { matcher, mayBeName } from "./peer-match.js";
import { day, sentence } from "./time.js";
import { debounce } from "./poll.js";
import * as latest from "./latest.js";

const bound = 500; // events in the list
const redraw = 250; // milliseconds between two updates of the lists
const rest = 500; // milliseconds without a key before the node is asked
const quiet = 20_000; // milliseconds between two announcements

let events = []; // the newest first
let pending = []; // not shown yet, the newest last
let paused = false;
let missed = 0; // events that came while paused
let timer = null;
let lastSaid = 0;
const wanted = new Set(Object.keys(eventTypes));
let about = ""; // the peer or address that is typed
let isAbout = () => true;
let older = []; // of the peer whose whole name is typed: what the node remembers of it
let today = ""; // the day that times without a day are of
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
  const boxes = Object.keys(eventTypes).map((type) => h("label", { class: "check" },
    h("input", {
      type: "checkbox", checked: true, onchange(event) {
        if (event.target.checked) wanted.add(type);
        else wanted.delete(type);
        render();
      },
    }), type));
  const typed = debounce(search, 250);
  const filter = h("label", { class: "search" }, h("span", { class: "unseen" }, "Events of a peer"),
    h("input", {
      type: "search", id: "events-peer", placeholder: "Part of a name or address", autocomplete: "off", spellcheck: "false",
      oninput(event) {
        about = event.target.value.trim();
        typed();
      },
    }));
  fill($("events"),
    h("div", { class: "toolbar" }, filter, h("fieldset", { class: "checks" }, h("legend", { class: "unseen" }, "Kinds of events"), boxes), pauseButton),
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
  if (today !== day(now())) { // what was today is yesterday
    render();
    say(fresh);
    return;
  }
  const shown = fresh.filter(isWanted);
  list.prepend(...shown.map((e) => line(e)));
  while (list.children.length > bound) list.lastChild.remove();
  empty.hidden = list.children.length > 0;
  latest.show(events);
  say(fresh);
}

const isWanted = (e) => (wanted.has(e.type) || !eventTypes[e.type]) && isAbout(e);

function render() {
  today = day(now());
  const known = new Set(events.map((e) => e.id));
  const all = [...events, ...older.filter((e) => !known.has(e.id))];
  fill(list, all.filter(isWanted).map((e) => line(e)));
  empty.hidden = list.children.length > 0;
  latest.show(events);
}

// search shows the events of the peer that is typed. What the page has is searched at
// once; a peer with its whole name is asked for too, since the node remembers more.
async function search() {
  const mine = about;
  const like = matcher(mine);
  isAbout = mine === "" ? () => true : (e) => [e.peer, addressOf(e)].some((name) => name && like(name));
  older = [];
  render();
  if (!mayBeName(mine)) return;
  await new Promise((resolve) => setTimeout(resolve, rest)); // until it is typed to its end
  if (mine !== about) return;
  try {
    const found = (await get("events/recent", { peer: mine, limit: 300 })).events;
    if (mine !== about) return;
    older = found;
    render();
  } catch (e) {
    if (e.status !== 400) throw e; // it is no name: what was found is all
  }
}

// namesLike is the peers with a name like a text that had a part in the events here, the
// latest first, at most so many.
export function namesLike(wantedText, most) {
  const like = matcher(wantedText);
  return [...new Set(events.map((e) => e.peer).filter((name) => name && like(name)))].slice(0, most);
}

// say tells screen readers how much has happened, and the last of it, now and then.
let unsaid = 0;
function say(fresh) {
  unsaid += fresh.length;
  if (document.hidden || performance.now() - lastSaid < quiet) return;
  lastSaid = performance.now();
  const last = h("span", null, sentence(text(fresh[0]))).textContent;
  announce(unsaid === 1 ? last : `${count(unsaid, "event")}; the latest: ${last}`);
  unsaid = 0;
}
