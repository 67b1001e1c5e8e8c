// This file keeps the bearer token: in memory and for this tab of the browser, and asks
// for it when the node wants one.

import { $, h } from "./dom.js";
import { ask } from "./dialogs.js";

const statusURL = new URL("v1/status", document.baseURI);
// Two nodes below one origin have two tokens.
const key = "connmgr-token " + statusURL.pathname;

let current = "";
try {
  current = sessionStorage.getItem(key) ?? "";
} catch {
  // the browser keeps nothing for this page: the token lasts until it is left
}

// A link can bring the token, behind the "#", which browsers do not send. It leaves the
// address bar, and so the history, before anything else is done.
const brought = /[#&]token=([^&]*)/.exec(location.hash);
if (brought) {
  history.replaceState(null, "", location.pathname + location.search);
  try {
    set(decodeURIComponent(brought[1]));
  } catch {
    set(brought[1]); // a percent sign in it that means itself
  }
}

// get returns the token, "" if there is none.
export const get = () => current;

function set(value) {
  current = value;
  try {
    if (value) sessionStorage.setItem(key, value);
    else sessionStorage.removeItem(key);
  } catch {
    // as above
  }
}

// waiting is the promise of all who need a token, while they wait.
let waiting = null;

// need is called with the token that was refused, and waits until there is another one.
export function need(refused) {
  if (refused !== current && current) return Promise.resolve(); // it came meanwhile
  waiting ??= new Promise((resolve) => {
    const open = () => askFor(refused !== "").then((entered) => {
      $("token-enter").hidden = entered;
      if (!entered) return;
      waiting = null;
      show();
      resolve();
    });
    $("token-enter").onclick = open;
    document.dispatchEvent(new Event("tokenneeded"));
    open();
  });
  return waiting;
}

const isWrong = "This token is not accepted. It is the one that the node was started with.";

function askFor(wrong) {
  const field = h("input", { type: "password", id: "token-field", name: "token", autocomplete: "off", spellcheck: "false", required: true, autofocus: true });
  return ask({
    title: "This node asks for a token",
    content: [
      h("p", null, "It is sent with every request, and kept in this tab of the browser alone."),
      h("label", { htmlFor: "token-field" }, "Token"), field,
    ],
    confirm: "Continue",
    problem: wrong ? { title: isWrong } : null,
    async run() {
      const value = field.value.trim();
      if (!/^[\x21-\x7e]+$/.test(value)) throw { title: "A token has letters, digits and signs, and no blanks." };
      let response;
      try {
        response = await fetch(statusURL, { headers: { Authorization: `Bearer ${value}` }, cache: "no-store", redirect: "error" });
      } catch {
        throw { title: "The node cannot be reached." };
      }
      if (response.status === 401) throw { title: isWrong };
      set(value);
    },
  });
}

// show offers to forget the token if there is one.
export function show() {
  const button = $("token-forget");
  button.hidden = current === "";
  button.onclick = () => {
    set("");
    location.reload(); // nothing that it opened stays on the screen
  };
}
