// This file turns values into text: numbers, times, names.

const grouped = new Intl.NumberFormat("en");

// number shows an integer. JavaScript knows integers of 64 bits about, not exactly, so
// very large ones are shown as such.
export function number(n) {
  if (n === null || n === undefined) return "–";
  if (Math.abs(n) >= 1e15) return n.toExponential(1).replace("e+", "e").replace("-", "−");
  return grouped.format(n).replace("-", "−");
}

// count is a number and its noun: count(1, "peer") is "1 peer".
export function count(n, noun) {
  return `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
}

// signed shows a plus before what is not negative.
export const signed = (n) => (n < 0 ? number(n) : "+" + number(n));

// skew is how far the node's clock is ahead of this one, in milliseconds.
let skew = 0;

// setNodeTime takes the node's time from an answer: ages are by its clock.
export function setNodeTime(text) {
  const at = Date.parse(text);
  if (!Number.isNaN(at)) skew = at - Date.now();
}

// now is the node's time, in milliseconds.
export const now = () => Date.now() + skew;

// duration is a span in at most two units: "42 s", "5 min", "3 h 20 min", "2 d 4 h".
export function duration(seconds) {
  let s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 600) return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 10 ? `${days} d ${hours % 24} h` : `${grouped.format(days)} d`;
}

// age is a span in one unit, for tables: "95 s", "42 min", "3 h", "12 d".
export function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${grouped.format(Math.floor(s / 86400))} d`;
}

// until says how long it is to a time, or that it has come.
export function until(text) {
  const s = (Date.parse(text) - now()) / 1000;
  return s > 0 ? `in ${duration(s)}` : "now";
}

const two = (n) => String(n).padStart(2, "0");

// clock is a time of day, dateTime a day and a time, both by this browser's zone.
export function clock(time) {
  const d = new Date(time);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

export function dateTime(time) {
  const d = new Date(time);
  if (Number.isNaN(d.getTime())) return "–";
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock(d)}`;
}

// host is an address without its port.
export const host = (address) => address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");

// shorten leaves out the middle of a long name; libp2p's all begin alike, so the end
// matters as much as the beginning.
export function shorten(name, keep = 16) {
  const runes = [...name];
  if (runes.length <= keep + 6) return name;
  const head = Math.ceil(keep * 0.625);
  return runes.slice(0, head).join("") + "…" + runes.slice(head - keep).join("");
}
