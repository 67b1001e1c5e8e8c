// This file asks the node: one function for requests, one class for what it refuses.
// Paths are relative to the page, which may stand below any prefix.

import * as token from "./token.js";

const base = new URL("v1/", document.baseURI);

// How long an answer may take. What changes something may wait for a peer that hangs.
const readTime = 15_000;
const writeTime = 120_000;

// Problem is why a request was not fulfilled; see RFC 9457.
export class Problem extends Error {
  constructor(doc) {
    super(doc.detail ? `${doc.title}: ${doc.detail}` : doc.title);
    Object.assign(this, doc);
  }

  static async from(response) {
    let doc = {};
    try {
      if (/json/.test(response.headers.get("Content-Type") ?? "")) doc = await response.json();
    } catch {
      // what stands in between may answer in its own way
    }
    const title = doc.title ? capital(doc.title) : `The answer was ${response.status} ${response.statusText}`.trim();
    const retry = Number(response.headers.get("Retry-After")) || 0;
    return new Problem({ ...doc, title, status: response.status, retry });
  }

  static unreachable(cause) {
    const detail = cause.name === "TimeoutError" ? "It did not answer in time." : "The connection to it failed.";
    return new Problem({ type: "unreachable", title: "The node cannot be reached", detail, status: 0 });
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// segment makes a peer's name or a tag an element of a path.
export const segment = encodeURIComponent;

// request sends a request until it has been answered with something else than 401, for
// which it waits for a token. It returns the response if that is a success. Options are
// query (an object; what is "", null or undefined is left out), json, body, headers, type,
// signal, and time in milliseconds (0 is no limit).
export async function request(method, path, options = {}) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(options.query ?? {})) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  const body = options.json === undefined ? options.body : JSON.stringify(options.json);
  const time = options.time ?? (method === "GET" ? readTime : writeTime);
  for (;;) {
    const sent = token.get();
    const headers = new Headers(options.headers);
    if (sent) headers.set("Authorization", `Bearer ${sent}`);
    if (body !== undefined) headers.set("Content-Type", options.type ?? "application/json");
    const signals = [options.signal, time ? AbortSignal.timeout(time) : null].filter(Boolean);
    let response;
    try {
      response = await fetch(url, {
        method, headers, body, cache: "no-store", redirect: "error",
        signal: signals.length ? AbortSignal.any(signals) : undefined,
      });
    } catch (cause) {
      if (options.signal?.aborted) throw cause;
      throw Problem.unreachable(cause);
    }
    if (response.status === 401) {
      await token.need(sent);
      continue;
    }
    if (!response.ok) throw await Problem.from(response);
    return response;
  }
}

// get returns the document at a path; send sends one and returns the answer.
export async function get(path, query, signal) {
  return (await request("GET", path, { query, signal })).json();
}

export async function send(method, path, options) {
  return (await request(method, path, options)).json();
}
