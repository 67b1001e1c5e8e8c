// This file has the words for people in place of those for machines. A word that it does
// not know is shown as it is: a newer node may have more.

import { number, until } from "./format.js";

const plain = (word) => String(word).replaceAll("_", " ");

// verdicts is by reason: a symbol, so that colour is not all there is; a tone; what it
// says in a few words; and what that means.
const verdicts = {
  not_connected: ["○", "dim", "not connected", "It has no connection, so there is nothing to decide."],
  nothing_to_do: ["●", "good", "nothing to do", "It could go, but nobody needs to: there are no more connections than low water."],
  above_cut: ["●", "good", "above the cut", "It could go, but enough others rank lower."],
  in_grace: ["◔", "new", "in grace", "It has connected a short time ago and is left alone until its grace period ends."],
  protected: ["◆", "safe", "protected", "Somebody protected it; only force and rules close it."],
  outbound_floor: ["◇", "safe", "outbound floor", "It could go, but then there would be too few connections that this node opened."],
  low_score: ["▼", "bad", "low score", "It is among the lowest-ranked of those that may be closed."],
  hard_limit: ["▼", "bad", "hard limit", "It is new, and there are more connections than the hard limit."],
  forced: ["▼", "bad", "forced", "A forced trim goes down to low water whatever grace says."],
  forced_protected: ["▼", "bad", "forced, though protected", "A forced trim took the unprotected first, and that was not enough."],
  blocked: ["■", "bad", "blocked", "A rule denies it."],
  displaced: ["▼", "bad", "displaced", "It made room for a newcomer that ranks higher."],
  misbehaved: ["■", "bad", "misbehaved", "It was reported for misbehaviour too often."],
  on_request: ["▼", "bad", "on request", "Somebody asked to close it."],
};

// verdict says what becomes of a peer: {symbol, tone, text, about}.
export function verdict(peer) {
  const { closed, reason, rank } = peer.verdict;
  const [symbol, tone, text, about] = verdicts[reason] ?? [closed ? "▼" : "●", closed ? "bad" : "good", plain(reason), ""];
  let words = text;
  if (reason === "not_connected") words = "not connected";
  else if (closed) words = `goes${rank ? ` as no. ${number(rank)}` : ""}: ${text}`;
  else words = `stays: ${text}`;
  if (reason === "in_grace" && peer.grace_ends) {
    const ends = until(peer.grace_ends);
    words += ends === "now" ? ", over now" : `, ends ${ends}`;
  }
  return { symbol, tone, text: words, about };
}

// reason is a reason in words, and reasonsOf those that a plan can have.
export const reason = (word) => verdicts[word]?.[2] ?? plain(word);
export const planReasons = ["protected", "in_grace", "above_cut", "nothing_to_do", "outbound_floor", "low_score", "hard_limit"];

// triggers is what a plan can be made for, and what the page calls it.
export const triggers = {
  manual: "a trim by hand",
  high_water: "a trim at high water",
  tick: "a trim in the background",
  grace_ended: "a trim when a grace period ends",
  hard_limit: "a trim at the hard limit",
  force: "a forced trim",
};

export const trigger = (word) => ({
  manual: "by hand", high_water: "high water", tick: "tick", grace_ended: "grace ended", hard_limit: "hard limit",
  force: "force", newcomer: "newcomer", rule: "rule", report: "report", request: "request",
})[word] ?? plain(word);

// causes is what keeps a plan from its target.
const causes = {
  protected: "protected connections",
  grace: "connections in their grace period",
  outbound_floor: "the outbound floor",
};

// because joins the causes of a shortfall: "protected connections and the outbound floor".
export const because = (words) => (words ?? []).map((w) => causes[w] ?? plain(w)).join(" and ");

// eventTypes is what can happen: a tone, a name, and what the filter calls it.
export const eventTypes = {
  connected: ["good", "connected", "connected"],
  disconnected: ["dim", "gone", "disconnected"],
  closed: ["bad", "closed", "closed"],
  trim: ["new", "trim", "trims"],
  limits: ["new", "limits", "limits"],
  denied: ["bad", "denied", "denied"],
  rules: ["safe", "rules", "rules"],
};

export const eventType = (word) => eventTypes[word] ?? ["dim", plain(word), plain(word)];

// faults is what went wrong, by its name in the status.
export const faults = {
  close_errors: "connections that would not close",
  hanging_peers: "peers whose Close hangs",
  panics: "panics caught",
  tags_refused: "tags refused",
  duplicate_connects: "connections reported twice",
  unknown_disconnects: "disconnects of nobody",
  nil_notifications: "empty notifications",
  late_notifications: "late notifications",
};

export { plain };
