// Interaction with a chart: reading points, hiding arms, zooming, and showing values outside an axis.

const hidden = new Set();
const redraws = [];

function redraw() {
  for (const draw of redraws) draw();
  for (const each of document.querySelectorAll(".legend button[data-arm]"))
    each.setAttribute("aria-pressed", String(!hidden.has(Number(each.dataset.arm))));
}

// Gives an existing figure its drawing function and controls; the figure is redrawn when its width changes.
// `zoom` names the axes that can be zoomed: "x", "y" or "xy".
function chart(id, zoom, setUp) {
  const figure = document.getElementById(`chart-${id}`);
  if (!figure) return;
  figure.view = { x: null, y: null, all: false };
  figure.controls = html("div", { class: "controls" });
  figure.note = html("p", { class: "small cut", role: "status" });
  figure.append(figure.note);
  const draw = setUp(figure);
  figure.prepend(figure.controls);
  let width = 0;
  figure.redraw = () => {
    figure.frame = draw().done();
    width = figure.clientWidth;
    noteCut(figure);
  };
  readable(figure);
  zoomable(figure, zoom);
  redraws.push(figure.redraw);
  new ResizeObserver(() => { if (figure.clientWidth !== width && figure.clientWidth) figure.redraw(); }).observe(figure);
}

// The arms whose values an axis must cover: all visible arms, initially without the outlying ones.
function axisArms(figure, arms, outlying) {
  const shown = arms.filter((arm) => !hidden.has(arm));
  const regular = shown.filter((arm) => !outlying.includes(arm));
  figure.cut = figure.view.all || !regular.length ? [] : shown.filter((arm) => outlying.includes(arm));
  figure.canCut = regular.length > 0 && regular.length < shown.length;
  return figure.cut.length ? regular : shown;
}

function noteCut(figure) {
  figure.note.replaceChildren();
  if (!figure.canCut || figure.view.x || figure.view.y) return;
  const names = (figure.cut || []).map((arm) => DATA.arms[arm].name).join(", ");
  const toggle = () => { figure.view.all = !figure.view.all; figure.redraw(); };
  if (names) figure.note.append(`The axis is cut to show the others better; arrows at its edge stand for values outside it: ${names}. `);
  figure.note.append(button(names ? "Show all values" : "Cut the axis", toggle));
}

// One set of listeners per figure, even if it is redrawn: pointer, touch, and arrow keys between points.
function readable(figure) {
  const tip = document.getElementById("tip");
  const halo = svg("circle", { r: 8, class: "halo" });
  figure.current = null;
  const hide = () => { tip.hidden = true; halo.remove(); figure.current = null; };
  const show = (frame, point) => {
    figure.current = point;
    fill(halo, { cx: point.x, cy: point.y }, []);
    frame.svg.append(halo);
    tip.textContent = point.lines.filter(Boolean).join("\n");
    tip.hidden = false;
    const box = frame.svg.getBoundingClientRect(), factor = box.width / frame.width;
    const x = box.left + point.x * factor, y = box.top + point.y * factor;
    const left = x + 14 + tip.offsetWidth > innerWidth ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 4))}px`;
  };
  const near = (event) => {
    const [x, y] = positionIn(figure.frame, event);
    let best = null, distance = 24 ** 2;
    for (const point of figure.frame.points) {
      const d = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (d < distance) { best = point; distance = d; }
    }
    if (best && !figure.dragging) show(figure.frame, best); else hide();
  };
  const step = (event) => {
    const frame = figure.frame, points = frame.points, current = figure.current;
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
  // "application": screen readers pass arrow keys to the page
  const label = `${surface.getAttribute("aria-label")}; arrow keys read the points, plus, minus and 0 zoom`;
  fill(surface, { role: "application", "aria-label": label }, []);
  surface.addEventListener("pointermove", near);
  surface.addEventListener("pointerdown", near);
  surface.addEventListener("pointerleave", hide);
  surface.addEventListener("blur", hide);
  surface.addEventListener("keydown", step);
  addEventListener("scroll", hide, { passive: true });
}

function positionIn(frame, event) {
  const box = frame.svg.getBoundingClientRect(), factor = frame.width / box.width;
  return [(event.clientX - box.left) * factor, (event.clientY - box.top) * factor];
}

// Zoom by dragging a rectangle, with buttons, or with the keys plus, minus and 0.
function zoomable(figure, axes) {
  const surface = figure.querySelector(":scope > svg");
  const set = (x, y) => {
    if (axes.includes("x")) figure.view.x = x;
    if (axes.includes("y")) figure.view.y = y;
    figure.redraw();
    reset.disabled = !(figure.view.x || figure.view.y);
  };
  const around = (at, low, high, factor) => [at - (at - low) * factor, at + (high - at) * factor];
  const by = (factor) => {
    const frame = figure.frame, point = figure.current || { x: (frame.left + frame.right) / 2, y: (frame.top + frame.bottom) / 2 };
    const x = around(point.x, frame.left, frame.right, factor), y = around(point.y, frame.bottom, frame.top, factor);
    set(axes.includes("x") ? x.map(frame.x.value) : null, axes.includes("y") ? y.map(frame.y.value) : null);
  };
  const reset = button("Reset", () => set(null, null), { disabled: "" });
  const drag = button("Drag to zoom", () => {
    const on = drag.getAttribute("aria-pressed") !== "true";
    drag.setAttribute("aria-pressed", String(on));
    surface.style.touchAction = on ? "none" : "";
  }, { class: "touch", "aria-pressed": "false" });
  const buttons = [button("+", () => by(0.5), { "aria-label": "Zoom in" }), button("\u2212", () => by(2), { "aria-label": "Zoom out" })];
  figure.controls.append(html("span", { class: "zoom", title: "Drag over the chart to zoom in" }, "Zoom", ...buttons, reset, drag));

  const rectangle = svg("rect", { class: "selection" });
  let start = null;
  const corners = (event) => {
    const frame = figure.frame, [x, y] = positionIn(frame, event);
    const inside = (value, low, high) => Math.min(Math.max(value, low), high);
    const xs = axes.includes("x") ? [start[0], inside(x, frame.left, frame.right)] : [frame.left, frame.right];
    const ys = axes.includes("y") ? [start[1], inside(y, frame.top, frame.bottom)] : [frame.top, frame.bottom];
    return [xs.sort((a, b) => a - b), ys.sort((a, b) => a - b)];
  };
  surface.addEventListener("pointerdown", (event) => {
    const byTouch = event.pointerType !== "mouse" && drag.getAttribute("aria-pressed") !== "true";
    const [x, y] = positionIn(figure.frame, event), frame = figure.frame;
    if (byTouch || event.button !== 0 || x < frame.left || x > frame.right || y < frame.top || y > frame.bottom) return;
    start = [x, y];
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [[x1, x2], [y1, y2]] = corners(event);
    figure.dragging = Math.max(axes.includes("x") ? x2 - x1 : 0, axes.includes("y") ? y2 - y1 : 0) > 8;
    fill(rectangle, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 }, []);
    if (figure.dragging) surface.append(rectangle);
  });
  surface.addEventListener("pointerup", (event) => {
    const dragged = start && figure.dragging, [xs, ys] = start ? corners(event) : [];
    cancel();
    if (!dragged || (axes.includes("x") && xs[1] - xs[0] < 4) || (axes.includes("y") && ys[1] - ys[0] < 4)) return;
    const frame = figure.frame;
    set(axes.includes("x") ? xs.map(frame.x.value) : null, axes.includes("y") ? ys.reverse().map(frame.y.value) : null);
  });
  const cancel = () => { start = null; figure.dragging = false; rectangle.remove(); };
  surface.addEventListener("pointercancel", cancel);
  surface.addEventListener("dblclick", () => set(null, null));
  surface.addEventListener("keydown", (event) => {
    const act = { "+": () => by(0.5), "=": () => by(0.5), "-": () => by(2), 0: () => set(null, null) }[event.key];
    if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); }
  });
}

// Buttons that hide and show arms, in all charts at once.
function legend(figure, arms) {
  const list = html("ul", { class: "legend", "aria-label": "Arms; press to hide or show one" });
  const only = (keep) => () => {
    for (const arm of arms) if (keep(arm)) hidden.delete(arm); else hidden.add(arm);
    redraw();
  };
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
    const { name, note } = DATA.arms[arm];
    list.append(html("li", {}, html("button", {
      type: "button", "data-arm": arm, title: "Click to hide or show; double-click to show this arm alone",
      onclick: toggle, ondblclick: only((other) => other === arm),
      onpointerenter: fade(true), onfocus: fade(true), onpointerleave: fade(false), onblur: fade(false),
    }, sample, html("span", {}, name), note && html("span", { class: "quiet" }, note))));
  }
  if (arms.length > 2)
    list.append(html("li", { class: "every" }, button("Show all", only(() => true)), button("Hide all", only(() => false))));
  figure.prepend(list);
}
