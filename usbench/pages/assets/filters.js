// What narrows the page: task, fusion, kind of data, part of a name; and limits of cost.
"use strict";

const filters = { task: "", fusion: "", data: "", text: "" };

// Whether something passes the filters. about: {name, fusion, task, data}; what it does not state is not filtered.
function matches(about) {
  const fits = (key) => !filters[key] || about[key] === undefined || [about[key]].flat().includes(filters[key]);
  return ["task", "fusion", "data"].every(fits)
    && (about.name === undefined || about.name.toLowerCase().includes(filters.text.toLowerCase()));
}

function clearFilters() {
  for (const key of Object.keys(filters)) filters[key] = "";
  document.querySelectorAll("form.filters select, #filter-text").forEach((one) => { one.value = ""; });
  applyFilters();
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
  const form = make("form", { class: "filters", role: "search" },
    choice("task", "task", values(everyTable.map((table) => table.task))),
    choice("fusion", "fusion", values(everyTable.flatMap((table) => table.rows.map((row) => row.fusion)))),
    choice("data", "kind of data", values(everyTable.map((table) => table.data))),
    make("label", {}, "method", text), limitFields(), columnChoice(),
    make("span", { id: "shown", class: "muted", role: "status" }));
  form.addEventListener("submit", (event) => event.preventDefault());
  return form;
}

// Costs of a row: what the chart can have across, and what can be limited. `unit` is the size of a step of the field.
const COSTS = [
  { key: "parameters", name: "parameters", field: "parameters (M)", unit: 1e6, show: count },
  { key: "gflops", name: "GFLOPs", field: "GFLOPs", unit: 1, show: (value) => number(value, 2) },
  { key: "ms_per_slice", name: "ms/slice", field: "ms/slice", unit: 1, show: (value) => number(value, 1) },
  { key: "memory_mb", name: "memory MB", field: "memory MB", unit: 1, show: (value) => number(value, 0) },
  { key: "train_seconds", name: "training s", field: "training s", unit: 1, show: (value) => number(value, 0) },
];

// A cost that a submission only claims is shown, and takes part in no comparison.
const costOf = (row, key) => ((row.claimed ?? "").split(" ").includes(key) ? null : row[key]);

const limits = {};

function limitFields() {
  const fields = COSTS.map(({ key, field, unit }) => {
    const input = make("input", { type: "number", min: "0", step: "any", id: `limit-${key}`, inputmode: "decimal" });
    input.addEventListener("input", () => {
      if (input.value === "" || !(Number(input.value) >= 0)) delete limits[key];
      else limits[key] = Number(input.value) * unit;
      applyLimits();
    });
    return make("label", {}, field, input);
  });
  return make("details", { class: "choose limits" }, make("summary", {}, "Best under limits"),
    make("fieldset", {}, make("legend", {}, "At most"), fields),
    make("p", { class: "muted" }, "Marks in each table the best ranked row that keeps to every limit. A row whose cost nobody "
      + "measured, or only its submitter claims, does not count."));
}

// The best ranked row of a table that keeps to all limits, undefined where none does.
function bestUnder(table) {
  const able = table.rows.filter((row) => !missing(row.rank)
    && Object.entries(limits).every(([key, most]) => !missing(costOf(row, key)) && costOf(row, key) <= most));
  return able.length ? able.reduce((best, row) => (row.rank < best.rank ? row : best)) : undefined;
}

function applyLimits() {
  const asked = Object.keys(limits).length > 0;
  for (const { table, grid, limited } of sections) {
    const best = asked ? bestUnder(table) : undefined;
    for (const [row, line] of grid.lines) line.classList.toggle("best-under", row === best);
    limited.hidden = !asked;
    limited.textContent = best ? `Best under the limits: ${full(best)}, rank ${best.rank}, DSC ${number(best.dsc)}.`
      : "No ranked row of this table keeps to the limits.";
    table.bestUnder = best;
  }
}
