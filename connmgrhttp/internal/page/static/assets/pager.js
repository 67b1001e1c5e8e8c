// This file leafs through lists that the node sends a page at a time.

import { h, setText } from "./dom.js";
import { number } from "./format.js";

// pager makes the line below a list of nouns. go is called with the offset wanted.
export function pager(limit, noun, go) {
  let offset = 0;
  const text = h("span", { class: "count" });
  const before = h("button", { type: "button", onclick: () => go(Math.max(0, offset - limit)) }, "Previous");
  const after = h("button", { type: "button", onclick: () => go(offset + limit) }, "Next");
  const element = h("div", { class: "pager" }, text, before, after);
  return {
    element,
    // show takes {total, matched, offset} of an answer.
    show(list) {
      offset = list.offset;
      const end = Math.min(offset + limit, list.matched);
      const all = list.matched === list.total ? "" : ` (of ${number(list.total)} in all)`;
      const which = list.matched <= limit && offset === 0 ? number(list.matched) : `${number(offset + 1)}–${number(end)} of ${number(list.matched)}`;
      setText(text, `${which} ${noun}${list.matched === 1 ? "" : "s"}${all}`);
      before.hidden = after.hidden = list.matched <= limit && offset === 0;
      before.disabled = offset === 0;
      after.disabled = end >= list.matched;
    },
  };
}
