// This file shows times: all by this browser's zone, which is named at the top of the page,
// and each with the same time in UTC, as logs have it, in its title.

import { h } from "./dom.js";
import { brief, clock, dateTime, now } from "./format.js";

const two = (n) => String(n).padStart(2, "0");

// zone names the zone: "Europe/Berlin, UTC+01:00".
export function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
  const ahead = -new Date().getTimezoneOffset();
  if (ahead === 0 && /^(UTC|Etc.UTC|)$/.test(name)) return "UTC";
  const minutes = Math.abs(ahead);
  const offset = `UTC${ahead < 0 ? "−" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
  return name ? `${name}, ${offset}` : offset;
}

// day is the day of a time, by the zone.
export const day = (time) => new Date(time).toDateString();

// timeAt is a time: that of day alone if it is of today.
export function timeAt(time) {
  return element(time, day(time) === day(now()) ? clock(time) : dateTime(time));
}

// calendar is a time that is days away, perhaps: always with its day.
export const calendar = (time) => element(time, dateTime(time));

function element(time, text) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return h("time", null, "–");
  return h("time", { datetime: time, title: at.toISOString() }, text);
}

// stamp is how the node writes times into its sentences.
const stamp = /(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/;

// sentence is a sentence of the node, in nodes: names short, and times by the zone of the
// page. Whatever else is in it stays text.
export const sentence = (text) => text.split(stamp).map((part, i) => (i % 2 ? timeAt(part) : brief(part)));
