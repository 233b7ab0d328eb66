// One kind of table for every section: it sorts, hides rows and columns, shows more rows as they are scrolled to, has a
// link for each row, prints in blocks of columns, and is saved as CSV.
"use strict";

const grids = [];
const CHUNK = 60; // rows that are shown before one scrolls
const PRINTED = 7; // columns of a printed block beside rank, method and fusion

// Of a page of many tables only the first are drawn at once; the others when they come near the window. `eager` says how
// many more may be drawn at once.
function drawnNear(eager) {
  const acts = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      acts.get(target)();
      acts.delete(target);
    }
  }, { rootMargin: "1500px" });
  let left = eager;
  return (node, act, size = 1) => {
    left -= size;
    if (left >= 0) return act();
    acts.set(node, act);
    return watcher.observe(node);
  };
}

const whenNear = drawnNear(1000); // rows

const classOf = (column) => [column.head ? "stick" : null, column.fusion ? "stick2" : null, column.wide ? "wide" : null,
  column.sort === "text" || !column.sort ? null : "number"].filter(Boolean).join(" ") || null;

// The text of a column in a file: of columns of numbers the number itself.
const textOf = (column, row) => (column.text ? column.text(row) : column.value(row));

function cellOf(column, row, table) {
  return make(column.head ? "th" : "td", { scope: column.head ? "row" : null, class: classOf(column),
    hidden: hiddenColumns.has(column.name) && !column.head }, column.show(row, table));
}

// options: title; columns [{name, sort, value(row), show(row, table), head, fusion, wide, hint, text, files}]; rows; table (handed
// to `show`); about(row), what the filters look at: {name, fusion, task, data}; lead(row), a cell before the first;
// idOf(row), for a link; onClick(row, event); classes(row).
function makeGrid(options) {
  const { title, rows, kind = "records", table = null } = options;
  const columns = options.columns.filter((column) => rows.some((row) => !missing(column.value(row))));
  const heads = columns.map((column) => make("th", {
    scope: "col", title: column.hint, class: classOf(column), "data-sort": column.sort,
    hidden: hiddenColumns.has(column.name) && !column.head,
    "aria-sort": column.name === "rank" ? "ascending" : null,
  }, column.name));
  const body = make("tbody");
  const more = make("button", { type: "button", hidden: true });
  const note = make("span", { class: "muted" });
  const save = make("button", { type: "button", "aria-label": `Save CSV: ${title}` }, "Save CSV");
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
    make("table", { class: kind }, make("caption", { class: "hidden" }, title),
      make("thead", {}, make("tr", {}, options.lead
        ? make("th", { scope: "col", class: "pick" }, make("span", { class: "hidden" }, "select")) : null, heads)), body));
  const printed = make("div", { class: "printed" });
  const grid = { ...options, columns, heads, body, scroll, printed, order: [...rows], shown: rows, count: CHUNK, lines: new Map(),
    box: make("div", { class: "grid" }, scroll, make("p", { class: "tools" }, more, note, save), printed) };
  grid.lineOf = (row) => {
    if (!grid.lines.has(row)) grid.lines.set(row, makeLine(grid, row, table));
    return grid.lines.get(row);
  };
  let waiting = true;
  grid.render = () => {
    if (waiting) return;
    body.replaceChildren(...grid.shown.slice(0, grid.count).map(grid.lineOf));
    const left = grid.shown.length - body.rows.length;
    more.hidden = left <= 0;
    more.textContent = `Show more rows (${left} left)`;
  };
  grid.apply = () => {
    grid.shown = grid.order.filter((row) => matches(options.about?.(row) ?? {}));
    const hidden = rows.length - grid.shown.length;
    note.textContent = hidden ? `${hidden} of ${rows.length} rows hidden by the filters` : "";
    grid.render();
  };
  grid.reveal = (row) => {
    waiting = false;
    grid.count = Math.max(grid.count, grid.shown.indexOf(row) + 1);
    grid.render();
    return grid.lineOf(row);
  };
  const extend = () => { grid.count += 4 * CHUNK; grid.render(); };
  more.addEventListener("click", extend);
  scroll.addEventListener("scroll", () => {
    if (!more.hidden && scroll.scrollTop + scroll.clientHeight > scroll.scrollHeight - 600) extend();
  });
  save.addEventListener("click", () => saveText(csvOf(grid), `${slug(title)}.csv`, "text/csv"));
  sortHeads(heads, (column, sort, sign) => {
    const keyed = grid.order.map((row) => ({ row, value: columns[column].value(row) ?? null }));
    keyed.sort((a, b) => compareValues(a.value, b.value, sort, sign));
    grid.order = keyed.map((one) => one.row);
    grid.apply();
  });
  grids.push(grid);
  whenNear(scroll, () => { waiting = false; grid.apply(); options.drawn?.(); }, Math.min(rows.length, CHUNK));
  return grid;
}

function makeLine(grid, row, table) {
  const line = make("tr", { id: grid.idOf?.(row), class: grid.classes?.(row) || null, tabindex: grid.idOf ? "-1" : null },
    grid.lead ? make("td", { class: "pick" }, grid.lead(row)) : null,
    grid.columns.map((column) => cellOf(column, row, table)));
  if (grid.idOf) {
    line.querySelector("th").append(" ", make("a", { class: "link", href: `#${grid.idOf(row)}`,
      "aria-label": `link to ${full(row)}` }, "link"));
  }
  if (grid.onClick) line.addEventListener("click", (event) => {
    if (!event.target.closest("a, input, button")) grid.onClick(row);
  });
  return line;
}

const slug = (text) => text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");

// Ids that stay the same when the page is made anew; of two rows that would share one, the second gets a number.
const takenIds = new Set();
function stableIds(rows, before) {
  const ids = new Map();
  for (const row of rows) {
    const id = ["row", ...before, row.label, row.fusion].map((part) => slug(String(part))).filter(Boolean).join("-");
    let unique = id;
    for (let n = 2; takenIds.has(unique); n += 1) unique = `${id}-${n}`;
    takenIds.add(unique);
    ids.set(row, unique);
  }
  return ids;
}

// Goes to the row that the address names. A filter that hides it gives way.
function followLink() {
  const wanted = decodeURIComponent(location.hash.slice(1));
  if (!wanted.startsWith("row-")) return;
  for (const grid of grids.filter((one) => one.idOf)) {
    const row = grid.rows.find((one) => grid.idOf(one) === wanted);
    if (!row) continue;
    if (!grid.shown.includes(row)) clearFilters();
    document.querySelectorAll("tr.linked").forEach((line) => line.classList.remove("linked"));
    const line = grid.reveal(row);
    line.classList.add("linked");
    line.scrollIntoView({ block: "center", inline: "start" });
    line.focus({ preventScroll: true });
    return;
  }
}
addEventListener("hashchange", followLink);

// Columns that the reader hid, by name, in all tables; remembered where that is allowed.
const hiddenColumns = new Set();
try {
  const kept = JSON.parse(localStorage.getItem("usbench-columns") ?? "[]");
  if (Array.isArray(kept)) kept.forEach((name) => hiddenColumns.add(String(name)));
} catch { /* storage is switched off or holds something else: every column is shown */ }

function applyColumns() {
  for (const grid of grids) {
    grid.columns.forEach((column, i) => {
      if (column.head) return;
      const hidden = hiddenColumns.has(column.name);
      grid.heads[i].hidden = hidden;
      for (const line of grid.lines.values()) line.cells[i + (grid.lead ? 1 : 0)].hidden = hidden;
    });
  }
  try {
    localStorage.setItem("usbench-columns", JSON.stringify([...hiddenColumns]));
  } catch { /* the choice lasts as long as the page */ }
}

// A disclosure with a checkbox for each name. `chosen` is asked and `choose` is told.
function checkboxes(title, names, chosen, choose) {
  const boxes = names.map((name) => {
    const box = make("input", { type: "checkbox" });
    box.checked = chosen(name);
    box.addEventListener("change", () => choose(name, box.checked));
    return { name, box };
  });
  const all = make("button", { type: "button" }, "All");
  all.addEventListener("click", () => {
    for (const { name, box } of boxes) if (!box.checked) { box.checked = true; choose(name, true); }
  });
  return make("details", { class: "choose" }, make("summary", {}, title),
    make("fieldset", {}, make("legend", { class: "hidden" }, title),
      boxes.map(({ name, box }) => make("label", {}, box, name)), all));
}

function columnChoice() {
  const names = [...new Set(grids.flatMap((grid) => grid.columns.filter((one) => !one.head).map((one) => one.name)))];
  return checkboxes("Columns", names, (name) => !hiddenColumns.has(name), (name, on) => {
    if (on) hiddenColumns.delete(name);
    else hiddenColumns.add(name);
    applyColumns();
  });
}

// On paper a table is as many blocks as its columns need, each with rank, method and fusion, and has all shown rows.
addEventListener("beforeprint", () => {
  for (const grid of grids) {
    const shown = grid.columns.filter((column) => column.head || !hiddenColumns.has(column.name));
    const first = shown.filter((column) => column.head || column.fusion || column.name === "rank");
    const rest = shown.filter((column) => !first.includes(column));
    const blocks = [];
    for (let i = 0; i < Math.max(1, rest.length); i += PRINTED) blocks.push([...first, ...rest.slice(i, i + PRINTED)]);
    grid.printed.replaceChildren(...blocks.map((columns) => make("table", {},
      make("thead", {}, make("tr", {}, columns.map((one) => make("th", { scope: "col", class: one.sort === "text" ? null : "number" },
        one.name)))),
      make("tbody", {}, grid.shown.map((row) => make("tr", { class: grid.classes?.(row) || null },
        columns.map((column) => make(column.head ? "th" : "td", { class: column.sort === "text" ? null : "number" },
          column.show(row, grid.table)))))))));
  }
  document.querySelectorAll("details#reported-lines").forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => grids.forEach((grid) => grid.printed.replaceChildren()));
