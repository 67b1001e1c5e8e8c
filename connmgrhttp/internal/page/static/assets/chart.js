// This file draws the connections over time against the limits of that time, and says
// the same in words and as a table.

/* global uPlot */
import { $, fill, h, setText } from "./dom.js";
import { clock, count, duration, now, number } from "./format.js";

// series is what is drawn: the member of a sample, what it is called, and whether it is a
// limit. What comes later is drawn above. Colours are in the stylesheet, under --chart- and
// the member's name.
const series = [
  { key: "inbound", label: "inbound", width: 1.25 },
  { key: "outbound", label: "outbound", width: 1.25 },
  { key: "low_water", label: "low", width: 1.25, dash: [2, 4], limit: true },
  { key: "high_water", label: "high", width: 1.5, dash: [6, 4], limit: true },
  { key: "hard_limit", label: "hard", width: 1.5, dash: [10, 4], limit: true },
  { key: "open", label: "open", width: 2, fill: true },
];
const inWords = [series.at(-1), ...series.slice(0, -1)]; // the most important first

const kept = 3700; // seconds
const gap = 16; // seconds without a sample are drawn as such
const height = 208;

let points = []; // {t in seconds, and the members above}, the oldest first
let trims = []; // seconds
let span = 300; // seconds shown
let plot = null;
let data = null; // what is drawn: by uPlot's order, gaps included
const values = new Map(); // where the legend shows a number, by key

// start makes the chart, empty. It is drawn anew when the theme changes, which uPlot's
// canvas does not notice.
export function start() {
  fill($("chart-legend"), inWords.map((s) => {
    const value = h("span", { class: "value" }, "–");
    values.set(s.key, value);
    return h("span", { class: `key ${s.key}${s.limit ? " limit" : ""}` }, h("i", { "aria-hidden": "true" }), `${s.label} `, value);
  }), h("span", { class: "key trim", title: "A vertical line: a trim closed somebody then" }, h("i", { "aria-hidden": "true" }), "trim"));
  for (const seconds of [300, 3600]) {
    $(`window-${seconds}`).addEventListener("click", () => {
      span = seconds;
      for (const other of [300, 3600]) $(`window-${other}`).setAttribute("aria-pressed", String(other === seconds));
      draw();
    });
  }
  $("chart-details").addEventListener("toggle", tabulate);
  document.addEventListener("themechange", () => {
    plot?.destroy();
    plot = null;
    draw();
  });
  new ResizeObserver(() => {
    const width = $("plot").clientWidth;
    if (plot && width && width !== plot.width) plot.setSize({ width, height });
  }).observe($("plot"));
}

// load takes the node's samples in place of what there was.
export function load(samples) {
  const list = samples.map((s) => ({ ...s, t: Date.parse(s.at) / 1000 }));
  const last = list.at(-1)?.t ?? 0;
  points = [...list, ...points.filter((p) => p.t > last)];
  draw();
}

// push adds the latest status, and returns whether there is a hole before it that the
// node's samples could fill.
export function push(status) {
  const { low_water, high_water, hard_limit } = status.limits;
  const { open, inbound, outbound } = status.connections;
  const t = Date.parse(status.now) / 1000;
  const before = points.at(-1)?.t ?? t;
  if (t <= before && points.length) return false;
  points.push({ t, open, inbound, outbound, low_water, high_water, hard_limit });
  const oldest = t - kept;
  if (points[0].t < oldest - 60) points = points.filter((p) => p.t >= oldest);
  draw();
  return t - before > gap;
}

// mark remembers when a trim closed somebody.
export function mark(time) {
  const t = Date.parse(time) / 1000;
  if (trims.includes(t)) return;
  trims = [...trims, t].slice(-1000);
  plot?.redraw(false);
}

function draw() {
  const shown = visible();
  data = columns(shown);
  if (plot) plot.setData(data);
  else if ($("plot").clientWidth) plot = make();
  legend(null);
  summarise(shown);
  if ($("chart-details").open) tabulate();
}

const visible = () => {
  const from = now() / 1000 - span - 10;
  return points.filter((p) => p.t >= from);
};

// columns turns points into uPlot's columns, with nothing where nothing is known.
function columns(list) {
  const out = [[], ...series.map(() => [])];
  let before = null;
  for (const p of list) {
    if (before !== null && p.t - before > gap) {
      out[0].push(before + 1);
      series.forEach((_, i) => out[i + 1].push(null));
    }
    out[0].push(p.t);
    series.forEach((s, i) => out[i + 1].push(p[s.key] ?? null));
    before = p.t;
  }
  return out;
}

// make makes the plot in the colours of the moment.
function make() {
  const probe = h("span", { hidden: true });
  $("plot").replaceChildren(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const axis = { stroke: colour("dim"), font: '11px system-ui, "DejaVu Sans", sans-serif', ticks: { show: false }, grid: { stroke: colour("grid"), width: 1 } };
  const edge = colour("chart-trim");
  const options = {
    width: $("plot").clientWidth,
    height,
    padding: [10, 22, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 } },
    scales: {
      x: { range: () => [now() / 1000 - span, now() / 1000] },
      y: { range: (_, __, max) => [0, Math.max(4, (max ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, size: 26, space: 70, values: (_, splits) => splits.map((t) => (span <= 300 ? clock(t * 1000) : clock(t * 1000).slice(0, 5))) },
      { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6], values: (_, splits) => splits.map((n) => number(n)) },
    ],
    series: [{}, ...series.map((s) => ({
      stroke: colour(`chart-${s.key}`),
      fill: s.fill ? colour("chart-fill") : undefined,
      width: s.width, dash: s.dash, points: { show: false },
      paths: s.limit ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear(),
    }))],
    hooks: {
      drawAxes: [(u) => drawTrims(u, edge)],
      setCursor: [(u) => legend(u.cursor.idx)],
    },
  };
  const made = new uPlot(options, data, $("plot"));
  probe.remove();
  return made;
}

// drawTrims draws a thin line where a trim closed somebody.
function drawTrims(u, colour) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.fillStyle = colour;
  for (const t of trims) {
    const x = Math.round(u.valToPos(t, "x", true));
    if (x >= left && x <= left + width) u.ctx.fillRect(x, top, Math.max(1, devicePixelRatio), height);
  }
  u.ctx.restore();
}

// legend shows the values at a place of the cursor, or else the last ones.
function legend(index) {
  series.forEach((s, i) => {
    const column = data?.[i + 1] ?? [];
    const value = index === null || index === undefined ? column.at(-1) : column[index];
    setText(values.get(s.key), value === null || value === undefined ? (s.limit ? "none" : "–") : number(value));
  });
}

// summarise says what the chart shows in a sentence.
function summarise(list) {
  if (list.length === 0) {
    setText($("chart-summary"), "Nothing is known yet.");
    return;
  }
  const open = list.map((p) => p.open);
  let above = 0;
  list.forEach((p, i) => {
    const step = i ? Math.min(p.t - list[i - 1].t, gap) : 0;
    if (p.open > p.high_water) above += step;
  });
  const since = Math.min(span, list.at(-1).t - list[0].t);
  const times = trims.filter((t) => t >= now() / 1000 - span).length;
  setText($("chart-summary"), [
    `Last ${duration(Math.max(since, 1))}: ${number(Math.min(...open))} to ${number(Math.max(...open))} connections, now ${number(open.at(-1))}`,
    above >= 1 ? `above high water for ${duration(above)}` : "at no sample above high water",
    times ? `${count(times, "trim")} closed somebody` : "no trim closed anybody",
  ].join("; ") + ".");
}

// tabulate fills the table: at most a dozen rows, the newest first.
function tabulate() {
  if (!$("chart-details").open) return;
  const list = visible();
  const step = Math.max(1, Math.ceil(list.length / 12));
  const rows = list.filter((_, i) => (list.length - 1 - i) % step === 0).reverse();
  fill($("chart-table"),
    h("caption", { class: "unseen" }, "Connections over time"),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Time"), inWords.map((s) => h("th", { scope: "col" }, s.label)))),
    h("tbody", null, rows.map((p) => h("tr", null,
      h("th", { scope: "row" }, clock(p.t * 1000)),
      inWords.map((s) => h("td", null, p[s.key] === null || p[s.key] === undefined ? "none" : number(p[s.key])))))));
}
