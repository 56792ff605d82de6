"use strict";
// Shared by all charts: elements, scales, axes, and the styles of the arms.
// Text from the data is inserted with textContent or setAttribute, never as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = (document.querySelector("svg") || {}).namespaceURI;
const DASHES = ["", "6 3", "2 2.5", "8 3 2 3", "12 4"];
const SHAPES = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
  "M-3.6,-3.6h7.2v7.2h-7.2z",
  "M0,-4.6l4.3,7.8h-8.6z",
  "M0,-5l4.2,5l-4.2,5l-4.2,-5z",
  "M0,4.6l4.3,-7.8h-8.6z",
  "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
  "M-4.2,-2.1l2.1,-2.1l2.1,2.1l2.1,-2.1l2.1,2.1l-2.1,2.1l2.1,2.1l-2.1,2.1l-2.1,-2.1l-2.1,2.1l-2.1,-2.1l2.1,-2.1z",
  "M-4.6,0l7.8,-4.3v8.6z",
  "M4.6,0l-7.8,-4.3v8.6z",
  "M0,-5.4l1.4,3.5l3.8,0.3l-2.9,2.4l0.9,3.7l-3.2,-2l-3.2,2l0.9,-3.7l-2.9,-2.4l3.8,-0.3z",
  "M0,-5.4l2.6,5.4l-2.6,5.4l-2.6,-5.4z",
];
const UP = "M0,-3l4,6h-8z", DOWN = "M0,3l4,-6h-8z";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const button = (words, onclick, attributes) => html("button", { type: "button", onclick, ...attributes }, words);

// Two decimals, rounding half to even, like the static tables of the page. Only odd eighths are exact halves.
function fixed(value) {
  if (value === null || value === undefined) return "\u2013";
  if (!Number.isInteger(value * 8) || Number.isInteger(value * 4)) return value.toFixed(2);
  const below = Math.floor(value * 100);
  return ((below % 2 === 0 ? below : below + 1) / 100).toFixed(2);
}
const signed = (value) => (value < 0 ? "\u2212" : "+") + fixed(Math.abs(value));
const color = (arm) => DATA.arms[arm].color;
const placed = (arm, shape, x, y, extra) =>
  svg("path", { "data-arm": arm, d: shape, transform: `translate(${x} ${y})`, fill: color(arm), ...extra });
const marker = (arm, x, y, extra) => placed(arm, SHAPES[DATA.arms[arm].marker], x, y, extra);
const HOLLOW = (arm) => ({ fill: "var(--paper)", stroke: color(arm), "stroke-width": 1.8 });
const stroke = (arm, points, extra) =>
  svg("polyline", {
    "data-arm": arm, points: points.map((p) => p.join(",")).join(" "), fill: "none", stroke: color(arm), "stroke-width": 1.8,
    "stroke-dasharray": DASHES[DATA.arms[arm].dash], "stroke-linejoin": "round", ...extra,
  });

function ticksOf(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const ticks = [];
  for (let i = first; i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function logTicks(low, high) {
  if (high / low < 4) return ticksOf(low, high, 5).ticks;
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const m of [1, 2, 5]) if (m * 10 ** power >= low && m * 10 ** power <= high) ticks.push(m * 10 ** power);
  return ticks;
}

// The range of the values with some padding; a single value gets a range around it.
function padded(values, share = 0.06) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const air = high > low ? (high - low) * share : Math.max(Math.abs(high) * 0.02, 0.5);
  return [low - air, high + air];
}

// A scale from values to pixels, and back.
function scale([low, high], from, to, log = false) {
  const place = log ? Math.log10 : (value) => value, back = log ? (value) => 10 ** value : (value) => value;
  const start = place(low), perUnit = (to - from) / (place(high) - start);
  const at = (value) => from + (place(value) - start) * perUnit;
  return Object.assign(at, { value: (pixel) => back(start + (pixel - from) / perUnit), range: [low, high] });
}

// A drawing surface as wide as its figure; coordinates are CSS pixels, so text is never scaled on screen.
// If the reader has zoomed, the figure's view replaces the ranges of its axes.
class Frame {
  constructor(figure, height, margin) {
    this.figure = figure;
    this.view = figure.view;
    this.width = Math.max(280, Math.round(figure.clientWidth || 700));
    this.height = height;
    this.left = margin.left; this.right = this.width - margin.right;
    this.top = margin.top; this.bottom = height - margin.bottom;
    this.svg = figure.querySelector(":scope > svg");
    const clip = `clip-${figure.id}`;
    const box = { x: this.left, y: this.top, width: this.right - this.left, height: this.bottom - this.top };
    this.marks = svg("g", { "clip-path": `url(#${clip})` });
    this.svg.replaceChildren(svg("clipPath", { id: clip }, svg("rect", { ...box })));
    fill(this.svg, { viewBox: `0 0 ${this.width} ${height}`, width: this.width, height, tabindex: 0 }, []);
    this.points = [];
  }
  add(...nodes) { this.svg.append(...nodes); }
  mark(...nodes) { this.marks.append(...nodes); }
  line(x1, y1, x2, y2, cls) { this.add(svg("line", { x1, y1, x2, y2, class: cls })); }
  text(x, y, words, attributes) {
    const node = svg("text", { x, y, ...attributes });
    node.textContent = words;
    this.add(node);
    return node;
  }
  yAxis(range, label) {
    this.y = scale(this.view.y || range, this.bottom, this.top);
    const { ticks, digits } = ticksOf(...this.y.range, (this.bottom - this.top) / 45);
    for (const tick of ticks) {
      this.line(this.left, this.y(tick), this.right, this.y(tick), "grid");
      this.text(this.left - 7, this.y(tick) + 4, tick.toFixed(digits), { "text-anchor": "end", class: "quiet" });
    }
    this.text(0, 12, label);
  }
  xAxis(range, label, { log = false, at = null } = {}) {
    this.x = scale(this.view.x || range, this.left, this.right, log);
    const [low, high] = this.x.range;
    let { ticks, digits } = ticksOf(low, high, (this.right - this.left) / 80);
    if (log) ticks = logTicks(low, high);
    if (at) { ticks = at.filter((tick) => tick >= low && tick <= high); digits = 0; }
    let end = -Infinity;
    for (const tick of ticks) {
      this.line(this.x(tick), this.top, this.x(tick), this.bottom, "grid");
      const words = log ? String(Number(tick.toPrecision(3))) : tick.toFixed(digits);
      const half = words.length * 3.6;
      if (this.x(tick) - half < end + 6) continue; // omit labels that would overlap
      end = this.x(tick) + half;
      this.text(this.x(tick), this.bottom + 17, words, { "text-anchor": "middle", class: "quiet" });
    }
    this.line(this.left, this.bottom, this.right, this.bottom, "axis");
    this.xLabel(label, this.bottom + 36);
  }
  // Names at the positions 0, 1, 2, ...; slanted if they would overlap.
  xNames(names, label, slanted) {
    this.x = scale(this.view.x || [-0.5, names.length - 0.5], this.left, this.right);
    const step = this.x(1) - this.x(0);
    names.forEach((name, i) => {
      const x = this.x(i);
      if (x < this.left || x > this.right) return;
      this.line(x, this.top, x, this.bottom, "grid");
      const at = slanted ? { transform: `rotate(-45 ${x} ${this.bottom + 14})`, "text-anchor": "end" } : { "text-anchor": "middle" };
      fitted(this.text(x, this.bottom + (slanted ? 14 : 18), name, at), slanted ? 110 : step);
    });
    this.line(this.left, this.bottom, this.right, this.bottom, "axis");
    this.xLabel(label, this.height - 6);
  }
  xLabel(label, y) { this.text((this.left + this.right) / 2, y, label, { "text-anchor": "middle" }); }
  // A mark with a tooltip. Above or below the axis it becomes an arrow at the edge, unless the reader has zoomed.
  point(arm, x, y, lines, draw = marker) {
    if (x < this.left - 1 || x > this.right + 1) return;
    const outside = y < this.top - 1 || y > this.bottom + 1;
    if (outside && (this.view.x || this.view.y)) return;
    const at = Math.min(Math.max(y, this.top + 5), this.bottom - 5);
    this.mark(outside ? placed(arm, y < this.top ? UP : DOWN, x, at) : draw(arm, x, y));
    this.points.push({ arm, x, y: at, lines });
  }
  done() { this.add(this.marks); return this; }
}

function fitted(node, width) {
  const words = node.textContent;
  for (let n = words.length; n > 1 && node.getComputedTextLength() > width; n = Math.floor(n * 0.9))
    node.textContent = words.slice(0, n - 1).trimEnd() + "\u2026";
}

function choice(label, options, onchange) {
  const select = html("select", { onchange: () => onchange(select.value) });
  for (const [value, name] of options) select.append(html("option", { value }, name));
  return html("label", {}, label, select);
}
