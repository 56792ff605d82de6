// The charts of this report.

const TOP1 = "Top-1 accuracy on the test set (%)";
const seedsNote = ([, low, high, n]) => (n > 1 ? `mean of ${n} seeds, ${fixed(low)} to ${fixed(high)}` : "");
const armsWith = (values) => DATA.arms.map((_, arm) => arm).filter((arm) => values[arm].some(Boolean));

// Lines over positions; missing values are bridged, bars span the seeds.
function lines(frame, values, x, tip) {
  for (const arm of armsWith(values)) {
    if (hidden.has(arm)) continue;
    const held = values[arm].map((value, i) => [value, i]).filter(([value]) => value);
    for (const [[, low, high], i] of held)
      if (low < high) frame.add(svg("line", { x1: x(i), x2: x(i), y1: frame.y(low), y2: frame.y(high), stroke: color(arm), "stroke-opacity": 0.55, "data-arm": arm }));
    frame.add(stroke(arm, held.map(([[mean], i]) => [x(i), frame.y(mean)])));
    for (const [value, i] of held) {
      frame.add(marker(arm, x(i), frame.y(value[0])));
      frame.point(arm, x(i), frame.y(value[0]), tip(arm, i, value));
    }
  }
}

const rangeOf = (values) => {
  const shown = values.filter((_, arm) => !hidden.has(arm)).flat().filter(Boolean);
  return padded(shown.length ? shown.flatMap(([, low, high]) => [low, high]) : [0, 100]);
};

chart("by-phase", (figure) => {
  let measure = "best_top1";
  legend(figure, armsWith(DATA.accuracy.best_top1));
  const change = (value) => { measure = value; redraw(); };
  figure.prepend(html("div", { class: "controls" }, choice("Subnet", Object.entries(DATA.measures), change)));
  return () => {
    const names = DATA.phases, values = DATA.accuracy[measure];
    const longest = Math.max(...names.map((name) => name.length)) * 6.6;
    const room = (figure.clientWidth - 70) / names.length;
    const turned = longest + 8 > room;
    const below = turned ? Math.min(longest, 110) * 0.75 + 46 : 46;
    const frame = new Frame(figure, 340 + (turned ? below - 46 : 0), { left: 46, right: 16, top: 26, bottom: below });
    const step = (frame.right - frame.left) / names.length;
    const x = (i) => frame.left + step * (i + 0.5);
    frame.yAxis(rangeOf(values), TOP1);
    names.forEach((name, i) => {
      frame.line(x(i), frame.top, x(i), frame.bottom, "grid");
      const at = turned ? { transform: `rotate(-45 ${x(i)} ${frame.bottom + 14})`, "text-anchor": "end" } : { "text-anchor": "middle" };
      fitted(frame.text(x(i), frame.bottom + (turned ? 14 : 18), name, at), turned ? 110 : step);
    });
    frame.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis");
    frame.xLabel("Training phase", frame.height - 6);
    lines(frame, values, x, (arm, i, value) =>
      [`${DATA.arms[arm].name}, ${names[i]}`, `${fixed(value[0])} % (${DATA.measures[measure]})`, seedsNote(value)]);
    return frame;
  };
});

function describeSubnet(row) {
  const [arm, seed, phase, arch, resolution, ensemble, validation, top1, macs, params, latency] = row;
  const [d, ks, e, level, height, other] = DATA.archs[arch];
  return [
    `${DATA.arms[arm].name}, ${DATA.phases[phase]}` + (DATA.seeds.length > 1 ? `, seed ${DATA.seeds[seed]}` : ""),
    `test ${fixed(top1)} %, validation ${fixed(validation)} %`,
    [d && `depths ${d}`, ks && `kernels ${ks}`, e && `expand ${e}`].filter(Boolean).join("; "),
    level && `blocks ${level}`,
    [height && `height ${height}`, ensemble && "all exits together", `resolution ${resolution}`].filter(Boolean).join("; "),
    other,
    [macs !== null && `${amount(macs)} MACs`, params !== null && `${amount(params)} parameters`, latency !== null && `${fixed(latency)} ms`]
      .filter(Boolean).join("; "),
  ];
}

function amount(value) {
  const [scale, unit] = [[1e9, " G"], [1e6, " M"], [1e3, " k"]].find(([s]) => value >= s) || [1, ""];
  return `${Number((value / scale).toPrecision(3))}${unit}`;
}

chart("by-cost", (figure) => {
  const columns = { macs: 8, params: 9, latency_ms: 10 };
  let cost = DATA.costs[0], seed = 0;
  const last = DATA.last.map((i) => DATA.subnets[i]);
  legend(figure, DATA.arms.map((_, arm) => arm).filter((arm) => last.some((row) => row[0] === arm)));
  const controls = html("div", { class: "controls" });
  if (DATA.costs.length > 1) {
    const options = DATA.costs.map((each, i) => [i, each.name]);
    controls.append(choice("Cost", options, (i) => { cost = DATA.costs[i]; redraw(); }));
  }
  if (DATA.seeds.length > 1)
    controls.append(choice("Seed", DATA.seeds.map((name, i) => [i, name]), (i) => { seed = Number(i); redraw(); }));
  figure.prepend(controls);
  return () => {
    const column = columns[cost.key];
    const of = (row) => row[column] / cost.scale;
    const rows = last.filter((row) => row[1] === seed && row[7] !== null && row[column] !== null && !hidden.has(row[0]));
    const frame = new Frame(figure, 400, { left: 46, right: 16, top: 26, bottom: 46 });
    const costs = rows.length ? rows.map(of) : [0, 1];
    const log = cost.log && rows.length > 0;
    const [low, high] = padded(log ? costs.map(Math.log10) : costs, 0.04);
    frame.xAxis(log ? [10 ** low, 10 ** high] : [low, high], cost.label, { log });
    frame.yAxis(padded(rows.length ? rows.map((row) => row[7]) : [0, 100]), TOP1);
    const front = new Set();
    for (const { arm, rows: held } of DATA.fronts[cost.key].filter((each) => each.seed === seed && !hidden.has(each.arm))) {
      const on = held.map((i) => DATA.subnets[i]);
      frame.add(stroke(arm, on.map((row) => [frame.x(of(row)), frame.y(row[7])])));
      on.forEach((row) => front.add(row));
    }
    for (const row of [...rows.filter((each) => !front.has(each)), ...front]) {
      const x = frame.x(of(row)), y = frame.y(row[7]);
      frame.add(marker(row[0], x, y, front.has(row) ? {} : { "fill-opacity": 0.35 }));
      frame.point(row[0], x, y, describeSubnet(row));
    }
    return frame;
  };
});

chart("by-exit", (figure) => {
  const { heights, phases, values } = DATA.exits;
  legend(figure, armsWith(values));
  return () => {
    const frame = new Frame(figure, 320, { left: 46, right: 16, top: 26, bottom: 46 });
    frame.xAxis(padded(heights), "Exit (stages passed before it)", { at: heights });
    frame.yAxis(rangeOf(values), TOP1);
    lines(frame, values, (i) => frame.x(heights[i]), (arm, i, value) =>
      [`${DATA.arms[arm].name}, exit ${heights[i]}`, phases[arm] && `after ${phases[arm]}`, `${fixed(value[0])} %`, seedsNote(value)]);
    return frame;
  };
});

chart("gains", (figure) => () => {
  const gains = DATA.gains, pitch = 40;
  const frame = new Frame(figure, gains.length * pitch + 56, { left: 10, right: 16, top: 6, bottom: 46 });
  const values = gains.flatMap((gain) => [0, gain.mean, ...(gain.interval || []), ...gain.seeds.map(([, value]) => value)]);
  frame.xAxis(padded(values), "Gain over the baseline (points of top-1 accuracy)");
  frame.line(frame.x(0), frame.top, frame.x(0), frame.bottom, "axis");
  gains.forEach((gain, i) => {
    const y = frame.top + pitch * i + 28;
    const shift = (value, by) => [[frame.x(value), y - by], [frame.x(value), y + by]];
    const plain = { "stroke-dasharray": null };
    const name = frame.text(frame.left, y - 12, `${DATA.arms[gain.arm].name}: ${signed(gain.mean)}`);
    fitted(name, frame.right - frame.left);
    const box = { x: frame.left - 3, y: y - 24, width: name.getComputedTextLength() + 6, height: 17, class: "patch" };
    name.before(svg("rect", box)); // the zero line does not cross the name
    if (gain.interval) {
      frame.add(stroke(gain.arm, gain.interval.map((value) => [frame.x(value), y]), { ...plain, "stroke-width": 3 }));
      for (const [, value] of gain.seeds) frame.add(stroke(gain.arm, shift(value, 6), plain));
    }
    frame.add(marker(gain.arm, frame.x(gain.mean), y));
    frame.point(gain.arm, frame.x(gain.mean), y, [
      DATA.arms[gain.arm].name,
      `${signed(gain.mean)} points at ${gain.phase}`,
      gain.interval ? `95 % interval ${gain.interval.map(signed).join(" to ")}` : "one seed: no interval",
      ...(gain.seeds.length > 1 ? gain.seeds.map(([seed, value]) => `seed ${seed}: ${signed(value)}`) : []),
    ]);
  });
  return frame;
});

redraw();
