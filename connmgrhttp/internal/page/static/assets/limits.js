// This file changes the limits. Only what was changed is sent, and the node checks it as a
// whole before anything changes.

import { $, fill, h } from "./dom.js";
import { get, send } from "./api.js";
import { clearFields, complain, field, notice, say, showAtField } from "./dialogs.js";

let form;
let prefixes;
let trouble;
let stale;
let loaded = null; // what the node said last
let changed = () => {};

// start makes the section. onChange is called after a change.
export function start(onChange) {
  changed = onChange;
  trouble = h("div", { role: "alert", id: "limits-trouble" });
  stale = h("p", { class: "problem", hidden: true }, "The limits have changed meanwhile. ", h("button", { type: "button", class: "small", onclick: () => load(true) }, "Show them"));
  prefixes = h("tbody", null);
  const input = (name, label, hint, value = "") => field(label, h("input", { id: `limit-${name}`, name, inputmode: "numeric", autocomplete: "off", value }), hint);
  form = h("form", { class: "limits", novalidate: true, onsubmit: save },
    h("fieldset", null, h("legend", null, "Trims"),
      input("low_water", "Low water", "Where a trim stops, in connections."),
      input("high_water", "High water", "Above which a trim starts."),
      input("hard_limit", "Hard limit", "What inbound connections do not exceed. Empty is no limit."),
      input("outbound_floor", "Outbound floor", "The outbound connections that trims leave. 0 is none.")),
    h("fieldset", null, h("legend", null, "Those who dial us"),
      input("gate.max_inbound", "Inbound connections", "At one time. 0 is no limit."),
      input("gate.max_per_peer", "Connections per peer", "0 is no limit."),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "gate.exempt_private" }), "Leave private, loopback and link-local addresses out of the limits below")),
    h("fieldset", { class: "wide" }, h("legend", null, "Per address prefix"),
      h("div", { class: "scroll" }, h("table", { class: "plain" },
        h("thead", null, h("tr", null, [...prefixColumns.map(([, label]) => label), ""].map((t) => h("th", { scope: "col" }, t)))), prefixes)),
      h("p", { class: "hint" }, "All of them apply. 0 bits leaves out the kind of address; 0 elsewhere is no limit, and for the burst one second's worth."),
      h("button", { type: "button", class: "small", onclick: () => addPrefix({ ipv4_bits: 32, ipv6_bits: 56, max_connections: 0, new_per_second: 0, burst: 0 }) }, "Add a prefix length")),
    trouble,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => load(true) }, "Discard"), h("button", { type: "submit", class: "primary" }, "Apply")));
  fill($("limits"), stale, form);
}

const prefixColumns = [
  ["ipv4_bits", "IPv4 bits"], ["ipv6_bits", "IPv6 bits"], ["max_connections", "Connections"], ["new_per_second", "New per second"], ["burst", "Burst"],
];

function addPrefix(limit) {
  const tr = h("tr", null,
    prefixColumns.map(([name, label]) => h("td", null, h("input", { "data-member": name, "aria-label": label, inputmode: "decimal", value: String(limit[name]) }))),
    h("td", null, h("button", { type: "button", class: "small", onclick: () => {
      tr.remove();
      number();
    } }, "Remove")));
  prefixes.append(tr);
  number();
}

// number names the inputs as the node does in what it refuses.
function number() {
  prefixes.parentElement.hidden = prefixes.rows.length === 0;
  [...prefixes.rows].forEach((tr, i) => {
    for (const e of tr.querySelectorAll("input")) e.name = `gate.per_prefix.${i}.${e.dataset.member}`;
  });
}

// refresh shows what the node has, unless somebody is at work on the form.
export const refresh = () => load(false);

async function load(always) {
  let limits;
  try {
    limits = await get("limits");
  } catch (e) {
    complain(trouble, e);
    return;
  }
  const same = JSON.stringify(limits) === JSON.stringify(loaded);
  if (!always && same) return;
  if (!always && loaded && JSON.stringify(patch().value) !== "{}") {
    stale.hidden = false;
    return;
  }
  stale.hidden = true;
  loaded = limits;
  fill(trouble);
  clearFields(form);
  for (const name of ["low_water", "high_water", "outbound_floor"]) form.elements[name].value = limits[name];
  form.elements.hard_limit.value = limits.hard_limit ?? "";
  form.elements["gate.max_inbound"].value = limits.gate.max_inbound;
  form.elements["gate.max_per_peer"].value = limits.gate.max_per_peer;
  form.elements["gate.exempt_private"].checked = limits.gate.exempt_private;
  fill(prefixes);
  number();
  for (const p of limits.gate.per_prefix ?? []) addPrefix(p);
}

// patch is what the form has other than the node: {value}, or {problem} if it has no
// numbers where there must be some.
function patch() {
  const value = {};
  const gate = {};
  let problem = null;
  const read = (e, whole = true) => {
    const text = e.value.trim();
    if (!(whole ? /^-?\d+$/ : /^-?\d*\.?\d+$/).test(text)) problem ??= { title: `“${text}” is not ${whole ? "an integer" : "a number"}.`, field: e.name };
    return Number(text);
  };
  const at = (name) => form.elements[name];
  for (const name of ["low_water", "high_water", "outbound_floor"]) {
    const n = read(at(name));
    if (n !== loaded[name]) value[name] = n;
  }
  const hard = at("hard_limit").value.trim() === "" ? null : read(at("hard_limit"));
  if (hard !== loaded.hard_limit) value.hard_limit = hard;
  for (const name of ["max_inbound", "max_per_peer"]) {
    const n = read(at(`gate.${name}`));
    if (n !== loaded.gate[name]) gate[name] = n;
  }
  const exempt = at("gate.exempt_private").checked;
  if (exempt !== loaded.gate.exempt_private) gate.exempt_private = exempt;
  const list = [...prefixes.rows].map((tr) => Object.fromEntries([...tr.querySelectorAll("input")].map((e) => [e.dataset.member, read(e, e.dataset.member !== "new_per_second")])));
  const was = (loaded.gate.per_prefix ?? []).map((p) => Object.fromEntries(prefixColumns.map(([name]) => [name, p[name]])));
  if (JSON.stringify(list) !== JSON.stringify(was)) gate.per_prefix = list;
  if (Object.keys(gate).length) value.gate = gate;
  return { value, problem };
}

async function save(event) {
  event.preventDefault();
  clearFields(form);
  fill(trouble);
  if (!loaded) return;
  const { value, problem } = patch();
  try {
    if (problem) throw problem;
    if (JSON.stringify(value) === "{}") {
      notice("Nothing was changed.");
      return;
    }
    await send("PATCH", "limits", { json: value });
    notice("The limits are in force.");
    await load(true);
    changed();
  } catch (e) {
    say(trouble, e);
    showAtField(form, e, trouble.id);
  }
}
