// This file shows one section at a time, by the address behind the "#": "#/rules", or
// "#/peer/NAME" for a peer, over whatever section there is. Links, history and bookmarks
// work as they do everywhere.

import { $ } from "./dom.js";

const names = ["peers", "next", "events", "rules", "limits"];
let current = "";

// active says whether a section is the one that is seen.
export const active = (name) => current === name && !document.hidden;

// leavePeer is called when a peer is no longer shown: the address is the section's again.
export function leavePeer() {
  if (location.hash.startsWith("#/peer/")) history.replaceState(null, "", `#/${current}`);
}

// start calls onTab with a section's name when it is shown, and onPeer with the name of a
// peer that the address asks for, "" if it asks for none.
export function start({ onTab, onPeer }) {
  const go = () => {
    if (location.hash !== "" && !location.hash.startsWith("#/")) return; // the skip link
    const [, name, ...rest] = location.hash.split("/");
    show(name === "peer" ? current || "peers" : names.includes(name) ? name : "peers", onTab);
    let peer = "";
    try {
      if (name === "peer") peer = decodeURIComponent(rest.join("/"));
    } catch {
      // an address that somebody broke off
    }
    onPeer(peer);
  };
  addEventListener("hashchange", go);
  go();
}

function show(tab, onTab) {
  if (tab === current) return;
  current = tab;
  for (const other of names) $(other).hidden = other !== tab;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.dataset.tab === tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  onTab(tab);
}
