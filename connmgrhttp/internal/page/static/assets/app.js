// This file starts the page and keeps it up to date: what is asked for when, and which
// part of the page gets the answer.

import { $, fill, h, setText } from "./dom.js";
import { get } from "./api.js";
import { problemText } from "./dialogs.js";
import { setNodeTime, shorten } from "./format.js";
import * as token from "./token.js";
import * as chart from "./chart.js";
import * as events from "./events.js";
import * as figures from "./figures.js";
import * as limits from "./limits.js";
import * as panel from "./peer-panel.js";
import * as peers from "./peers.js";
import * as plan from "./plan.js";
import * as rules from "./rules.js";
import * as tabs from "./tabs.js";
import * as warnings from "./warnings.js";
import { zone } from "./time.js";
import { poll } from "./poll.js";

// ---- The state of the connection to the node ----

let reached = "connecting"; // what became of the last request: "", or what is said about it
let streaming = false;

function showState() {
  const state = reached || (streaming ? "live" : "reconnecting");
  $("state").dataset.state = state;
  setText($("state"), state);
  document.body.classList.toggle("stale", reached !== "" && reached !== "connecting");
}

function showBanner(problem) {
  $("banner").hidden = problem === null;
  const text = problem ? `${problem.title}${problem.detail}` : "";
  if ($("banner").dataset.text === text) return; // or it would be read out again
  $("banner").dataset.text = text;
  fill($("banner"), problem ? problemText(problem) : null);
}

document.addEventListener("tokenneeded", () => {
  $("state").dataset.state = "locked";
  setText($("state"), "token needed");
});

// ---- What is asked for, and how often ----

let haveSamples = false;

async function updateStatus() {
  try {
    const status = await get("status");
    setNodeTime(status.now);
    reached = "";
    showBanner(null);
    showNode(status.node);
    figures.show(status);
    warnings.show(status);
    if (chart.push(status) || !haveSamples) await loadSamples();
  } catch (e) {
    reached = e.status ? "refused" : "unreachable";
    showBanner(e);
  }
  token.show();
  showState();
}

// loadSamples gets the last hour: the connections, and when a trim closed somebody.
async function loadSamples() {
  const [{ samples }, { events: trims }] = await Promise.all([get("samples"), get("events/recent", { types: "trim", limit: 1000 })]);
  trims.forEach(markTrim);
  chart.load(samples);
  haveSamples = true;
}

function markTrim(event) {
  if (event.type === "trim" && event.trim?.closed > 0) chart.mark(event.at);
}

function showNode(name) {
  if (!name || $("node").title === name) return;
  $("node").title = name;
  fill($("node"), h("span", null, shorten(name)));
  document.title = `${shorten(name)} · connmgr`;
}

setText($("zone"), `Times: ${zone()}`);

async function updatePlan() {
  try {
    figures.showPlan(await get("plan", { limit: 0 }));
  } catch {
    // the status has said what is wrong
  }
}

// sections is what is asked for while a section is seen.
const sections = {
  peers: peers.refresh,
  next: plan.refresh,
  events: () => {},
  rules: rules.refresh,
  limits: limits.refresh,
};

let tab = "peers";
const updateTab = () => Promise.all([sections[tab](), panel.refresh()]);

// ---- The parts of the page ----

// changed is called after something was done here: its outcome is shown at once.
function changed() {
  updateTab();
  statusSoon();
}

chart.start();
peers.start(changed);
plan.start(changed);
rules.start(changed);
limits.start(changed);
panel.start({ onLeave: tabs.leavePeer, onChange: changed });
tabs.start({
  onTab(name) {
    tab = name;
    sections[name]();
  },
  onPeer: panel.show,
});

const statusSoon = poll(updateStatus, { every: 2500, least: 500 });
const tabSoon = poll(updateTab, { every: 5000, least: 2000 });
poll(updatePlan, { every: 5000 });

// touches says which section an event changes.
const touches = {
  peers: new Set(["connected", "disconnected", "closed", "trim", "limits"]),
  next: new Set(["connected", "disconnected", "closed", "trim", "limits"]),
  rules: new Set(["rules"]),
  limits: new Set(["limits"]),
};

events.start({
  onEvent(event) {
    markTrim(event);
    if (touches[tab]?.has(event.type) || panel.about(event)) tabSoon();
  },
  onState(state) {
    streaming = state === "live";
    showState();
  },
});
