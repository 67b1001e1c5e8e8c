// This file shows who goes next: what a trim would do now, and the buttons that do it.

import { $, cell, fill, h, keyed, setText, table } from "./dom.js";
import { get, send } from "./api.js";
import { ask, complain, notice, say } from "./dialogs.js";
import { count, duration, number, setNodeTime, until } from "./format.js";
import { because, keptBy, reason, trigger, triggers } from "./words.js";
import { timeAt } from "./time.js";
import { copyButton, peerLink } from "./peer-link.js";
import { chips, directions, scoreSum } from "./peers.js";

const shown = 100; // peers of the list

let select;
let sentence;
let figures;
let body;
let list;
let more;
let trouble;
let changed = () => {};

// start makes the section. onChange is called after a trim.
export function start(onChange) {
  changed = onChange;
  select = h("select", { id: "plan-trigger", onchange: refresh }, triggers.map((word) => h("option", { value: word }, trigger(word))));
  sentence = h("p", { class: "lead", id: "plan-sentence" });
  figures = h("dl", { class: "figures small" });
  trouble = h("div", { role: "alert" });
  more = h("p", { class: "empty" });
  body = h("tbody", { role: "rowgroup" });
  list = table("Those who would go, the first to go first", ["No.", "Peer", "Score", "Reason", "Connections", "Streams", "Age"], body);
  fill($("next"),
    h("div", { class: "toolbar" },
      h("label", null, "What a trim would do, by its trigger ", select),
      h("span", { class: "spring" }),
      h("button", { type: "button", class: "primary", id: "trim-now", onclick: trimNow }, "Trim now…"),
      h("button", { type: "button", class: "danger-quiet", id: "trim-force", onclick: forceTrim }, "Force…")),
    trouble, sentence, figures, list, more);
}

// refresh asks for the plan again.
export async function refresh() {
  const wanted = select.value;
  let plan;
  try {
    plan = await get("plan", { trigger: wanted, limit: shown });
  } catch (e) {
    complain(trouble, e);
    return;
  }
  if (wanted !== select.value) return;
  setNodeTime(plan.at);
  fill(trouble);
  setText(sentence, inWords(plan));
  showFigures(plan);
  keyed(body, plan.peers, (p) => p.peer, makeRow);
  list.hidden = plan.peers.length === 0;
  const rest = plan.closes - plan.peers.length;
  more.hidden = rest <= 0;
  setText(more, `and ${count(rest, "peer")} more, who are in the list of peers`);
}

// inWords says what a plan does, and if that is too little, why.
function inWords(plan) {
  const kept = Object.entries(plan.kept).filter(([, n]) => n > 0).map(([word, n]) => keptBy(word, n)).join(", ");
  const stay = kept ? ` ${plan.closes === 0 ? "All" : "The others"} stay: ${kept}.` : "";
  const what = plan.closes === 0 ? (plan.target === 0 ? "Nobody would go: there are no more connections that count than low water." : "Nobody would go.")
    : `${count(plan.closes, "peer")} with ${count(plan.freed, "connection")} would go.`;
  const grace = plan.causes?.includes("grace") && plan.grace_ends ? ` The first grace period ends ${until(plan.grace_ends)}.` : "";
  const short = plan.shortfall ? ` ${count(plan.shortfall, plan.freed ? "more connection" : "connection")} would have to: what stands in the way is ${because(plan.causes)}.${grace}` : "";
  return what + short + stay;
}

function showFigures(plan) {
  const rows = [["All", plan.total], ["Counted", plan.counted], ["To go", plan.target], ["Would go", plan.freed], ["Protected", plan.protected], ["In grace", plan.in_grace], ["Shortfall", plan.shortfall, plan.shortfall ? "warn" : ""]];
  fill(figures, rows.map(([name, n, tone]) => h("div", { class: `figure ${tone ?? ""}` }, h("dt", null, name), h("dd", null, number(n)))),
    h("div", { class: "figure" }, h("dt", null, "As of"), h("dd", null, timeAt(plan.at))));
}

function makeRow(peer) {
  const cells = ["No.", "Score", "Reason", "Connections", "Streams", "Age"].map((label) => cell(label));
  const [rank, score, why, conns, streams, since] = cells;
  since.className = "age";
  const e = h("tr", { role: "row" }, rank, h("th", { scope: "row", role: "rowheader", "data-label": "Peer" }, peerLink(peer.peer), copyButton(peer.peer)), score, why, conns, streams, since);
  e.update = (p) => {
    setText(rank, number(p.verdict.rank));
    fill(score, scoreSum(p), chips(p, 3));
    setText(why, reason(p.verdict.reason));
    setText(conns, directions(p));
    setText(streams, number(p.streams));
    setText(since, duration(p.age_seconds));
  };
  return e;
}

// trimNow asks with the numbers of a plan that is new, since the one on the page may be of
// another trigger.
async function trimNow() {
  const plan = await planFor("manual");
  if (!plan) return;
  const nobody = plan.closes === 0;
  await ask({
    title: "Trim now",
    content: [h("p", { class: "lead" }, inWords(plan)), h("p", null, nobody ? "You can trim all the same; the plan is made again when it starts."
      : "The plan is made again when the trim starts. Who is protected or rises meanwhile stays. This cannot be undone: peers come back if they want to.")],
    confirm: nobody ? "Trim" : `Close ${count(plan.closes, "peer")}`, danger: !nobody,
    run: () => trim(false),
  });
}

// forceTrim lets nobody do it in passing: it takes protected peers too.
async function forceTrim() {
  const plan = await planFor("force");
  if (!plan) return;
  const despite = plan.peers.filter((p) => p.verdict.reason === "forced_protected").length;
  const sure = h("input", { type: "checkbox", id: "force-sure", autofocus: true });
  await ask({
    title: "Force a trim",
    content: [
      h("p", { class: "lead" }, inWords(plan)),
      h("p", { class: "problem" }, "A forced trim goes down to low water whatever it takes: newcomers go in spite of their grace period, and if that is not enough, protected peers go in spite of their protection",
        despite ? h("b", null, `: now ${plan.peers.length < plan.closes ? "at least " : ""}${count(despite, "protected peer")}.`) : "; now it would not come to that."),
      h("label", { class: "check" }, sure, "Yes, whoever it is")],
    confirm: `Force: close ${count(plan.closes, "peer")}`, danger: true,
    run() {
      if (!sure.checked) throw { title: "Tick the box first." };
      return trim(true);
    },
  });
}

async function planFor(word) {
  try {
    return await get("plan", { trigger: word, limit: word === "force" ? 1000 : 0 });
  } catch (e) {
    say(trouble, e);
    return null;
  }
}

async function trim(force) {
  const done = await send("POST", "trim", { json: { force } });
  const extra = [
    done.spared ? `${number(done.spared)} spared` : "", done.failed ? `${count(done.failed, "connection")} would not close` : "",
    done.hanging ? `${count(done.hanging, "peer")} hanging` : "", done.shortfall ? `${number(done.shortfall)} short of the target: ${because(done.causes)}` : "",
  ].filter(Boolean);
  notice([`The trim closed ${count(done.closed ?? 0, "peer")}`, ...extra].join("; ") + ".", done.failed || done.hanging ? "bad" : "good");
  changed();
}
