// This file shows the figures at the top: what there is, what is allowed, and what went
// wrong if anything did.

import { $, h, keyed, setText } from "./dom.js";
import { count, number } from "./format.js";
import { faults } from "./words.js";

let inGrace = null; // from the plan, which the status does not have
let last = null; // the status that is shown

// showPlan shows the sums of a plan.
export function showPlan(plan) {
  inGrace = plan.in_grace;
  if (last) show(last);
}

// show shows a status.
export function show(status) {
  last = status;
  keyed($("figures"), tiles(status), (t) => t.name, () => {
    const value = h("dd", null);
    const note = h("dd", { class: "note" });
    const e = h("div", { class: "figure" }, h("dt", null), value, note);
    e.update = (t) => {
      setText(e.querySelector("dt"), t.name);
      setText(value, t.value);
      setText(note, t.note ?? "");
      note.hidden = !t.note;
      e.className = `figure ${t.tone ?? ""}`;
      if (t.about) e.title = t.about;
      else e.removeAttribute("title");
    };
    return e;
  });
}

function tiles(s) {
  const { connections: c, limits, peers, gate } = s;
  const hard = limits.hard_limit;
  const over = hard !== null && c.open >= hard ? "bad" : c.open > limits.high_water ? "warn" : "";
  const extra = [c.unknown && `${number(c.unknown)} ?`, c.closing && `${number(c.closing)} closing`].filter(Boolean);
  const list = [
    { name: "Open", value: number(c.open), note: [`${number(c.inbound)} in`, `${number(c.outbound)} out`, ...extra].join(" · "), tone: `main ${over}`, about: "Open connections, and what they are" },
    { name: "Low water", value: number(limits.low_water), about: "Where a trim stops, in connections" },
    { name: "High water", value: number(limits.high_water), about: "Above which a trim starts, in connections", note: c.open > limits.high_water ? `exceeded by ${number(c.open - limits.high_water)}` : "" },
    { name: "Hard limit", value: hard === null ? "none" : number(hard), about: "What inbound connections do not exceed", note: over !== "bad" ? "" : c.open > hard ? `exceeded by ${number(c.open - hard)}` : "reached" },
    { name: "Peers", value: number(peers.connected), about: "Connected peers", note: peers.idle ? `${number(peers.idle)} remembered` : "" },
    { name: "Protected", value: number(peers.protected), about: "Protected peers, connected or not" },
    { name: "In grace", value: number(inGrace), about: `Connections of peers that are new, and left alone for ${s.grace_period_seconds} s` },
    { name: "Refused", value: number(gate.refused), about: "Checks of the gate that ended in a refusal, since the start" },
    { name: "Rules", value: number(gate.rules), about: "Rules of the gate" },
  ];
  if (gate.unsaved_rules) {
    list.push({ name: "Unsaved rules", value: number(gate.unsaved_rules), tone: "bad", note: "see the log", about: "Changes that are in force and will be forgotten at a restart, since they could not be saved" });
  }
  const wrong = Object.entries(s.faults).filter(([, n]) => n > 0);
  if (wrong.length) {
    const all = wrong.map(([name, n]) => `${number(n)} ${faults[name] ?? name}`);
    list.push({
      name: "Faults", value: number(wrong.reduce((sum, [, n]) => sum + n, 0)), tone: "bad",
      note: all.length === 1 ? faults[wrong[0][0]] ?? wrong[0][0] : count(all.length, "kind"), about: all.join("\n"),
    });
  }
  return list;
}
