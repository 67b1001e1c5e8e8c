// This file names peers: short, with the whole name at hand.

import { h, icon } from "./dom.js";
import { notice } from "./dialogs.js";
import { shorten } from "./format.js";

// peerHash is where a peer is shown.
export const peerHash = (name) => `#/peer/${encodeURIComponent(name)}`;

// peerLink leads to what is known about a peer.
export function peerLink(name, text = shorten(name)) {
  return h("a", { class: "peer", href: peerHash(name), title: name }, text);
}

// copyButton copies a name.
export function copyButton(name) {
  return h("button", {
    type: "button", class: "quiet copy", title: "Copy the whole name", "aria-label": `Copy ${shorten(name)}`,
    onclick: async () => {
      try {
        await copy(name);
        notice("Copied the name.");
      } catch {
        notice(`This browser does not let a page copy. The name: ${name}`, "bad");
      }
    },
  }, icon("M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3"));
}

// copy copies text. Browsers offer their clipboard to pages over TLS and loopback alone;
// elsewhere the old way is left.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "unseen", value: text });
  const at = document.activeElement;
  (at?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  at?.focus();
  if (!done) throw new Error("refused");
}
