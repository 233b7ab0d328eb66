// The leaderboard, built from the data in the page.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

const score = (key, name, first, digits, hint) => ({
  name, hint, sort: first, value: (row) => row[key], show: (row) => number(row[key], digits),
});

// The columns of a table. One whose rows all lack its value is not shown.
const COLUMNS = [
  { name: "rank", sort: "up", value: (row) => row.rank, show: (row) => row.rank ?? DASH },
  { name: "method", sort: "text", head: true, value: (row) => row.label, show: methodCell },
  { name: "fusion", sort: "text", wide: true, value: (row) => row.fusion, show: (row) => row.fusion },
  { name: "DSC", sort: "down", hint: "mean over patients, with its 95% interval", value: (row) => row.dsc, show: dscCell },
  {
    name: "rank 95%", sort: "up", hint: "interval of the rank over resampled patients",
    value: (row) => row.rank_median,
    show: (row) => (missing(row.rank_low) ? DASH : `${row.rank_low} to ${row.rank_high}`),
  },
  {
    name: "tier", sort: "up", hint: "tied: not told apart from the leader by the test below the table",
    value: (row) => row.tier, show: (row) => (missing(row.tier) ? DASH : row.tier === 1 ? tied(row) : "below"),
  },
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

function tied() {
  return make("span", { class: "tie" }, "tied");
}

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

const classOf = (column) => (column.wide ? "wide" : column.sort === "text" ? null : "number");

function buildTable(table, onSelect) {
  const columns = COLUMNS.filter((column) => table.rows.some((row) => !missing(column.value(row))));
  const heads = columns.map((column) => make("th", {
    scope: "col", "data-sort": column.sort, title: column.hint, class: classOf(column),
    "aria-sort": column.name === "rank" ? "ascending" : null,
  }, column.name));
  const grid = make("table", { class: "board" },
    make("caption", { class: "hidden" }, table.title),
    make("thead", {}, make("tr", {},
      make("th", { scope: "col", class: "pick" }, make("span", { class: "hidden" }, "select")), heads)),
    make("tbody", {}));
  for (const row of table.rows) {
    const box = make("input", { type: "checkbox", "aria-label": `select ${full(row)}` });
    const cells = columns.map((column) => make(column.head ? "th" : "td", {
      scope: column.head ? "row" : null, class: classOf(column),
      "data-value": column.value(row) ?? "",
    }, column.show(row, table)));
    const line = make("tr", { class: `${row.fusion === "" ? "" : row.tier === 1 ? "first" : ""}` },
      make("td", { class: "pick" }, box), cells);
    row.line = line;
    row.box = box;
    box.addEventListener("change", () => onSelect(row, box.checked));
    line.addEventListener("click", (event) => {
      if (event.target !== box) box.click();
    });
    grid.tBodies[0].append(line);
  }
  sortable(grid);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.title }, grid);
}

function effects(table, of = "DSC") {
  const list = table.fusion_effects ?? [];
  if (!list.length) return null;
  const reach = Math.max(0.01, ...list.flatMap((one) => [one.low, one.high, one.difference]
    .filter((v) => !missing(v)).map(Math.abs)));
  const names = [["method", "text"], ["fusion", "text"], ["against", "text"], [`difference of ${of}`, "down"],
    ["n", "down"], ["p", "up"]];
  const grid = make("table", { class: "sortable" },
    make("caption", { class: "hidden" }, "effect of fusion within a method"),
    make("thead", {}, make("tr", {}, names.map(([name, sort]) => make("th", { scope: "col", "data-sort": sort,
      class: sort === "text" ? null : "number" }, name)))),
    make("tbody", {}, list.map((one) => make("tr", {},
      make("th", { scope: "row" }, one.method), make("td", {}, one.a), make("td", {}, one.b),
      make("td", { class: "number", "data-value": one.difference ?? "" }, make("span", { class: "dsc" },
        make("b", {}, signed(one.difference)), bar(one.difference, one.low, one.high, [-reach, reach]),
        make("span", { class: "muted" }, missing(one.low) ? "" : `[${signed(one.low)}, ${signed(one.high)}]`))),
      make("td", { class: "number", "data-value": one.n ?? "" }, one.n ?? DASH),
      make("td", { class: "number", "data-value": one.p ?? "" }, pValue(one.p))))));
  sortable(grid);
  return make("section", {}, make("h3", {}, "Effect of fusion"), make("div", { class: "scroll" }, grid));
}

const sentence = (text) => `${String(text).replace(/\.$/, "")}.`;

function statistics(table) {
  const lines = ["DSC: mean over patients, classes averaged first; interval: 95% percentile bootstrap over patients."];
  const tests = table.tests;
  if (tests?.leader) {
    lines.push(sentence(`Leader: ${words(tests.leader)}`));
    if (tests.test) lines.push(sentence(`Test against the leader: ${words(tests.test)}`));
    if (tests.correction) lines.push(sentence(`p is corrected: ${words(tests.correction)}`));
    lines.push("Tied: not told apart from the leader by that test.");
    if (tests.note) lines.push(sentence(words(tests.note)));
  }
  if (!missing(table.split_half_tau)) {
    lines.push(`Split-half agreement of the ranking (Kendall's tau): ${number(table.split_half_tau, 2)}.`);
  }
  if (table.rows.some((row) => row.verified)) {
    lines.push("Verified: a submission whose masks were all scored anew on that day; its costs are the submitters' own account.");
  }
  const unranked = table.rows.filter((row) => row.status).length;
  if (unranked) lines.push(`Not ranked: ${unranked} of ${table.rows.length} rows; each says why under its name.`);
  return make("ul", { class: "notes" }, lines.map((line) => make("li", {}, line)));
}

const words = (value) => (typeof value === "object" ? Object.values(value).map(String).join(", ") : String(value));

function pictures(table) {
  const found = table.pictures;
  if (!found) return null;
  const legend = found.classes.length ? make("p", { class: "legend" }, found.classes.map((one) => {
    const sample = draw("svg", { width: 14, height: 14, "aria-hidden": "true" },
      draw("rect", { x: 1, y: 1, width: 12, height: 12, fill: one.colour }));
    return make("span", {}, sample, one.name);
  })) : null;
  const cases = found.cases.map((one) => make("section", {},
    make("h4", {}, one.title), make("p", { class: "muted" }, one.note),
    one.panels.length ? make("div", { class: "strip", tabindex: "0", role: "region", "aria-label": one.title },
      one.panels.map((panel) => {
        panel.image = make("img", { src: panel.src, width: panel.width, height: panel.height, alt: panel.text, decoding: "async" });
        panel.caption = make("figcaption", {}, panel.title);
        return make("figure", {}, panel.image, panel.caption);
      })) : null));
  return make("section", {}, make("h3", {}, "Pictures of cases"), make("p", { class: "muted" }, found.note), legend,
    missingChoice(found.cases), cases);
}

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
function records(list, name) {
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
  const grid = make("table", { class: "records" }, make("caption", { class: "hidden" }, name),
    make("thead", {}, make("tr", {}, columns.map(({ key, numeric }) => make("th", {
      scope: "col", "data-sort": numeric ? "down" : "text", class: numeric ? "number" : null,
    }, title(key))))),
    make("tbody", {}, lines.map((line) => make("tr", {}, columns.map(({ key, numeric, digits }) => {
      const text = numeric ? number(line[key], digits) : plain(line[key]);
      return make("td", {
        class: numeric ? "number" : text.length > 60 ? "long" : null,
        "data-value": missing(line[key]) ? "" : numeric ? line[key] : null,
      }, text);
    })))));
  sortable(grid);
  return [
    shared.length ? make("p", { class: "muted" }, shared.map((key) => `${title(key)}: ${lines[0][key]}`).join("; ")) : null,
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, grid),
  ];
}

// Records that hold records of their own: a heading, what is common, and a table each.
function group(record) {
  const inner = Object.entries(record).filter(([, value]) => isRecords(value));
  const rest = Object.entries(record).filter(([key, value]) => !isRecords(value) && key !== "title"
    && !(Array.isArray(value) && !value.length));
  const title = record.title ?? rest.filter(([, value]) => typeof value === "string").map(([, value]) => value).join(", ");
  return make("section", {}, make("h3", {}, title), inner.map(([key, value]) => records(value, `${title}: ${key}`)),
    make("dl", { class: "pairs" }, rest.map(([key, value]) => [make("dt", {}, key.replaceAll("_", " ")),
      make("dd", {}, plain(isRecord(value) ? Object.entries(value).map((one) => one.join("=")) : value))])));
}

const filters = { task: "", fusion: "", data: "", text: "" };
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
      row.box.checked = selected.includes(row);
      row.line.classList.toggle("selected", row.box.checked);
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
  const cost = make("div", {});
  const section = make("section", { class: "table", id: `table-${index + 1}` },
    make("h2", {}, table.title),
    make("p", { class: "muted" }, `Modalities ${table.modalities.join(", ")}; classes ${table.classes.join(", ")}; `
      + `${table.cases} cases, ${table.folds} folds (${table.split}); data ${table.fingerprint.slice(0, 10)}, `
      + `protocol ${table.protocol}.`),
    make("p", { class: "muted" }, `Select one row for its patients and runs, two rows to compare them. Bars span DSC `
      + `${number(table.domain[0], 1)} to ${number(table.domain[1], 1)}.`),
    buildTable(table, onSelect), dock, statistics(table), detail,
    make("section", {}, make("h3", {}, "DSC against parameters"), legendOf(table), cost),
    effects(table), pictures(table));
  sections.push({ table, section, cost });
  return section;
}

function legendOf(table) {
  return make("p", { class: "legend" }, [...new Set(table.rows.map((row) => row.fusion))].sort().map((kind) =>
    make("span", {}, draw("svg", { width: 14, height: 14, "aria-hidden": "true" }, symbol(kind, 7, 7, 5)), data.fusions?.[kind]?.label ?? kind)));
}

function applyFilters() {
  let seen = 0;
  for (const { table, section, cost } of sections) {
    const fits = (!filters.task || table.task === filters.task) && (!filters.data || table.data === filters.data);
    const left = [];
    for (const row of table.rows) {
      const shown = fits && (!filters.fusion || row.fusion === filters.fusion)
        && full(row).toLowerCase().includes(filters.text.toLowerCase());
      row.line.hidden = !shown;
      if (shown) left.push(row);
    }
    section.hidden = !left.length;
    seen += left.length;
    const drawn = left.filter((row) => !missing(row.dsc) && row.parameters > 0);
    cost.replaceChildren(drawn.length ? costPlot(drawn.map((row) => ({
      name: full(row), kind: row.fusion, x: row.parameters, y: row.dsc, low: row.dsc_low, high: row.dsc_high,
    }))) : make("p", { class: "muted" }, "No row with a score and parameters is shown."));
  }
  filterTracks();
  const all = data.tables.reduce((sum, table) => sum + table.rows.length, 0);
  document.getElementById("shown").textContent = `${seen} of ${all} rows shown`;
  fitPlots();
}

function buildFilters() {
  const everyTable = [...data.tables, ...(data.tracks ?? [])];
  const values = (list) => [...new Set(list)].sort();
  const choice = (key, name, all) => {
    const select = make("select", { id: `filter-${key}` }, make("option", { value: "" }, "all"),
      all.map((value) => make("option", { value }, value)));
    select.addEventListener("change", () => { filters[key] = select.value; applyFilters(); });
    return make("label", {}, name, select);
  };
  const text = make("input", { id: "filter-text", type: "search", placeholder: "part of a name", autocomplete: "off" });
  text.addEventListener("input", () => { filters.text = text.value.trim(); applyFilters(); });
  return make("form", { class: "filters", role: "search" },
    choice("task", "task", values(everyTable.map((table) => table.task))),
    choice("fusion", "fusion", values(everyTable.flatMap((table) => table.rows.map((row) => row.fusion)))),
    choice("data", "kind of data", values(everyTable.map((table) => table.data))),
    make("label", {}, "method", text),
    make("span", { id: "shown", class: "muted", role: "status" }));
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
  return make("section", { id: "reported" }, make("details", {},
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
  const form = buildFilters();
  form.addEventListener("submit", (event) => event.preventDefault());
  board.append(form, ...[
    ...data.tables.map(buildSection),
    learning(),
    ...(data.tracks ?? []).map(trackSection),
    extra("overall", "Across tasks", "Rows that are complete on every task of a group, ranked anew on each."),
    reported(),
    extra("claims", "Reported, not verified", "Submissions whose masks nobody has scored anew here. They are never ranked."),
    data.problems.length ? make("section", { id: "left-out" }, make("h2", {}, `Left out (${data.problems.length})`),
      make("ul", { class: "notes" }, data.problems.map((one) => make("li", {}, make("span", { class: "code" }, one.path),
        `: ${one.reason}`)))) : null,
  ].filter(Boolean));
  applyFilters();
}

build();
