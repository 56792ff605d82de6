// The table of all subnets, with sorting, filtering and pagination. The URL fragment "#sort=top1" or "#sort=-top1"
// (descending) sets the initial order; the names are the data-key attributes of the columns.

const PAGE = 100;
const COLUMNS = [
  ["arm", "Arm", (row) => DATA.arms[row[0]].name],
  ["seed", "Seed", (row) => DATA.seeds[row[1]]],
  ["phase", "Phase", (row) => row[2], (value) => DATA.phases[value]],
  ["d", "Depths", (row) => DATA.archs[row[3]][0]],
  ["ks", "Kernels", (row) => DATA.archs[row[3]][1]],
  ["e", "Expand", (row) => DATA.archs[row[3]][2]],
  ["level", "Blocks", (row) => DATA.archs[row[3]][3]],
  ["height", "Height", (row) => DATA.archs[row[3]][4]],
  ["other", "Other", (row) => DATA.archs[row[3]][5]],
  ["resolution", "Resolution", (row) => row[4]],
  ["ensemble", "Exits", (row) => row[5], (value) => (value ? "all" : "last")],
  ["val_top1", "Validation (%)", (row) => row[6], fixed],
  ["top1", "Test (%)", (row) => row[7], fixed],
  ["macs", "MACs", (row) => row[8], (value) => value.toLocaleString("en")],
  ["params", "Parameters", (row) => row[9], (value) => value.toLocaleString("en")],
  ["latency", "Latency (ms)", (row) => row[10], fixed],
];
const FEW_WORDS = ["arm", "phase", "d", "ks", "e", "level", "other"];

function compare(a, b) {
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function subnetTable(host) {
  const absent = (value) => value === "" || value === null || value === undefined;
  const columns = COLUMNS.filter(([key, , of]) =>
    key === "ensemble" ? DATA.subnets.some((row) => row[5]) : DATA.subnets.some((row) => !absent(of(row))));
  const state = { sort: null, down: false, page: 0, arm: "", phase: "" };
  const body = html("tbody");
  const count = html("span", { role: "status" });
  const turn = (by) => () => { state.page += by; show(); };
  const back = html("button", { type: "button", onclick: turn(-1) }, "Previous");
  const next = html("button", { type: "button", onclick: turn(1) }, "Next");

  function sorted() {
    const rows = DATA.subnets.filter((row) =>
      (state.arm === "" || row[0] === Number(state.arm)) && (state.phase === "" || row[2] === Number(state.phase)));
    const column = columns.find(([key]) => key === state.sort);
    if (!column) return rows;
    const of = column[2];
    const way = (a, b) => (absent(of(a)) || absent(of(b)) || !state.down ? compare(of(a), of(b)) : compare(of(b), of(a)));
    return rows.sort(way);
  }
  function cell(row, [key, , of, format]) {
    const value = of(row);
    const words = absent(value) ? "\u2013" : String(format ? format(value) : value);
    return FEW_WORDS.includes(key)
      ? html("td", { class: "words" }, html("span", { class: "name" }, words))
      : html("td", {}, words);
  }
  function show() {
    const rows = sorted(), pages = Math.max(1, Math.ceil(rows.length / PAGE));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const from = state.page * PAGE, shown = rows.slice(from, from + PAGE);
    body.replaceChildren(...shown.map((row) => html("tr", {}, ...columns.map((column) => cell(row, column)))));
    count.textContent = rows.length ? `${from + 1} to ${from + shown.length} of ${rows.length}` : "none";
    back.disabled = state.page === 0;
    next.disabled = state.page === pages - 1;
    for (const head of heads)
      head.setAttribute("aria-sort", head.dataset.key !== state.sort ? "none" : state.down ? "descending" : "ascending");
  }
  function sortBy(key, down) {
    state.sort = key;
    state.down = down;
    state.page = 0;
    show();
  }
  const heads = columns.map(([key, name]) => {
    const onclick = () => sortBy(key, state.sort === key && !state.down);
    return html("th", { scope: "col", "data-key": key }, html("button", { type: "button", onclick }, name));
  });
  const filter = (key) => (value) => { state[key] = value; state.page = 0; show(); };
  const options = (names) => [["", "all"], ...names.map((name, i) => [i, name])];
  host.append(
    html("div", { class: "controls" },
      choice("Arm", options(DATA.arms.map((arm) => arm.name)), filter("arm")),
      choice("Phase", options(DATA.phases), filter("phase")), back, next, count),
    html("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "All subnets" },
      html("table", { id: "table-subnets" }, html("thead", {}, html("tr", {}, ...heads)), body)));
  const fromAddress = () => {
    const match = /^#sort=(-?)(\w+)$/.exec(location.hash);
    if (match && columns.some(([key]) => key === match[2])) sortBy(match[2], match[1] === "-");
  };
  addEventListener("hashchange", fromAddress);
  show();
  fromAddress();
}

if (document.getElementById("subnet-table")) subnetTable(document.getElementById("subnet-table"));

// Tables that are wider than their box get a note about scrolling.
const boxes = new ResizeObserver((entries) => requestAnimationFrame(() => {
  for (const { target } of entries) target.toggleAttribute("data-more", target.scrollWidth > target.clientWidth + 1);
}));
for (const box of document.querySelectorAll(".wide")) boxes.observe(box);
document.documentElement.dataset.ready = "true";
