// What every page uses: elements, numbers, the theme, tables that sort. Text of others only ever becomes text nodes.
"use strict";

function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const DASH = "\u2013";
const missing = (value) => value === null || value === undefined || value === "";

function number(value, digits = 3) {
  return missing(value) ? DASH : Number(value).toFixed(digits);
}

function signed(value, digits = 3) {
  if (missing(value)) return DASH;
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? "\u2212" : "+") + text;
}

function count(value) {
  if (missing(value)) return DASH;
  return value >= 10000 ? `${(value / 1e6).toFixed(2)}M` : String(value);
}

function pValue(value) {
  if (missing(value)) return DASH;
  return value < 0.001 ? "<0.001" : Number(value).toFixed(3);
}

// The order of two values; what is missing stays last either way.
function compareValues(a, b, kind, sign) {
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return kind === "text" ? sign * String(a).localeCompare(String(b), "en", { numeric: true }) : sign * (a - b);
}

// Heads with data-sort ("up" or "down": numbers, and which way first; "text") become buttons, which tell `order` the
// column, its kind and 1 (rising) or -1.
function sortHeads(heads, order) {
  heads.forEach((head, column) => {
    const kind = head.dataset.sort;
    if (!kind) return;
    const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.replaceChildren(button);
    if (!head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = kind === "down" ? "descending" : "ascending";
      const next = now !== first ? first : first === "ascending" ? "descending" : "ascending";
      for (const one of heads) if (one.dataset.sort) one.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      order(column, kind, next === "ascending" ? 1 : -1);
    });
  });
}

// A table of the HTML itself: a cell sorts by its data-value, else by its text. Equal rows keep their order.
function sortable(table) {
  sortHeads([...table.tHead.rows[0].cells], (column, kind, sign) => {
    const keyed = [...table.tBodies[0].rows].map((row) => {
      const cell = row.cells[column];
      const text = cell.dataset.value ?? cell.textContent;
      return { row, value: text === "" ? null : kind === "text" ? text : Number(text) };
    });
    keyed.sort((a, b) => compareValues(a.value, b.value, kind, sign));
    table.tBodies[0].append(...keyed.map((one) => one.row));
  });
}

// The theme is the reader's system's until the button is used; the choice is remembered where that is allowed.
(function theme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => {
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  try {
    const kept = localStorage.getItem("usbench-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* storage is switched off: the choice lasts as long as the page */ }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("usbench-theme", root.dataset.theme);
    } catch { /* as above */ }
    show();
  });
  system.addEventListener("change", show);
  show();
})();

for (const table of document.querySelectorAll("table.sortable")) sortable(table);
