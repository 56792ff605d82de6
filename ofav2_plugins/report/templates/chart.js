"use strict";
// What all charts share: elements, scales, axes, styles of arms, the legend, and reading a point by mouse or keyboard.
// Every text from the data goes through textContent or setAttribute, never through HTML.

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
];
const hidden = new Set();
const redraws = [];

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

// Two decimals, halves to the even digit: the tables that came with the page are rounded so. Only odd eighths are halves.
function fixed(value) {
  if (value === null || value === undefined) return "\u2013";
  if (!Number.isInteger(value * 8) || Number.isInteger(value * 4)) return value.toFixed(2);
  const below = Math.floor(value * 100);
  return ((below % 2 === 0 ? below : below + 1) / 100).toFixed(2);
}
const signed = (value) => (value < 0 ? "\u2212" : "+") + fixed(Math.abs(value));
const color = (arm) => `var(--c${DATA.arms[arm].color})`;
const marker = (arm, x, y, extra) =>
  svg("path", { "data-arm": arm, d: SHAPES[DATA.arms[arm].marker], transform: `translate(${x} ${y})`, fill: color(arm), ...extra });
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
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const m of [1, 2, 5]) if (m * 10 ** power >= low && m * 10 ** power <= high) ticks.push(m * 10 ** power);
  return ticks;
}

// Range of values with some air; a single value gets a range around it.
function padded(values, share = 0.06) {
  const low = Math.min(...values), high = Math.max(...values);
  const air = high > low ? (high - low) * share : Math.max(Math.abs(high) * 0.02, 0.5);
  return [low - air, high + air];
}

// A drawing surface as wide as its figure; coordinates are CSS pixels, so text is never scaled on screen.
class Frame {
  constructor(figure, height, margin) {
    this.figure = figure;
    this.width = Math.max(280, Math.round(figure.clientWidth || 700));
    this.height = height;
    this.left = margin.left; this.right = this.width - margin.right;
    this.top = margin.top; this.bottom = height - margin.bottom;
    this.svg = figure.querySelector(":scope > svg");
    this.svg.replaceChildren();
    fill(this.svg, { viewBox: `0 0 ${this.width} ${height}`, width: this.width, height, tabindex: 0 }, []);
    this.points = [];
  }
  add(...nodes) { this.svg.append(...nodes); }
  line(x1, y1, x2, y2, cls) { this.add(svg("line", { x1, y1, x2, y2, class: cls })); }
  text(x, y, words, attributes) {
    const node = svg("text", { x, y, ...attributes });
    node.textContent = words;
    this.add(node);
    return node;
  }
  yAxis([low, high], label) {
    this.y = (value) => this.bottom - ((value - low) / (high - low)) * (this.bottom - this.top);
    const { ticks, digits } = ticksOf(low, high, (this.bottom - this.top) / 45);
    for (const tick of ticks) {
      this.line(this.left, this.y(tick), this.right, this.y(tick), "grid");
      this.text(this.left - 7, this.y(tick) + 4, tick.toFixed(digits), { "text-anchor": "end", class: "quiet" });
    }
    this.text(0, 12, label);
  }
  xAxis([low, high], label, { log = false, at = null } = {}) {
    const place = log ? Math.log10 : (value) => value;
    const span = place(high) - place(low);
    this.x = (value) => this.left + ((place(value) - place(low)) / span) * (this.right - this.left);
    let { ticks, digits } = ticksOf(low, high, (this.right - this.left) / 80);
    if (log) ticks = logTicks(low, high);
    if (at) { ticks = at; digits = 0; }
    let end = -Infinity;
    for (const tick of ticks) {
      this.line(this.x(tick), this.top, this.x(tick), this.bottom, "grid");
      const words = log ? String(Number(tick.toPrecision(3))) : tick.toFixed(digits);
      const half = words.length * 3.6;
      if (this.x(tick) - half < end + 6) continue; // labels that would touch are left out
      end = this.x(tick) + half;
      this.text(this.x(tick), this.bottom + 17, words, { "text-anchor": "middle", class: "quiet" });
    }
    this.line(this.left, this.bottom, this.right, this.bottom, "axis");
    this.xLabel(label, this.bottom + 36);
  }
  xLabel(label, y) { this.text((this.left + this.right) / 2, y, label, { "text-anchor": "middle" }); }
  point(arm, x, y, lines) { this.points.push({ arm, x, y, lines }); }
}

function fitted(node, width) {
  const words = node.textContent;
  for (let n = words.length; n > 1 && node.getComputedTextLength() > width; n = Math.floor(n * 0.9))
    node.textContent = words.slice(0, n - 1).trimEnd() + "\u2026";
}

// One listener set per figure, however often it is drawn: pointer, touch, and arrow keys between points.
function readable(figure) {
  const tip = document.getElementById("tip");
  const halo = svg("circle", { r: 8, class: "halo" });
  let current = null;
  const hide = () => { tip.hidden = true; halo.remove(); current = null; };
  const show = (frame, point) => {
    current = point;
    fill(halo, { cx: point.x, cy: point.y }, []);
    frame.svg.append(halo);
    tip.textContent = point.lines.filter(Boolean).join("\n");
    tip.hidden = false;
    const box = frame.svg.getBoundingClientRect(), scale = box.width / frame.width;
    const x = box.left + point.x * scale, y = box.top + point.y * scale;
    const left = x + 14 + tip.offsetWidth > innerWidth ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 4))}px`;
  };
  const near = (event) => {
    const frame = figure.frame, box = frame.svg.getBoundingClientRect(), scale = frame.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, distance = 24 ** 2;
    for (const point of frame.points) {
      const d = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (d < distance) { best = point; distance = d; }
    }
    if (best) show(frame, best); else hide();
  };
  const step = (event) => {
    const frame = figure.frame, points = frame.points;
    const across = { ArrowRight: 1, ArrowLeft: -1 }[event.key], along = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") return hide();
    if (!(across || along) || !points.length) return undefined;
    event.preventDefault();
    if (!points.includes(current)) return show(frame, points[0]);
    const arms = [...new Set(points.map((point) => point.arm))];
    const at = (arms.indexOf(current.arm) + (along || 0) + arms.length) % arms.length;
    const mine = points.filter((point) => point.arm === arms[at]).sort((a, b) => a.x - b.x);
    if (across) return show(frame, mine[(mine.indexOf(current) + across + mine.length) % mine.length]);
    return show(frame, mine.reduce((a, b) => (Math.abs(b.x - current.x) < Math.abs(a.x - current.x) ? b : a)));
  };
  const surface = figure.querySelector(":scope > svg");
  // "application": screen readers hand the arrow keys on
  fill(surface, { role: "application", "aria-label": `${surface.getAttribute("aria-label")}; arrow keys read the points` }, []);
  surface.addEventListener("pointermove", near);
  surface.addEventListener("pointerdown", near);
  surface.addEventListener("pointerleave", hide);
  surface.addEventListener("blur", hide);
  surface.addEventListener("keydown", step);
  addEventListener("scroll", hide, { passive: true });
}

function legend(figure, arms) {
  const list = html("ul", { class: "legend", "aria-label": "Arms; press to hide or show one" });
  for (const arm of arms) {
    const sample = svg("svg", { viewBox: "0 0 44 14", "aria-hidden": "true" }, stroke(arm, [[0, 7], [44, 7]]), marker(arm, 22, 7));
    const toggle = () => {
      if (hidden.has(arm)) hidden.delete(arm); else hidden.add(arm);
      redraw();
    };
    const fade = (on) => () => {
      for (const node of figure.querySelectorAll(":scope > svg [data-arm]"))
        node.classList.toggle("faded", on && node.dataset.arm !== String(arm));
    };
    const events = { onclick: toggle, onpointerenter: fade(true), onfocus: fade(true), onpointerleave: fade(false), onblur: fade(false) };
    const name = html("span", {}, DATA.arms[arm].name);
    const button = html("button", { type: "button", "data-arm": arm, ...events }, sample, name);
    list.append(html("li", {}, button));
  }
  figure.prepend(list);
}

function redraw() {
  for (const draw of redraws) draw();
  for (const button of document.querySelectorAll(".legend button"))
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.arm))));
}

// A figure that is there gets its drawing function, its keyboard and pointer, and is drawn again when its width changes.
function chart(id, setUp) {
  const figure = document.getElementById(`chart-${id}`);
  if (!figure) return;
  const draw = setUp(figure);
  readable(figure);
  let width = 0;
  redraws.push(() => { figure.frame = draw(); width = figure.clientWidth; });
  new ResizeObserver(() => {
    if (figure.clientWidth !== width && figure.clientWidth) { figure.frame = draw(); width = figure.clientWidth; }
  }).observe(figure);
}

function choice(label, options, onchange) {
  const select = html("select", { onchange: () => onchange(select.value) });
  for (const [value, name] of options) select.append(html("option", { value }, name));
  return html("label", {}, label, select);
}
