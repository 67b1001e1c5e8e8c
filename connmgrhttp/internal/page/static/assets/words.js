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

// triggers is what a plan can be made for, in the words of trigger.
export const triggers = ["manual", "high_water", "tick", "grace_ended", "hard_limit", "force"];

// trigger is what made the node trim or close, as the command line and the log have it.
export const trigger = plain;

// kept says of how many peers a plan leaves them alone for a reason.
const kept = {
  protected: (n) => `${number(n)} ${is(n)} protected`,
  in_grace: (n) => `${number(n)} ${is(n)} in grace`,
  above_cut: (n) => `${number(n)} ${n === 1 ? "ranks" : "rank"} above the cut`,
  nothing_to_do: (n) => `for ${number(n)} there is nothing to do`,
  outbound_floor: (n) => `${number(n)} ${is(n)} kept for the outbound floor`,
};

const is = (n) => (n === 1 ? "is" : "are");

export const keptBy = (word, n) => kept[word]?.(n) ?? `${number(n)}: ${reason(word)}`;

// causes is what keeps a plan from its target.
const causes = {
  protected: "protected connections",
  grace: "connections in their grace period",
  outbound_floor: "the outbound floor",
};

// hindered is the same as sentences, and hinders joins those.
const hindered = {
  protected: "the others are protected",
  grace: "the others are in their grace period",
  outbound_floor: "outbound connections must not become fewer",
};

export const hinders = (words) => (words?.length ? words.map((w) => hindered[w] ?? plain(w)).join(", or ") : "it is not known why");

// because joins the causes of a shortfall: "protected connections and the outbound floor".
export const because = (words) => (words ?? []).map((w) => causes[w] ?? plain(w)).join(" and ");

// eventTypes is what can happen, by the words of the API, and its tone.
export const eventTypes = {
  connected: "good", disconnected: "dim", closed: "bad", trim: "new", limits: "new", denied: "bad", rules: "safe",
};

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
  events_lost: "events lost",
};

export { plain };
