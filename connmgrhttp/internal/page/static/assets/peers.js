// This file lists the connected peers, a page at a time: filters, order, and for each its
// score, its verdict and what can be done. The node filters and sorts; it may have 100,000.

import { $, cell, fill, h, keyed, setText, table } from "./dom.js";
import { get } from "./api.js";
import { complain } from "./dialogs.js";
import { duration, host, number, setNodeTime } from "./format.js";
import { planReasons, reason, verdict } from "./words.js";
import { copyButton, peerHash, peerLink } from "./peer-link.js";
import { mayBeName, searchText } from "./peer-match.js";
import { namesLike } from "./events.js";
import { actionButtons } from "./peer-dialogs.js";
import { debounce } from "./poll.js";
import { pager } from "./pager.js";

const limit = 50;
const query = { q: "", tag: "", direction: "", verdict: "", protected: "", sort: "next", order: "asc", offset: 0 };
// columns is what is above the table, and what the node sorts by for it.
const columns = [
  ["Peer", "peer"], ["Address", null], ["Verdict", "next"], ["Score", "score"], ["Connections", "connections"], ["Streams", "streams"], ["Age", "age"], ["Actions", null],
];
const startsDescending = new Set(["streams", "connections"]);

let body;
let heads;
let pages;
let trouble;
let empty;
let sortSelect;
let asked = 0; // the number of the last request, so that an older answer is not shown
let changed = () => {};

// start makes the section. onChange is called when a peer was changed here.
export function start(onChange) {
  changed = onChange;
  trouble = h("div", { role: "alert" });
  empty = h("p", { class: "empty", hidden: true });
  body = h("tbody", { role: "rowgroup" });
  heads = new Map(columns.map(([label, sort]) => [sort ?? label, header(label, sort)]));
  pages = pager(limit, "peer", (offset) => {
    query.offset = offset;
    refresh();
  });
  fill($("peers"), toolbar(), trouble, table("Connected peers", [...heads.values()], body), empty, pages.element);
  sorted();
}

function toolbar() {
  const typed = debounce(first, 250);
  const input = (name, label, placeholder) => h("label", { class: name === "q" ? "search" : "" }, h("span", { class: "unseen" }, label),
    h("input", {
      type: "search", id: `peers-${name}`, placeholder, autocomplete: "off", spellcheck: "false",
      oninput(event) {
        query[name] = event.target.value.trim();
        typed();
      },
    }));
  const select = (name, label, options) => h("label", null, h("span", { class: "unseen" }, label),
    h("select", {
      id: `peers-${name}`, onchange(event) {
        query[name] = event.target.value;
        first();
      },
    }, options.map(([value, text]) => h("option", { value }, text))));
  sortSelect = h("select", {
    id: "peers-sort", onchange(event) {
      [query.sort, query.order] = event.target.value.split(" ");
      sorted();
      first();
    },
  }, columns.filter(([, sort]) => sort).flatMap(([label, sort]) => [
    h("option", { value: `${sort} asc` }, `${label} ↑`), h("option", { value: `${sort} desc` }, `${label} ↓`)]));
  return h("form", { class: "toolbar", role: "search", onsubmit: (event) => event.preventDefault() },
    input("q", "Find a peer", "Part of a name or address"),
    input("tag", "With the tag", "Tag"),
    select("direction", "Direction", [["", "any direction"], ["inbound", "inbound"], ["outbound", "outbound"]]),
    select("verdict", "Verdict", [["", "any verdict"], ["closed=true", "would go"], ["closed=false", "would stay"], ...planReasons.map((r) => [`reason=${r}`, reason(r)])]),
    select("protected", "Protection", [["", "protected or not"], ["true", "protected"], ["false", "not protected"]]),
    h("label", { class: "only-phone" }, "Order ", sortSelect));
}

function header(label, sort) {
  if (!sort) return h("th", { scope: "col", role: "columnheader" }, label);
  return h("th", { scope: "col", role: "columnheader", class: `by-${sort}` }, h("button", {
    type: "button", class: "sort", onclick() {
      if (query.sort === sort) query.order = query.order === "asc" ? "desc" : "asc";
      else Object.assign(query, { sort, order: startsDescending.has(sort) ? "desc" : "asc" });
      sorted();
      first();
    },
  }, label));
}

// sorted says by what the list is sorted.
function sorted() {
  for (const [sort, th] of heads) {
    if (sort === query.sort) th.setAttribute("aria-sort", query.order === "asc" ? "ascending" : "descending");
    else th.removeAttribute("aria-sort");
  }
  sortSelect.value = `${query.sort} ${query.order}`;
}

// first begins at the first page again, since the filters are others.
function first() {
  query.offset = 0;
  refresh();
}

// refresh fetches the page that is shown.
export async function refresh() {
  const mine = ++asked;
  const { verdict: wanted, ...rest } = query;
  const params = { ...rest, q: searchText(query.q), limit };
  if (wanted) {
    const [name, value] = wanted.split("=");
    params[name] = value;
  }
  let list;
  try {
    list = await get("peers", params);
  } catch (e) {
    if (mine === asked) complain(trouble, e);
    return;
  }
  if (mine !== asked) return;
  if (list.peers.length === 0 && list.matched > 0 && list.offset > 0) { // they left meanwhile
    query.offset = Math.floor((list.matched - 1) / limit) * limit;
    refresh();
    return;
  }
  setNodeTime(list.at);
  fill(trouble);
  keyed(body, list.peers, (p) => p.peer, makeRow);
  empty.hidden = list.peers.length > 0;
  showNobody(list.total);
  pages.show(list);
}

// showNobody says that there is nobody in the list, and leads to those who are gone.
let nobody = "";
function showNobody(total) {
  const whole = mayBeName(query.q);
  const gone = query.q && !whole ? namesLike(query.q, 5) : [];
  const key = JSON.stringify([total === 0, query.q, gone]);
  if (key === nobody) return; // or who is on a link would lose it
  nobody = key;
  fill(empty, total === 0 ? "No peer is connected." : "Nobody connected is like that.",
    whole ? [" If it was here, ", h("a", { href: peerHash(query.q) }, "look it up"), ": its history says why it is gone."] : null,
    gone.length ? [" Seen lately: ", gone.map((name, i) => [i ? ", " : "", peerLink(name)]), "."] : null);
}

function makeRow(peer) {
  const where = cell("Address");
  const badge = cell("Verdict");
  const score = cell("Score");
  const conns = cell("Connections");
  const streams = cell("Streams");
  const since = cell("Age");
  since.className = "age";
  const actions = actionButtons(() => changed());
  const e = h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader", "data-label": "Peer" }, peerLink(peer.peer), copyButton(peer.peer)),
    where, badge, score, conns, streams, since, h("td", { role: "cell", class: "actions", "data-label": "Actions" }, actions.element));
  let shown = "";
  e.update = (p) => {
    setText(since, duration(p.age_seconds));
    const text = JSON.stringify({ ...p, age_seconds: 0 }) + (p.grace_ends ? verdict(p).text : "");
    if (text === shown) return;
    shown = text;
    e.classList.toggle("goes", p.verdict.closed);
    fill(where, h("span", { class: "address", title: p.addresses.join("\n") }, addressText(p.addresses)), p.trusted ? h("small", { title: "A rule let it pass the limits at the door" }, " trusted") : null);
    fill(badge, verdictBadge(p));
    fill(score, scoreSum(p), chips(p, 3));
    setText(conns, directions(p));
    setText(streams, number(p.streams));
    actions.update(p);
  };
  return e;
}

const addressText = (addresses) => (addresses.length === 0 ? "not known" : host(addresses[0]) + (addresses.length > 1 ? ` +${number(addresses.length - 1)}` : ""));

// directions says which side opened a peer's connections.
export function directions(p) {
  const inbound = p.connections - p.outbound;
  if (p.connections === 1) return p.outbound ? "1 out" : "1 in";
  return [inbound ? `${number(inbound)} in` : "", p.outbound ? `${number(p.outbound)} out` : ""].filter(Boolean).join(", ") || "0";
}

// verdictBadge is a verdict with its symbol, and its meaning at hand.
export function verdictBadge(p) {
  const v = verdict(p);
  return h("span", { class: `verdict ${v.tone}`, title: v.about }, h("span", { class: "symbol", "aria-hidden": "true" }, v.symbol), v.text);
}

// scoreSum is a score and what it is the sum of.
export function scoreSum(p) {
  if (p.outbound_bonus === 0 && p.active_bonus === 0) return h("span", { class: "sum" }, h("b", null, number(p.score)));
  const parts = [[p.tag_sum, "tags"], [p.outbound_bonus, "outbound"], [p.active_bonus, "active"]].filter(([n]) => n !== 0);
  const sum = parts.map(([n, what], i) => (i ? (n < 0 ? "− " : "+ ") + number(Math.abs(n)) : number(n)) + ` ${what}`).join(" ");
  return h("span", { class: "sum" }, h("b", null, number(p.score)), h("small", null, ` = ${sum}`));
}

// chips is the tags, the weightiest first, and the protections.
export function chips(p, most) {
  const tags = Object.entries(p.tags).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const all = [
    ...p.protections.map((tag) => h("span", { class: "chip safe", title: `Protected under ${tag}` }, `◆ ${tag}`)),
    ...tags.map(([tag, value]) => h("span", { class: "chip" }, h("span", { class: "tag" }, tag), ` ${number(value)}`)),
  ];
  if (all.length === 0) return null;
  const more = all.length - most;
  return h("span", { class: "chips" }, more > 1 ? [all.slice(0, most), h("span", { class: "chip more" }, `and ${number(more)} more`)] : all);
}
