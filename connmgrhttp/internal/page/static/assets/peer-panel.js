// This file shows all that is known about a peer, beside the rest of the page: why it
// stays or goes, its score, its connections, the rules about it and its history.

import { cell, fill, h, row, table } from "./dom.js";
import { get, segment } from "./api.js";
import { complain } from "./dialogs.js";
import { count, duration, number, setNodeTime, shortTarget, shorten, signed, until } from "./format.js";
import { because, plain, trigger } from "./words.js";
import { copyButton } from "./peer-link.js";
import { actionButtons } from "./peer-dialogs.js";
import { scoreSum, verdictBadge } from "./peers.js";
import { line } from "./event-line.js";
import { calendar, sentence, timeAt } from "./time.js";
import { ruleEffect, ruleEnds } from "./rule-text.js";

let open = null; // {name, dialog, update}
let left = () => {};
let changed = () => {};

// start takes what to do when the panel is closed, and when the peer was changed in it.
export function start({ onLeave, onChange }) {
  left = onLeave;
  changed = onChange;
}

// show shows a peer in the place of another one; "" shows none.
export function show(name) {
  if (open?.name === name) return;
  const before = open;
  open = null;
  before?.dialog.close();
  if (name) build(name);
}

// refresh shows what is new, if a peer is shown.
export const refresh = () => open?.update();

// about says whether an event concerns the peer that is shown.
export const about = (event) => open !== null && (event.peer === open.name || event.type === "rules");

function build(name) {
  const id = "panel-title";
  const trouble = h("div", { role: "alert" });
  const content = h("div", { class: "content" }, h("p", { class: "empty" }, "Asking the node …"));
  const actions = actionButtons(() => {
    refresh();
    changed();
  }, { explain: false });
  actions.element.hidden = true;
  const dialog = h("dialog", { class: "panel", "aria-labelledby": id },
    h("div", { class: "head" }, h("h2", { id }, "Peer ", h("span", { class: "peer" }, shorten(name))), copyButton(name),
      h("button", { type: "button", class: "quiet close", "aria-label": "Close this panel", autofocus: true, onclick: () => dialog.close() }, "×")),
    trouble, actions.element, content);
  const mine = { name, dialog, update };
  const before = document.activeElement;
  let shown = "";
  dialog.addEventListener("click", (event) => { // beside the panel
    if (event.target === dialog && event.clientX < dialog.getBoundingClientRect().left) dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected && document.activeElement === document.body) before.focus({ preventScroll: true });
    if (open === mine) {
      open = null;
      left();
    }
  });

  async function update() {
    let peer;
    try {
      peer = await get(`peers/${segment(name)}`);
    } catch (e) {
      if (open === mine) {
        complain(trouble, e);
        if (e.status === 404 || e.status === 400) fill(content);
      }
      return;
    }
    if (open !== mine) return;
    setNodeTime(peer.plan.at);
    fill(trouble);
    actions.element.hidden = false;
    actions.update(peer);
    const text = JSON.stringify({ ...peer, plan: null, age_seconds: Math.round(peer.age_seconds / 5), conns: peer.conns.map((c) => ({ ...c, age_seconds: 0 })) });
    if (text === shown) return;
    shown = text;
    fill(content, sections(peer));
  }

  open = mine;
  document.body.append(dialog);
  dialog.showModal();
  update();
}

const part = (title, ...children) => h("section", null, h("h3", null, title), children);

function sections(p) {
  return [
    h("p", { class: "name" }, p.peer),
    part("Why", h("p", null, verdictBadge(p)),
      p.why.length ? h("ul", { class: "why" }, p.why.map((says) => h("li", null, sentence(says)))) : null,
      p.connected ? h("p", { class: "dim" }, planText(p.plan)) : null),
    p.connected || Object.keys(p.tags).length ? part("Score", score(p)) : null,
    p.protections.length ? part("Protected under", h("p", { class: "chips" }, p.protections.map((tag) => h("span", { class: "chip safe" }, `◆ ${tag}`)))) : null,
    part("Connections", connections(p)),
    p.rules.length ? part("Rules about it", h("ul", { class: "rules" }, p.rules.map((r) => h("li", null, ruleEffect(r), " ", h("b", null, shortTarget(r.target)), " ", ruleEnds(r), r.reason ? h("span", null, ` ${r.reason}`) : null, r.origin ? h("small", null, ` from ${r.origin}`) : null)))) : null,
    p.standing ? part("Reports", h("p", null, `It stands at ${p.standing.score.toFixed(1)} on the ban ladder, after ${count(p.standing.bans, "ban")}`, p.standing.banned_until ? ["; banned until ", calendar(p.standing.banned_until), `, ${until(p.standing.banned_until)}`] : null, ".")) : null,
    part("History", p.history.length ? h("ol", { class: "events" }, p.history.map((e) => line(e, { known: p.peer }))) : h("p", { class: "empty" }, "Nothing is remembered.")),
  ];
}

function planText(plan) {
  return ["As of ", timeAt(plan.at), `, for a trim (${trigger(plan.trigger)}): ${count(plan.counted, "connection")} ${plan.counted === 1 ? "counts" : "count"}, ${number(plan.target)} ${plan.target === 1 ? "has" : "have"} to go, ${number(plan.freed)} would.`,
    plan.shortfall ? ` ${number(plan.shortfall)} more ${plan.shortfall === 1 ? "is" : "are"} held by ${because(plan.causes)}.` : null];
}

function score(p) {
  const tags = Object.entries(p.tags).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const line = (what, n, kind) => h("tr", { class: kind ?? "" }, h("th", { scope: "row" }, what), h("td", null, kind ? number(n) : signed(n)));
  return [h("p", null, scoreSum(p)), h("table", { class: "plain sums" }, h("caption", { class: "unseen" }, "What the score is the sum of"), h("tbody", null,
    tags.map(([tag, value]) => line(`tag ${tag}`, value)),
    p.connected ? [line("bonus for an outbound connection", p.outbound_bonus), line("bonus for open streams", p.active_bonus)] : null,
    line("score", p.score, "total")))];
}

function connections(p) {
  if (p.conns.length === 0) return h("p", { class: "empty" }, "It has none.");
  return table("Its connections", ["Direction", "Address", "Streams", "Age", "State"], h("tbody", { role: "rowgroup" }, p.conns.map((c) => row(
    cell("Direction", plain(c.direction)), cell("Address", c.address ?? "not known"), cell("Streams", number(c.streams)),
    cell("Age", duration(c.age_seconds)), cell("State", plain(c.state))))));
}

