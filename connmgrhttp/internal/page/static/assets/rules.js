// This file lists the rules of the gate, and lets rules be added, removed, imported and
// exported.

import { $, cell, fill, h, keyed, setText, table } from "./dom.js";
import { get, request } from "./api.js";
import { ask, complain, notice, say } from "./dialogs.js";
import { count, shortTarget } from "./format.js";
import { ruleEffect, ruleEnds } from "./rule-text.js";
import { addRule, importRules } from "./rule-dialogs.js";
import { peerLink } from "./peer-link.js";
import { debounce } from "./poll.js";
import { pager } from "./pager.js";

const limit = 50;
const query = { q: "", effect: "", origin: "", offset: 0 };

let body;
let list;
let empty;
let trouble;
let pages;
let asked = 0;
let changed = () => {};

// start makes the section. onChange is called after a change.
export function start(onChange) {
  changed = () => {
    refresh();
    onChange();
  };
  const typed = debounce(first, 250);
  const search = (name, label) => h("label", { class: name === "q" ? "search" : "" }, h("span", { class: "unseen" }, label),
    h("input", { type: "search", id: `rules-${name}`, placeholder: label, autocomplete: "off", spellcheck: "false", oninput(event) {
      query[name] = event.target.value.trim();
      typed();
    } }));
  const effect = h("select", { id: "rules-effect", onchange() {
    query.effect = effect.value;
    first();
  } }, h("option", { value: "" }, "deny and allow"), h("option", { value: "deny" }, "deny"), h("option", { value: "allow" }, "allow"));
  const after = (f) => async () => {
    if (await f()) changed();
  };
  trouble = h("div", { role: "alert" });
  empty = h("p", { class: "empty", hidden: true });
  body = h("tbody", { role: "rowgroup" });
  list = table("Rules", ["Effect", "Target", "Ends", "Reason", "Origin", "Actions"], body);
  pages = pager(limit, "rule", (offset) => {
    query.offset = offset;
    refresh();
  });
  fill($("rules"),
    h("form", { class: "toolbar", role: "search", onsubmit: (event) => event.preventDefault() },
      search("q", "Part of a target or reason"), search("origin", "Origin"),
      h("label", null, h("span", { class: "unseen" }, "Effect"), effect),
      h("span", { class: "spring" }),
      h("button", { type: "button", class: "primary", id: "rule-add", onclick: after(addRule) }, "Add a rule…"),
      h("button", { type: "button", id: "rule-import", onclick: after(importRules) }, "Import…"),
      h("button", { type: "button", id: "rule-export", onclick: exportRules }, "Export")),
    trouble, list, empty, pages.element);
}

function first() {
  query.offset = 0;
  refresh();
}

// refresh fetches the page that is shown.
export async function refresh() {
  const mine = ++asked;
  let answer;
  try {
    answer = await get("rules", { ...query, limit });
  } catch (e) {
    if (mine === asked) complain(trouble, e);
    return;
  }
  if (mine !== asked) return;
  if (answer.rules.length === 0 && answer.matched > 0 && answer.offset > 0) {
    query.offset = Math.floor((answer.matched - 1) / limit) * limit;
    refresh();
    return;
  }
  fill(trouble);
  keyed(body, answer.rules, (r) => JSON.stringify([r.effect, r.target, r.origin ?? ""]), makeRow);
  list.hidden = answer.rules.length === 0;
  empty.hidden = answer.rules.length > 0;
  setText(empty, answer.total === 0 ? "There are no rules: whoever comes is let in, up to the limits." : `None of the ${count(answer.total, "rule")} is like that.`);
  pages.show(answer);
}

function makeRow(rule) {
  const ends = cell("Ends");
  const reason = cell("Reason");
  const peer = /^peer (.+)$/s.exec(rule.target);
  let current = rule;
  const remove = h("button", { type: "button", class: "small", "aria-label": `Remove the rule ${rule.effect} ${rule.target}`, onclick: () => removeRule(current) }, "Remove");
  const e = h("tr", { role: "row" },
    cell("Effect", ruleEffect(rule)),
    h("th", { scope: "row", role: "rowheader", "data-label": "Target", class: "target" }, peer ? ["peer ", peerLink(peer[1])] : rule.target),
    ends, reason, cell("Origin", rule.origin || h("span", { class: "dim" }, "set by hand")),
    h("td", { role: "cell", class: "actions", "data-label": "Actions" }, remove));
  let last = null;
  e.update = (r) => {
    current = r;
    const text = ruleEnds(r);
    if (last?.textContent !== text.textContent) fill(ends, last = text);
    setText(reason, r.reason ?? "");
  };
  return e;
}

async function removeRule(rule) {
  const done = await ask({
    title: "Remove this rule",
    content: [h("p", { class: "who" }, `${rule.effect} ${rule.target}`),
      h("p", null, rule.effect === "deny" ? "Who is denied by it can connect again, unless another rule denies them." : "Who is allowed by it has to pass the limits again, and the rules that deny."),
      rule.origin ? h("p", null, "It comes from ", h("b", null, rule.origin), ": the next import of that brings it back if it is still in there.") : null],
    confirm: "Remove", danger: true,
    async run() {
      const answer = await (await request("DELETE", "rules", { query: { target: rule.target, effect: rule.effect, origin: rule.origin } })).json();
      const still = answer.denied_by ? ` ${answer.denied_by.target} still denies it.` : "";
      notice(answer.removed ? `Removed the rule ${rule.effect} ${shortTarget(rule.target)}.${still}` : "The rule was gone already.", still ? "warn" : "good");
    },
  });
  if (done) changed();
}

// exportRules saves the list as a file. A plain link could not send the token.
async function exportRules() {
  try {
    const response = await request("GET", "rules/export", { query: { origin: query.origin }, time: 60_000 });
    const url = URL.createObjectURL(await response.blob());
    const link = h("a", { href: url, download: "connmgr-rules.txt", hidden: true });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    fill(trouble);
  } catch (e) {
    say(trouble, e);
  }
}

