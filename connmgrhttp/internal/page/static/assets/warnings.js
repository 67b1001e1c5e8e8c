// This file says what an operator should look at, before anything else on the page: the
// sentences are those of "connmgr status".

import { $, h, keyed, setText } from "./dom.js";
import { count, duration, number } from "./format.js";
import { hinders } from "./words.js";

// show takes a status, or null while nothing is known.
export function show(status) {
  const list = status ? warnings(status) : [];
  $("warnings").hidden = list.length === 0;
  keyed($("warnings"), list, ([key]) => key, () => {
    const e = h("li", null);
    e.update = ([, text]) => setText(e, text);
    return e;
  });
}

const isAre = (n, one, many) => (n === 1 ? `1 ${one} is` : `${number(n)} ${many} are`);
const times = (n, what) => (n === 1 ? `Once ${what}` : `${number(n)} times ${what}`);

function warnings(s) {
  const list = [];
  const warn = (holds, key, text) => {
    if (holds) list.push([key, `${text()}.`]);
  };
  const { limits: l, faults: f } = s;
  const { open } = s.connections;
  const connections = () => isAre(open, "connection", "connections");
  warn(s.gate.unsaved_rules, "unsaved", () => `${isAre(s.gate.unsaved_rules, "change of rules", "changes of rules")} not saved: in force, but a restart forgets them`);
  warn(l.hard_limit !== null && open >= l.hard_limit, "hard", () => `${connections()} open, and the hard limit is ${number(l.hard_limit)}: newcomers are refused unless they rank higher`);
  const above = open > l.high_water;
  const short = above && s.last_trim?.shortfall > 0;
  warn(short, "short", () => `The last trim, ${duration((Date.parse(s.now) - Date.parse(s.last_trim.started)) / 1000)} ago, fell ${count(s.last_trim.shortfall, "connection")} short: ${hinders(s.last_trim.causes)}`);
  warn(above && !short, "high", () => `${connections()} open, above high water, ${number(l.high_water)}: those in grace and the protected ones stay`);
  warn(f.hanging_peers, "hanging", () => `${f.hanging_peers === 1 ? "1 peer has" : `${number(f.hanging_peers)} peers have`} a connection whose Close does not return`);
  warn(f.close_errors, "close", () => `${times(f.close_errors, "a connection")} would not close`);
  warn(f.panics, "panics", () => `${count(f.panics, "panic")} of the node's own functions: its log says which`);
  warn(f.tags_refused, "tags", () => `${count(f.tags_refused, "tag")} dropped, since a peer had too many`);
  warn(f.events_lost, "lost", () => `${count(f.events_lost, "event")} came faster than the API could note: histories have holes`);
  const ignored = f.duplicate_connects + f.unknown_disconnects + f.nil_notifications + f.late_notifications;
  warn(ignored, "ignored", () => `${count(ignored, "notification")} ignored: the host reports connections twice, or ones that it never reported`);
  return list;
}
