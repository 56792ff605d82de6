// The charts of this report.

const TOP1 = "Top-1 accuracy on the test set (%)";
const MAX_POINTS = 150; // per arm and seed, in addition to its front
const seedsNote = ([, low, high, n]) => (n > 1 ? `mean of ${n} seeds, ${fixed(low)} to ${fixed(high)}` : "one seed");
const armsWith = (values) => DATA.arms.map((_, arm) => arm).filter((arm) => values[arm].some(Boolean));

// Lines over positions; lines connect across missing values, and bars span the seeds.
function lines(frame, values, tip) {
  for (const arm of armsWith(values)) {
    if (hidden.has(arm)) continue;
    const known = values[arm].map((value, i) => [value, i]).filter(([value]) => value);
    for (const [[, low, high], i] of known) {
      const bar = { x1: frame.x(i), x2: frame.x(i), y1: frame.y(low), y2: frame.y(high) };
      if (low < high) frame.mark(svg("line", { ...bar, stroke: color(arm), "stroke-opacity": 0.55, "data-arm": arm }));
    }
    frame.mark(stroke(arm, known.map(([[mean], i]) => [frame.x(i), frame.y(mean)])));
    for (const [value, i] of known) frame.point(arm, frame.x(i), frame.y(value[0]), tip(arm, i, value));
  }
}

function lineRange(figure, { values, outlying }) {
  const shown = axisArms(figure, armsWith(values), outlying).flatMap((arm) => values[arm].filter(Boolean));
  return padded(shown.length ? shown.flatMap(([, low, high]) => [low, high]) : [0, 100]);
}

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
  const [unit, letter] = [[1e9, " G"], [1e6, " M"], [1e3, " k"]].find(([s]) => value >= s) || [1, ""];
  return `${Number((value / unit).toPrecision(3))}${letter}`;
}

// The same rows as in the PNG images: evenly spaced, at most about MAX_POINTS.
function thinned(rows) {
  const every = Math.max(1, Math.round(rows.length / MAX_POINTS));
  return rows.filter((_, i) => i % every === 0);
}

chart("by-cost", "xy", (figure) => {
  let cost = DATA.costs[0], seed = 0;
  const last = DATA.last.map((i) => DATA.subnets[i]);
  const arms = DATA.arms.map((_, arm) => arm).filter((arm) => last.some((row) => row[0] === arm));
  legend(figure, arms);
  const change = (act) => (value) => { act(Number(value)); figure.view.x = figure.view.y = null; figure.redraw(); };
  if (DATA.costs.length > 1)
    figure.controls.append(choice("Cost", DATA.costs.map((each, i) => [i, each.name]), change((i) => { cost = DATA.costs[i]; })));
  if (DATA.seeds.length > 1)
    figure.controls.append(choice("Seed", DATA.seeds.map((name, i) => [i, name]), change((i) => { seed = i; })));
  return () => {
    const of = (row) => row[cost.column] / cost.scale;
    const known = last.filter((row) => row[1] === seed && row[7] !== null && row[cost.column] !== null);
    const rows = known.filter((row) => !hidden.has(row[0]));
    const shown = axisArms(figure, arms.filter((arm) => rows.some((row) => row[0] === arm)), DATA.outlying_subnets);
    const frame = new Frame(figure, 400, { left: 46, right: 16, top: 26, bottom: 46 });
    const costs = rows.length ? rows.map(of) : [1, 2];
    const [low, high] = padded(cost.log ? costs.map(Math.log10) : costs, 0.04);
    frame.xAxis(cost.log ? [10 ** low, 10 ** high] : [low, high], cost.label, { log: cost.log });
    const accuracies = rows.filter((row) => shown.includes(row[0])).map((row) => row[7]);
    frame.yAxis(padded(accuracies.length ? accuracies : [0, 100]), TOP1);
    for (const budget of cost.budgets.map((value) => frame.x(value / cost.scale)))
      if (budget >= frame.left && budget <= frame.right) frame.line(budget, frame.top, budget, frame.bottom, "budget");
    const fronts = DATA.fronts[cost.key].filter((front) => front.seed === seed && !hidden.has(front.arm));
    const onFront = new Set(fronts.flatMap((front) => front.rows.map((i) => DATA.subnets[i])));
    const faint = (arm, x, y) => marker(arm, x, y, { "fill-opacity": 0.35 });
    for (const arm of arms)
      for (const row of thinned(rows.filter((each) => each[0] === arm && !onFront.has(each))))
        frame.point(arm, frame.x(of(row)), frame.y(row[7]), describeSubnet(row), faint);
    for (const { arm, rows: front } of fronts) {
      const on = front.map((i) => DATA.subnets[i]);
      frame.mark(stroke(arm, on.map((row) => [frame.x(of(row)), frame.y(row[7])])));
      for (const row of on) frame.point(arm, frame.x(of(row)), frame.y(row[7]), describeSubnet(row));
    }
    return frame;
  };
});

chart("by-phase", "xy", (figure) => {
  let measure = "best_top1";
  const names = DATA.phases;
  legend(figure, armsWith(DATA.accuracy.best_top1.values));
  const change = (value) => { measure = value; figure.view.y = null; figure.redraw(); };
  figure.controls.append(choice("Subnet", Object.entries(DATA.measures), change));
  return () => {
    const longest = names.reduce((most, name) => Math.max(most, name.length), 0) * 6.6;
    const slanted = longest + 8 > (figure.clientWidth - 70) / names.length;
    const below = slanted ? Math.min(longest, 110) * 0.75 + 46 : 46;
    const frame = new Frame(figure, 340 + (slanted ? below - 46 : 0), { left: 46, right: 16, top: 26, bottom: below });
    frame.yAxis(lineRange(figure, DATA.accuracy[measure]), TOP1);
    frame.xNames(names, "Training phase", slanted);
    lines(frame, DATA.accuracy[measure].values, (arm, i, value) =>
      [`${DATA.arms[arm].name}, ${names[i]}`, `${fixed(value[0])} % (${DATA.measures[measure]})`, seedsNote(value)]);
    return frame;
  };
});

chart("by-exit", "xy", (figure) => {
  const { heights, phases, values } = DATA.exits;
  legend(figure, armsWith(values));
  return () => {
    const frame = new Frame(figure, 320, { left: 46, right: 16, top: 26, bottom: 46 });
    frame.yAxis(lineRange(figure, DATA.exits), TOP1);
    frame.xNames(heights.map(String), "Exit (stages passed before it)", false);
    lines(frame, values, (arm, i, value) =>
      [`${DATA.arms[arm].name}, exit ${heights[i]}`, phases[arm] && `after ${phases[arm]}`, `${fixed(value[0])} %`, seedsNote(value)]);
    return frame;
  };
});

chart("gains", "x", (figure) => {
  let group = DATA.gains[0];
  const change = (i) => { group = DATA.gains[i]; figure.view.x = null; figure.redraw(); };
  figure.controls.append(choice("Compare", DATA.gains.map(({ name }, i) => [i, name]), change));
  return () => {
    const pitch = 40, rows = group.rows.filter((row) => !hidden.has(row.arm));
    const frame = new Frame(figure, rows.length * pitch + 56, { left: 10, right: 16, top: 6, bottom: 46 });
    const outlying = group.outlying.map((i) => group.rows[i].arm);
    const shown = axisArms(figure, rows.map((row) => row.arm), outlying);
    const values = rows.filter((row) => shown.includes(row.arm)).flatMap((row) => [...(row.interval || []), ...row.seeds.map(([, value]) => value)]);
    frame.xAxis(padded([0, ...values]), "Gain over the baseline (points of top-1 accuracy)");
    if (frame.x(0) >= frame.left && frame.x(0) <= frame.right) frame.line(frame.x(0), frame.top, frame.x(0), frame.bottom, "axis");
    rows.forEach((row, i) => gainRow(frame, row, frame.top + pitch * i + 28));
    return frame;
  };
});

// Mean and interval, with strokes for the runs; without an interval, hollow marks for the runs.
function gainRow(frame, { arm, phase, mean, interval, seeds }, y) {
  const runs = seeds.map(([seed, value]) => `seed ${seed}: ${signed(value)}`);
  const summary = interval ? `${signed(mean)} (${interval.map(signed).join(" to ")})` : seeds.map(([, value]) => signed(value)).join(", ");
  const name = frame.text(frame.left, y - 12, `${DATA.arms[arm].name}: ${summary}`);
  fitted(name, frame.right - frame.left);
  const box = { x: frame.left - 3, y: y - 24, width: name.getComputedTextLength() + 6, height: 17, class: "patch" };
  name.before(svg("rect", box)); // keeps the zero line from crossing the name
  const lines = [DATA.arms[arm].name, phase && `at ${phase}`, ...runs];
  const plain = { "stroke-dasharray": null };
  if (interval) {
    frame.mark(stroke(arm, interval.map((value) => [frame.x(value), y]), { ...plain, "stroke-width": 3 }));
    for (const [, value] of seeds)
      frame.mark(stroke(arm, [[frame.x(value), y - 6], [frame.x(value), y + 6]], plain));
    frame.point(arm, frame.x(mean), y, [...lines, `mean ${signed(mean)}, 95 % interval ${interval.map(signed).join(" to ")}`]);
  } else {
    const hollow = (which, x, at) => marker(which, x, at, HOLLOW(which));
    for (const [, value] of seeds) frame.point(arm, frame.x(value), y, [...lines, `no interval below 3 seeds`], hollow);
  }
  for (const value of [...seeds.map(([, each]) => each), ...(interval || [])]) {
    const x = frame.x(value), at = x < frame.left ? frame.left + 5 : frame.right - 5;
    if (x >= frame.left - 1 && x <= frame.right + 1) continue;
    frame.mark(placed(arm, x < frame.left ? "M-4,0l6,-4v8z" : "M4,0l-6,-4v8z", at, y));
    frame.points.push({ arm, x: at, y, lines });
  }
}

redraw();
