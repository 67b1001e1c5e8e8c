// This file shows the newest events beside the chart. Refusals come in crowds, and so do
// trims that can close nobody: those for the same cause are one line with their number, so
// that the rest can be seen.

import { $, fill, h } from "./dom.js";
import { host, number } from "./format.js";
import { line } from "./event-line.js";

const shown = 10;
const together = 5 * 60_000; // milliseconds between two events of one line, at most

// show takes the events, the newest first.
export function show(events) {
  fill($("latest"), events.length ? grouped(events).map((e) => line(e)) : h("li", { class: "empty" }, "Nothing has happened yet."));
}

function grouped(events) {
  const lines = [];
  const open = new Map(); // the groups, by cause
  for (const event of events) {
    const key = cause(event);
    const at = Date.parse(event.at);
    const group = key && open.get(key);
    if (group && group.oldest - at <= together) {
      group.events.push(event);
      group.oldest = at;
    } else if (lines.length < shown) {
      const fresh = { events: [event], oldest: at };
      lines.push(fresh);
      if (key) open.set(key, fresh);
    } else {
      open.delete(key);
    }
  }
  return lines.map((l) => (l.events.length === 1 ? l.events[0] : crowd(l.events)));
}

// cause is what a refusal is due to, or a trim that closed nobody; "" of other events.
function cause({ denied: d, trim }) {
  if (d) return JSON.stringify([d.checkpoint, d.outcome, d.rule?.effect, d.rule?.target, d.rule?.origin, d.limit, d.prefix]);
  return trim && !trim.closed ? JSON.stringify([trim.trigger, trim.causes]) : "";
}

// crowd is one event in place of many: the newest one, without what they do not share.
function crowd(list) {
  const [newest] = list;
  const hosts = new Set(list.map((e) => e.denied?.address && host(e.denied.address)));
  const address = newest.denied?.address;
  let text = newest.text;
  if (address) text = text.replace(address, () => (hosts.size === 1 ? host(address) : `${number(hosts.size)} addresses`)).replace("addresses is ", "addresses are ");
  const one = list.every((e) => e.peer === newest.peer);
  return { ...newest, peer: one ? newest.peer : "", denied: null, text: `${number(list.length)} × ${text}` };
}
