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

// duration is a span as the command line has it: "42s", "1m38s", "3h20m", "2d04h".
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const parts = (big, unit, small, rest) => `${grouped.format(big)}${unit}${two(small)}${rest}`;
  if (s < 60) return `${s}s`;
  if (s < 3600) return parts(Math.floor(s / 60), "m", s % 60, "s");
  if (s < 86400) return parts(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "m");
  return parts(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
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

// network is the network around an address that usually has one owner: IPv4's /24, IPv6's
// /64. "" if the address is none.
export function network(address) {
  const v4 = /^(\d+\.\d+\.\d+)\.\d+$/.exec(address);
  if (v4) return `${v4[1]}.0/24`;
  const [head, tail] = address.replace(/%.*/, "").split("::");
  if (!head.includes(":") && tail === undefined) return "";
  const groups = (text) => (text ? text.split(":") : []);
  let first = groups(head);
  if (tail !== undefined) first = [...first, ...Array(Math.max(0, 8 - first.length - groups(tail).length)).fill("0"), ...groups(tail)];
  return `${first.slice(0, 4).join(":").replace(/(^|:)0(:0)*$/, "")}::/64`;
}

// shorten leaves out the middle of a long name. There is one way to do it, so that a name
// looks the same wherever it is; libp2p's all begin alike, so the end is what tells them apart.
export function shorten(name) {
  const runes = [...name];
  return runes.length <= 20 ? name : runes.slice(0, 8).join("") + "…" + runes.slice(-8).join("");
}

// shortTarget shortens the target of a rule if that is a peer.
export const shortTarget = (target) => (target.startsWith("peer ") ? `peer ${shorten(target.slice(5))}` : target);

// brief shortens the names of peers in a sentence of the node.
export const brief = (text) => text.replace(/[A-Za-z0-9]{40,}/g, shorten);
