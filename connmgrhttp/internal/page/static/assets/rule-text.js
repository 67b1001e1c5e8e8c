// This file says what a rule does, and until when.

import { h } from "./dom.js";
import { until } from "./format.js";
import { calendar } from "./time.js";

// ruleEffect is "deny" or "allow", with a symbol.
export function ruleEffect(rule) {
  const deny = rule.effect === "deny";
  return h("span", { class: `verdict ${deny ? "bad" : "good"}` },
    h("span", { class: "symbol", "aria-hidden": "true" }, deny ? "■" : "✓"), deny ? "deny" : rule.effect);
}

// ruleEnds is when a rule ends, from now on and by the calendar.
export function ruleEnds(rule) {
  if (!rule.expires) return h("span", { class: "ends" }, "never ends");
  return h("span", { class: "ends" }, `ends ${until(rule.expires)} `, h("small", null, calendar(rule.expires)));
}
