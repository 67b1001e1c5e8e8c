// This file has the dialogs that add rules: one, or a list of them.

import { h } from "./dom.js";
import { request, send } from "./api.js";
import { ask, durationSelect, field, notice } from "./dialogs.js";
import { count, number, shortTarget } from "./format.js";

const largest = 32 << 20; // bytes that the node reads

// addRule asks for a rule and puts it into force; it says whether it did.
export function addRule() {
  const effect = h("select", { id: "rule-effect", name: "effect" }, h("option", { value: "deny" }, "deny: refuse, and close who is there"), h("option", { value: "allow" }, "allow: let in, past the limits"));
  const target = h("input", { id: "rule-target", name: "target", required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
  const seconds = durationSelect("rule-seconds", 0);
  const why = h("input", { id: "rule-reason", name: "reason", autocomplete: "off" });
  const origin = h("input", { id: "rule-origin", name: "origin", autocomplete: "off" });
  return ask({
    title: "Add a rule",
    content: [
      field("What it does", effect),
      field("Target", target, "192.0.2.0/24, an address, peer NAME, or port 25"),
      field("How long", seconds), field("Why", why),
      field("Origin", origin, "The list that it belongs to: the next import of that takes it away again. Empty is set by hand.")],
    confirm: "Add",
    async run() {
      if (!target.value.trim()) throw { title: "A rule needs a target.", field: "target" };
      const rule = { effect: effect.value, target: target.value.trim(), reason: why.value.trim() || undefined, origin: origin.value.trim() || undefined };
      if (seconds.value !== "0") rule.for_seconds = Number(seconds.value);
      const made = await send("POST", "rules", { json: rule });
      notice(`In force: ${made.effect} ${shortTarget(made.target)}.`);
    },
  });
}

// importRules asks for a list, pasted or as a file.
export function importRules() {
  const text = h("textarea", { id: "import-text", rows: "8", spellcheck: "false", wrap: "off", placeholder: "192.0.2.0/24\n2001:db8::/32 until 2030-01-01T00:00:00Z # why\npeer NAME" });
  const file = h("input", { type: "file", id: "import-file" });
  const origin = h("input", { id: "import-origin", name: "origin", autocomplete: "off", disabled: true });
  const add = h("input", { type: "radio", name: "mode", value: "add", checked: true });
  const replace = h("input", { type: "radio", name: "mode", value: "replace" });
  const empty = h("input", { type: "checkbox", disabled: true });
  const effect = h("select", { id: "import-effect", name: "effect" }, h("option", { value: "deny" }, "deny"), h("option", { value: "allow" }, "allow"));
  const why = h("input", { id: "import-reason", name: "reason", autocomplete: "off" });
  const seconds = durationSelect("import-seconds", 0);
  const mode = () => { origin.disabled = empty.disabled = !replace.checked; };
  add.addEventListener("change", mode);
  replace.addEventListener("change", mode);
  file.addEventListener("change", () => { text.disabled = file.files.length > 0; });
  const content = [
    field("The list", text, "A rule a line. The lists of FireHOL, Spamhaus, Tor and others can be read as they are."),
    field("or a file", file),
    h("fieldset", { class: "checks column" }, h("legend", null, "What becomes of the rules that are there"),
      h("label", { class: "check" }, add, "They stay; these are added"),
      h("label", { class: "check" }, replace, "Those of the origin below go; these take their place"),
      field("Origin", origin),
      h("label", { class: "check" }, empty, "Also if the list is empty")),
    h("details", null, h("summary", null, "For lines that do not say it themselves"),
      field("What they do", effect), field("How long", seconds), field("Why", why))];
  return ask({
    title: "Import a list of rules",
    content,
    confirm: "Import",
    async run() {
      const body = file.files[0] ?? text.value;
      const size = file.files[0]?.size ?? new Blob([body]).size;
      if (size > largest) throw { title: "The list is too large", detail: `It has ${number(size)} bytes; ${number(largest)} are read.` };
      const path = new URLSearchParams();
      if (replace.checked) path.set("origin", origin.value.trim()); // also if it is empty
      if (replace.checked && empty.checked) path.set("allow_empty", "true");
      if (why.value.trim()) path.set("reason", why.value.trim());
      if (seconds.value !== "0") path.set("for_seconds", seconds.value);
      path.set("effect", effect.value);
      let answer;
      try {
        answer = await (await request("POST", `rules/import?${path}`, { body, type: "text/plain; charset=utf-8" })).json();
      } catch (e) {
        if (e.line && !file.files[0]) selectLine(text, e.line);
        throw e;
      }
      const parts = [["added", answer.added], ["changed", answer.changed], ["removed", answer.removed], ["kept", answer.kept], ["had ended", answer.expired]].filter(([, n]) => n > 0);
      notice(`Imported: ${parts.length ? parts.map(([what, n]) => `${number(n)} ${what}`).join(", ") : "nothing new"}. ${count(answer.total, "rule")} in force.`);
    },
  });
}

// selectLine shows the line that could not be read.
function selectLine(area, line) {
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
}

