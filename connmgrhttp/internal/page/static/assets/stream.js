// This file follows the node's events: a server-sent stream, read with fetch since an
// EventSource cannot send a token.

import { request } from "./api.js";

const silence = 45_000; // the node says something every 15 s
const longest = 30_000; // between two attempts

// follow calls onEvent for each event from the one after `since`, in their order, until
// the page is left. onState gets "live" and "reconnecting". When the connection ends it
// is opened again, after the last event that came.
export async function follow({ since, onEvent, onState }) {
  let last = since;
  for (let failures = 0; ; ) {
    try {
      await once(last, (event) => {
        if (event.id) last = event.id;
        onEvent(event);
      }, () => {
        failures = 0;
        onState("live");
      });
      onState("reconnecting"); // it ended: the node stops, or we were too slow
      await pause(500);
    } catch (e) {
      onState("reconnecting", e);
      failures++;
      const backoff = Math.min(longest, 500 * 2 ** Math.min(failures, 8));
      await pause(Math.max(e.retry * 1000 || 0, backoff * (0.75 + Math.random() / 2)));
    }
  }
}

// pause waits, but not longer than until the browser is online again.
function pause(milliseconds) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    addEventListener("online", done);
  });
}

// once reads one stream to its end.
async function once(last, onEvent, onOpen) {
  const stop = new AbortController();
  let watchdog;
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => stop.abort(), silence);
  };
  heard();
  try {
    const response = await request("GET", "events", {
      signal: stop.signal, time: 0,
      headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": String(last) } : {}) },
    });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parse = parser(onEvent);
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      parse(value);
    }
  } finally {
    clearTimeout(watchdog);
    stop.abort();
  }
}

// parser returns a function that takes text as it comes and calls onEvent with the data of
// every event that is complete. What is no JSON is passed over.
export function parser(onEvent) {
  let rest = "";
  let data = [];
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      if (line !== "" || data.length === 0) continue;
      let event = null;
      try {
        event = JSON.parse(data.join("\n"));
      } catch {
        console.warn("an event that is no JSON");
      }
      data = [];
      if (event) onEvent(event);
    }
  };
}
