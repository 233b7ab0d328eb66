// The leaderboard, built from the data in the page.
"use strict";


const score = (key, name, first, digits, hint) => ({
  name, hint, sort: first, value: (row) => row[key], show: (row) => number(row[key], digits),
});

const methodColumn = () => ({ name: "method", sort: "text", head: true, value: (row) => row.label, show: methodCell });
const fusionColumn = () => ({ name: "fusion", sort: "text", wide: true, fusion: true, value: (row) => row.fusion,
  show: (row) => row.fusion });

// What the filters look at.
const aboutRow = (row, table) => ({ name: full(row), fusion: row.fusion, task: table.task, data: table.data });

// What is drawn anew when a filter changes.
const redraws = [];

// The columns of a table. One whose rows all lack its value is not shown.
const COLUMNS = [
  { name: "rank", sort: "up", value: (row) => row.rank, show: (row) => row.rank ?? DASH },
  methodColumn(),
  fusionColumn(),
  { name: "DSC", sort: "down", hint: "mean over patients, with its 95% interval", value: (row) => row.dsc, show: dscCell,
    files: [["DSC", "dsc"], ["DSC low", "dsc_low"], ["DSC high", "dsc_high"]].map(([name, key]) => ({ name, value: (row) => row[key] })) },
  {
    name: "ranks", sort: "up", hint: "the ranks that the row may have, by the rows separated above and below it",
    value: (row) => row.rank_low,
    files: ["low", "high"].map((end) => ({ name: `rank ${end}`, value: (row) => row[`rank_${end}`] })),
    show: (row) => (missing(row.rank_low) ? DASH : row.rank_low === row.rank_high ? row.rank_low
      : `${row.rank_low} to ${row.rank_high}`),
  },
  standingColumn("what the test below the table says of the row and the leader"),
  bestColumn(),
  { ...score("p_leader", "p", "up", 3, "p of the test against the leader, corrected"), show: (row) => pValue(row.p_leader) },
  score("seed_sd", "seed SD", "up", 3, "standard deviation of the mean DSC over seeds"),
  ...data.scores.map((one) => score(one.key, one.name, one.sort, one.digits, one.hint)),
  {
    name: "parameters", sort: "up", hint: "all, and those that are trained", value: (row) => row.parameters,
    show: (row) => (missing(row.trainable) || row.trainable === row.parameters ? count(row.parameters)
      : `${count(row.parameters)} (${count(row.trainable)})`),
  },
  {
    name: "frozen elsewhere", sort: "up", hint: "parameters of frozen parts that made features for the network",
    value: (row) => row.frozen_elsewhere || null, show: (row) => count(row.frozen_elsewhere || null),
  },
  score("gflops", "GFLOPs", "up", 2, "of one slice"),
  score("memory_mb", "memory MB", "up", 0, "peak"),
  score("ms_per_slice", "ms/slice", "up", 1),
  score("train_seconds", "training s", "up", 0),
  { name: "cases", sort: "down", value: (row) => row.cases, show: (row) => row.cases },
  { name: "folds", sort: "down", value: (row) => row.folds_done, show: (row) => `${row.folds_done}/${row.folds}` },
  { name: "seeds", sort: "text", value: (row) => row.seeds, show: (row) => row.seeds },
  { name: "weights", sort: "text", value: (row) => row.weights, show: (row) => row.weights },
  { name: "device", sort: "text", value: (row) => row.device, show: (row) => row.device ?? DASH },
];

function methodCell(row) {
  const small = (text, where) => make("span", { class: `status ${where}` }, text);
  return [row.label, small(row.fusion, "narrow"), row.verified ? small(`verified ${row.verified}`, "") : null,
    row.status ? small(row.status, "") : null];
}

function dscCell(row, table) {
  const interval = missing(row.dsc_low) ? "" : `[${number(row.dsc_low)}, ${number(row.dsc_high)}]`;
  return make("span", { class: "dsc" }, make("b", {}, number(row.dsc)), bar(row.dsc, row.dsc_low, row.dsc_high,
    table.domain), make("span", { class: "muted" }, interval));
}

function buildGrid(table, onSelect) {
  const ids = stableIds(table.rows, [table.protocol]);
  return makeGrid({
    title: table.title, kind: "board", columns: COLUMNS, rows: table.rows, table, about: (row) => aboutRow(row, table),
    idOf: (row) => ids.get(row),
    lead: (row) => {
      row.box = make("input", { type: "checkbox", "aria-label": `select ${full(row)}` });
      row.box.addEventListener("change", () => onSelect(row, row.box.checked));
      return row.box;
    },
    onClick: (row) => row.box.click(),
    classes: (row) => [["leader", "not separated"].includes(standingWords(row)) ? "first" : "",
      row === table.bestUnder ? "best-under" : ""].join(" ").trim(),
  });
}

function effects(table, of = "DSC") {
  const list = table.fusion_effects ?? [];
  if (!list.length) return null;
  const reach = Math.max(0.01, ...list.flatMap((one) => [one.low, one.high, one.difference]
    .filter((v) => !missing(v)).map(Math.abs)));
  const grid = makeGrid({
    title: `effect of fusion on ${of}, ${table.title}`, kind: "sortable", rows: list,
    about: (one) => ({ name: `${one.method}, ${one.a}, ${one.b}`, fusion: [one.a, one.b], task: table.task, data: table.data }),
    columns: [
      { name: "method", sort: "text", head: true, value: (one) => one.method, show: (one) => one.method },
      { name: "fusion", sort: "text", value: (one) => one.a, show: (one) => one.a },
      { name: "against", sort: "text", value: (one) => one.b, show: (one) => one.b },
      { name: `difference of ${of}`, sort: "down", value: (one) => one.difference,
        files: ["difference", "low", "high"].map((key) => ({ name: key, value: (one) => one[key] })),
        show: (one) => make("span", { class: "dsc" },
          make("b", {}, signed(one.difference)), bar(one.difference, one.low, one.high, [-reach, reach]),
          make("span", { class: "muted" }, missing(one.low) ? "" : `[${signed(one.low)}, ${signed(one.high)}]`)) },
      { name: "n", sort: "down", value: (one) => one.n, show: (one) => one.n ?? DASH },
      { name: "p", sort: "up", value: (one) => one.p, show: (one) => pValue(one.p) },
    ],
  });
  return make("section", {}, make("h3", {}, "Effect of fusion"), grid.box);
}

function statistics(table) {
  const lines = [...table.notes];
  const unranked = table.rows.filter((row) => row.status).length;
  if (unranked) lines.push(`Not ranked: ${unranked} of ${table.rows.length} rows; each says why under its name.`);
  return make("ul", { class: "notes" }, lines.map((line) => make("li", {}, line)));
}

const words = (value) => (typeof value === "object" ? Object.values(value).map(String).join(", ") : String(value));

// What a record says in one column: of nested records one column a key.
function flat(record) {
  return Object.fromEntries(Object.entries(record).flatMap(([key, value]) => (isRecord(value)
    ? Object.entries(value).map(([inner, one]) => [`${key} ${inner}`, one]) : [[key, value]])));
}

const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isRecords = (value) => Array.isArray(value) && value.length > 0 && value.every(isRecord);

function plain(value) {
  if (missing(value)) return DASH;
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value);
  return typeof value === "object" ? words(value) : String(value);
}

// Records as a table that sorts; a column is a column of numbers if it holds nothing else. Words that all records
// share stand above it.
function records(list, name, around = {}) {
  const lines = list.map(flat);
  const keys = [...new Set(lines.flatMap(Object.keys))].filter((key) => lines.some((line) => !missing(line[key])));
  const title = (key) => key.replaceAll("_", " ");
  const shared = keys.filter((key) => lines.length > 1 && typeof lines[0][key] === "string"
    && lines.every((line) => line[key] === lines[0][key]));
  const columns = keys.filter((key) => !shared.includes(key)).map((key) => {
    const values = lines.map((line) => line[key]).filter((value) => !missing(value));
    const numeric = values.every((value) => typeof value === "number");
    const whole = numeric && values.every(Number.isInteger);
    return { key, numeric, digits: whole ? 0 : numeric && Math.max(...values.map(Math.abs)) >= 10 ? 2 : 3 };
  });
  const head = columns.find(({ key }) => key === "label") ?? columns.find(({ key }) => key === "method") ?? columns[0];
  const grid = makeGrid({
    title: name, rows: lines, about: (line) => aboutRecord({ ...around, ...line }),
    columns: columns.map(({ key, numeric, digits }) => ({
      name: title(key), head: key === head.key, fusion: key === "fusion", sort: numeric ? "down" : "text",
      value: (line) => (numeric ? line[key] : missing(line[key]) ? null : plain(line[key])),
      show: (line) => {
        const text = numeric ? number(line[key], digits) : plain(line[key]);
        return text.length > 60 ? make("span", { class: "long" }, text) : text;
      },
    })),
  });
  return [
    shared.length ? make("p", { class: "muted" }, shared.map((key) => `${title(key)}: ${lines[0][key]}`).join("; ")) : null,
    grid.box,
  ];
}

// What the filters look at of a record that may or may not state it.
function aboutRecord({ label, method, fusion, task, tasks, kind, data: of }) {
  const name = label ?? method;
  return { name: missing(name) ? undefined : `${name}, ${fusion ?? ""}`, fusion: missing(fusion) ? undefined : fusion,
    task: tasks ?? (missing(task) ? undefined : task), data: kind ?? of };
}

// Records that hold records of their own: a heading, what is common, and a table each.
function group(record) {
  const inner = Object.entries(record).filter(([, value]) => isRecords(value));
  const rest = Object.entries(record).filter(([key, value]) => !isRecords(value) && key !== "title"
    && !(Array.isArray(value) && !value.length));
  const title = record.title ?? rest.filter(([, value]) => typeof value === "string").map(([, value]) => value).join(", ");
  return make("section", {}, make("h3", {}, title), inner.map(([key, value]) => records(value, `${title}: ${key}`, { tasks: record.tasks, kind: record.kind })),
    make("dl", { class: "pairs" }, rest.map(([key, value]) => [make("dt", {}, key.replaceAll("_", " ")),
      make("dd", {}, plain(isRecord(value) ? Object.entries(value).map((one) => one.join("=")) : value))])));
}

const sections = [];

function buildSection(table, index) {
  const bounds = table.rows.flatMap((row) => [row.dsc, row.dsc_low, row.dsc_high]).filter((value) => !missing(value));
  table.domain = bounds.length ? domainOf(bounds) : [0, 1];
  const selected = [];
  const detail = make("section", { class: "detail", tabindex: "-1", hidden: true, "aria-label": "selection" });
  const summary = make("span", { "aria-live": "polite" });
  const show = make("button", { type: "button" }, "Show");
  const clear = make("button", { type: "button" }, "Clear");
  const dock = make("div", { class: "dock", hidden: true }, summary, show, clear);
  show.addEventListener("click", () => {
    detail.scrollIntoView({ block: "start" });
    detail.focus({ preventScroll: true });
  });
  const refresh = () => {
    for (const row of table.rows) {
      const line = grid.lines.get(row);
      if (!line) continue;
      row.box.checked = selected.includes(row);
      line.classList.toggle("selected", row.box.checked);
    }
    dock.hidden = detail.hidden = !selected.length;
    if (!selected.length) return detail.replaceChildren();
    const [a, b] = selected;
    summary.textContent = b ? `${full(a)} minus ${full(b)}: ${verdict(compare(a, b, table))}`
      : `${full(a)}: DSC ${number(a.dsc)}. Select a second row to compare.`;
    detail.replaceChildren(...[
      make("h3", {}, b ? "Selected rows" : `Selected: ${full(a)}`),
      ...(b ? comparison(a, b, table) : []),
      make("h4", {}, "DSC of each patient"), stripPlot(selected, table),
      make("h4", {}, "Runs"), ...selected.flatMap((row) => [runsTable(row), settingsLine(row)]),
    ].filter(Boolean));
    return fitPlots();
  };
  const onSelect = (row, chosen) => {
    if (chosen) selected.push(row);
    else selected.splice(selected.indexOf(row), 1);
    if (selected.length > 2) selected.shift();
    refresh();
  };
  clear.addEventListener("click", () => { selected.length = 0; refresh(); });
  const cost = costChart(table);
  const grid = buildGrid(table, onSelect);
  const cases = caseViewer(table);
  const limited = make("p", { class: "limited", role: "status", hidden: true });
  const section = make("section", { class: "table", id: `table-${index + 1}` },
    make("h2", {}, table.title),
    make("p", { class: "muted" }, `Modalities ${table.modalities.join(", ")}; classes ${table.classes.join(", ")}; `
      + `${table.cases} cases, ${table.folds} folds (${table.split}); data ${table.fingerprint.slice(0, 10)}, `
      + `protocol ${table.protocol}.`),
    make("p", { class: "muted" }, `Select one row for its patients and runs, two rows to compare them. Bars span DSC `
      + `${number(table.domain[0], 1)} to ${number(table.domain[1], 1)}.`),
    limited, grid.box, dock, statistics(table), detail, cost.section, effects(table), cases?.section ?? []);
  sections.push({ table, section, cost, grid, cases, limited });
  return section;
}

function legendOf(table) {
  return make("p", { class: "legend" }, [...new Set(table.rows.map((row) => row.fusion))].sort().map((kind) =>
    make("span", {}, draw("svg", { width: 14, height: 14, "aria-hidden": "true" }, symbol(kind, 7, 7, 5)), data.fusions?.[kind]?.label ?? kind)));
}

function applyFilters() {
  for (const grid of grids) grid.apply();
  for (const { section, cost, grid, cases } of sections) {
    section.hidden = !grid.shown.length;
    cost.redraw(grid.shown);
    cases?.show();
  }
  for (const redraw of redraws) redraw();
  const main = sections.map((one) => one.grid);
  const others = grids.filter((grid) => !main.includes(grid));
  const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);
  const hidden = sum(others, (grid) => grid.rows.length - grid.shown.length);
  document.getElementById("shown").textContent = `${sum(main, (grid) => grid.shown.length)} of ${
    sum(main, (grid) => grid.rows.length)} rows shown${hidden ? `; ${hidden} rows of other sections hidden` : ""}`;
  fitPlots();
}

function extra(name, title, note) {
  const value = data[name];
  if (!isRecords(value)) return null;
  const nested = value.some((record) => Object.values(record).some(isRecords));
  return make("section", { id: name }, make("h2", {}, title), make("p", { class: "muted" }, note),
    nested ? value.map(group) : records(value, title));
}

// What publications report, folded away: a table of each, with what its protocol does not share with the rows.
function reported() {
  const value = data.reported;
  if (!isRecords(value)) return null;
  const lines = value.reduce((sum, one) => sum + (one.lines ?? []).length, 0);
  const beside = (row) => `${number(row.dsc)} ${row.label}, ${row.fusion} [${row.table}${row.status ? `, ${row.status}` : ""}]`;
  const table = (one) => records(one.lines.map(({ task, printed_task, part, method, fusion, scores, units, parameters, table, measured }) => ({
    task, "as printed": printed_task, of: part, method, fusion,
    ...Object.fromEntries(Object.entries(scores).map(([name, text]) => [`${name} (${units[name]})`, text])),
    parameters, where: table, "measured here (DSC)": measured.map(beside).join("; "),
  })), one.title);
  return make("section", { id: "reported" }, make("details", { id: "reported-lines" },
    make("summary", {}, make("h2", {}, "Reported elsewhere"), make("span", { class: "muted" },
      ` ${lines} ${lines === 1 ? "line" : "lines"} of published tables`)),
    make("p", { class: "muted" }, "Figures as printed. They were not measured here, and are never ranked or subtracted."),
    value.map((one) => make("section", {}, make("h3", {}, one.title),
      make("p", { class: "muted" }, one.reference, one.address ? `; ${one.address}` : ""),
      table(one),
      make("ul", { class: "notes" }, one.second_hand ? make("li", {}, `Second-hand: ${one.second_hand}`) : null,
        (one.differs ?? []).map((sentence) => make("li", {}, `Differs: ${sentence}`)))))));
}

function build() {
  const board = document.getElementById("board");
  document.getElementById("about").textContent = `usbench ${data.usbench}; `
    + `${data.tables.length} ${data.tables.length === 1 ? "table" : "tables"}. Rows of different tables cannot be compared.`;
  const parts = [
    ...data.tables.map(buildSection),
    learning(),
    ...(data.tracks ?? []).map(trackSection),
    extra("overall", "Across tasks", "Rows that are complete on every task of a group, ranked anew on each."),
    reported(),
    extra("claims", "Reported, not verified", "Submissions whose masks nobody has scored anew here. They are never ranked."),
    data.problems.length ? make("section", { id: "left-out" }, make("h2", {}, `Left out (${data.problems.length})`),
      make("ul", { class: "notes" }, data.problems.map((one) => make("li", {}, make("span", { class: "code" }, one.path),
        `: ${one.reason}`)))) : null,
  ].filter(Boolean);
  board.append(buildFilters(), ...parts);
  applyFilters();
  followLink();
}

build();
