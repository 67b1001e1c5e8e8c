// This file finds peers by what somebody types: a name, part of one, its short form as the
// page shows it, or an address.

import { $ } from "./dom.js";

const ellipsis = /…|\.\.\./;

// searchText is what of a text the node can look for: of a short form its end, which is
// what tells names apart.
export const searchText = (text) => text.split(ellipsis).filter(Boolean).at(-1) ?? "";

// matcher returns a function that says whether a name is like a text.
export function matcher(text) {
  const wanted = text.toLowerCase();
  const [begin, ...rest] = wanted.split(ellipsis);
  if (rest.length === 0) return (name) => name.toLowerCase().includes(wanted);
  const end = rest.at(-1);
  return (name) => name.toLowerCase().startsWith(begin) && name.toLowerCase().endsWith(end);
}

// mayBeName says whether a text could be the whole name of a peer. What names look like is
// the node's matter; where its own is long, like libp2p's, so are those of others.
export function mayBeName(text) {
  if (text === "" || /\s/.test(text) || ellipsis.test(text)) return false;
  if (/^[\d.:/]+$/.test(text) || /^\[?[\da-f]*:[\da-f:.]*\]?(:\d+)?(\/\d+)?$/i.test(text)) return false; // an address
  return $("node").title.length < 40 || text.length >= 40;
}
