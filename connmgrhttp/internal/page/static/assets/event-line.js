// This file is an event in one line.

import { h } from "./dom.js";
import { eventTypes, plain } from "./words.js";
import { peerLink } from "./peer-link.js";
import { sentence, timeAt } from "./time.js";

// line is an event in one line, with a link to its peer, unless that is known already.
export function line(event, { known = "" } = {}) {
  return h("li", { class: `event ${eventTypes[event.type] ?? "dim"}` },
    timeAt(event.at),
    h("span", { class: "kind" }, plain(event.type)),
    h("span", { class: "text" }, event.peer && event.peer !== known ? [peerLink(event.peer), " "] : null, sentence(text(event))));
}

// text is what the node says about an event, and the address if that does not say it.
export function text(event) {
  const says = event.text ?? "";
  const address = addressOf(event);
  return address && !says.includes(address) ? `${says} (${address})` : says;
}

// addressOf is where the connection of an event came from or went to, if that is known.
export const addressOf = (e) => e.address ?? e.closed?.address ?? e.denied?.address;
