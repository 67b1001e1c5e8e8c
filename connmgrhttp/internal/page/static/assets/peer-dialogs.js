// This file has what can be done to a peer: protect, tag, close, block; each behind a
// dialog that says what will happen.

import { fill, h } from "./dom.js";
import { get, request, segment, send } from "./api.js";
import { ask, durationSelect, durationText, field, notice } from "./dialogs.js";
import { count, host, network, number, shortTarget, shorten } from "./format.js";
import { addressOf } from "./event-line.js";
import { peerHash } from "./peer-link.js";

// actionButtons makes the buttons of a peer. changed is called after something was done.
export function actionButtons(changed, { explain = true } = {}) {
  let peer = null;
  const button = (text, act, what) => h("button", {
    type: "button", class: "small", onclick: async () => {
      if (await act(peer)) changed();
    },
    "data-action": what,
  }, text);
  const protect = button("Protect", (p) => (p.protections.length ? unprotectPeer(p) : protectPeer(p)), "protect");
  const buttons = [
    explain ? h("a", { class: "button small", "data-action": "explain" }, "Explain") : null,
    protect, button("Tag", tagPeer, "tag"), button("Close", closePeer, "close"), button("Block", blockPeer, "block"),
  ];
  const element = h("div", { class: "actions" }, buttons);
  return {
    element,
    update(p) {
      peer = p;
      protect.textContent = p.protections.length ? "Unprotect" : "Protect";
      for (const b of element.children) {
        b.setAttribute("aria-label", `${b.textContent} ${shorten(p.peer)}`);
        if (b.dataset.action === "explain") b.href = peerHash(p.peer);
        if (b.dataset.action === "close") b.disabled = p.connections === 0;
      }
    },
  };
}

// who names a peer in a dialog, in full.
const who = (p) => h("p", { class: "who" }, p.peer);

const path = (p, ...rest) => ["peers", segment(p.peer), ...rest.map((r, i) => (i % 2 ? segment(r) : r))].join("/");

function protectPeer(p) {
  const tag = h("input", { id: "protect-tag", name: "tag", value: "operator", required: true, autocomplete: "off", autofocus: true });
  return ask({
    title: "Protect this peer",
    content: [who(p), h("p", null, "Trims leave it alone, and its tags do not matter. A rule or a forced trim still closes it."),
      field("Under the tag", tag, "A peer stays protected until every tag that protects it is removed.")],
    confirm: "Protect",
    async run() {
      need(tag.value.trim(), "tag", "A protection needs a tag.");
      const answer = await send("PUT", path(p, "protections", tag.value.trim()));
      notice(`Protected ${shorten(answer.peer)}.`);
    },
  });
}

function unprotectPeer(p) {
  const one = p.protections.length === 1;
  const boxes = p.protections.map((tag) => h("input", { type: "checkbox", value: tag, checked: true }));
  return ask({
    title: "Remove the protection of this peer",
    content: [who(p),
      one ? h("p", null, "It is protected under ", h("b", null, p.protections[0]), ". Without that, trims can close it.")
        : h("fieldset", { class: "checks" }, h("legend", null, "It is protected under these tags. Without any, trims can close it."),
          boxes.map((box, i) => h("label", { class: "check" }, box, p.protections[i])))],
    confirm: "Unprotect",
    async run() {
      const chosen = boxes.filter((b) => b.checked).map((b) => b.value);
      if (chosen.length === 0) throw { title: "Choose at least one tag." };
      let answer;
      for (const tag of chosen) answer = await send("DELETE", path(p, "protections", tag));
      notice(answer.protected ? `${shorten(p.peer)} is still protected under ${answer.protections.join(", ")}.` : `${shorten(p.peer)} is no longer protected.`);
    },
  });
}

function tagPeer(p) {
  const tags = Object.keys(p.tags);
  const name = h("input", { id: "tag-name", name: "tag", required: true, autocomplete: "off", list: "tag-names", autofocus: true });
  const value = h("input", { id: "tag-value", name: "value", inputmode: "numeric", autocomplete: "off" });
  const remove = h("input", { type: "checkbox", id: "tag-remove", onchange: () => { value.disabled = remove.checked; } });
  name.addEventListener("input", () => {
    if (tags.includes(name.value) && value.value === "") value.value = String(p.tags[name.value]);
  });
  return ask({
    title: "Tag this peer",
    content: [who(p),
      h("p", null, tags.length ? `It has ${tags.map((t) => `${t} ${number(p.tags[t])}`).join(", ")}.` : "It has no tags.", " The score is the sum of the values; who scores least goes first."),
      h("datalist", { id: "tag-names" }, tags.map((t) => h("option", { value: t }))),
      field("Tag", name), field("Value", value, "Any integer. It takes the place of what the tag has."),
      tags.length ? h("label", { class: "check" }, remove, "Remove this tag instead") : null],
    confirm: "Set",
    async run() {
      const tag = name.value.trim();
      need(tag, "tag", "A tag needs a name.");
      if (remove.checked) {
        await send("DELETE", path(p, "tags", tag));
        notice(`Removed the tag ${tag} of ${shorten(p.peer)}.`);
        return;
      }
      const text = value.value.trim().replace("−", "-");
      if (!/^[-+]?\d+$/.test(text)) throw { title: "The value must be an integer.", field: "value" };
      // As text: a number of JavaScript has 53 bits, and a tag's value 64.
      const answer = await (await request("PUT", path(p, "tags", tag), { body: `{"value":${text.replace("+", "").replace(/^(-?)0+(?=\d)/, "$1")}}` })).json();
      notice(`${shorten(p.peer)} has ${tag} now; its tags add up to ${number(answer.tag_sum)}.`);
    },
  });
}

function closePeer(p) {
  return ask({
    title: "Close this peer",
    content: [who(p), h("p", null, `${p.connections === 1 ? "Its connection is" : `Its ${count(p.connections, "connection")} are`} closed.`,
      p.protections.length ? " It is protected, which does not help it against you." : "",
      " It may come back at once: block it to keep it away.")],
    confirm: "Close", danger: true,
    async run() {
      const answer = await send("POST", path(p, "close"));
      notice(answer.connections ? `Closed ${count(answer.connections, "connection")} of ${shorten(p.peer)}.` : `${shorten(p.peer)} was not connected any more.`);
    },
  });
}

function blockPeer(p) {
  const target = h("select", { id: "block-target", name: "target", autofocus: true },
    h("option", { value: `peer ${p.peer}` }, "this peer, wherever it is"));
  for (const [value, text] of places(p)) {
    const option = h("option", { value }, text);
    target.append(option);
    get("peers", { address: value, limit: 1 }).then(
      (list) => { option.textContent = `${text} (${number(list.matched)} connected)`; },
      () => {}, // it can be blocked without that number
    );
  }
  const seconds = durationSelect("block-seconds");
  const why = h("input", { id: "block-reason", name: "reason", autocomplete: "off" });
  const effect = h("p", null);
  const explain = () => fill(effect, target.selectedIndex === 0
    ? "Its connections are closed, and new ones are refused."
    : `Connections to and from ${target.value} are closed, whoever is there, and new ones are refused.`);
  target.addEventListener("change", explain);
  explain();
  return ask({
    title: "Block this peer",
    content: [who(p), field("Whom", target), field("How long", seconds), field("Why", why, "It is shown with the rule."), effect,
      p.protections.length ? h("p", { id: "block-protected" }, "It is protected: protection does not help against rules.") : null],
    confirm: "Block", danger: true,
    async run() {
      const answer = await send("POST", "block", { json: { target: target.value, for_seconds: Number(seconds.value), reason: why.value.trim() || undefined } });
      notice(`Blocked ${shortTarget(answer.rule.target)} ${answer.rule.expires ? `for ${durationText(seconds.value)}` : "for good"}; ${count(answer.closed_peers, "peer")} closed.`);
    },
  });
}

// places is where else a peer could be blocked: at its addresses, and in the networks around
// them. Of a peer that is gone those it had are known from its history.
function places(p) {
  const addresses = p.addresses.length ? p.addresses : (p.history ?? []).map(addressOf).filter(Boolean);
  const hosts = [...new Set(addresses.map(host))].slice(0, 4);
  return [
    ...hosts.map((a) => [a, `everybody at ${a}`]),
    ...[...new Set(hosts.map(network).filter(Boolean))].map((n) => [n, `everybody in ${n}`]),
  ];
}

function need(text, name, title) {
  if (!text) throw { title, field: name };
}
