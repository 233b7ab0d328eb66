// Files that the page itself writes: tables as CSV, charts as SVG and PNG. No server takes part.
"use strict";

function saveBlob(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const saveText = (text, name, type) => saveBlob(new Blob([text], { type: `${type};charset=utf-8` }), name);

// A cell of CSV (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe before it.
function csvCell(value) {
  if (missing(value)) return "";
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

// The rows and columns of a table that are shown, numbers unrounded. A column may stand for several in a file.
function csvOf(grid) {
  const columns = grid.columns.filter((column) => column.head || !hiddenColumns.has(column.name))
    .flatMap((column) => column.files ?? [{ name: column.name, value: (row) => textOf(column, row) }]);
  const lines = [columns.map((column) => csvCell(column.name)),
    ...grid.shown.map((row) => columns.map((column) => csvCell(column.value(row))))];
  return lines.map((line) => `${line.join(",")}\r\n`).join("");
}

const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-family", "font-weight",
  "visibility"];

// A copy of a chart that needs no style sheet: what the page's style says stands in the elements themselves.
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const [from, to] = [svg, copy].map((one) => [one, ...one.querySelectorAll("*")]);
  from.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const name of DRAWN) to[i].setAttribute(name, style.getPropertyValue(name));
    to[i].removeAttribute("style");
    to[i].removeAttribute("class");
    to[i].removeAttribute("tabindex");
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.prepend(draw("rect", { width: "100%", height: "100%", fill: getComputedStyle(document.body).backgroundColor }));
  return new XMLSerializer().serializeToString(copy);
}

function savePng(svg, name) {
  const [width, height] = ["width", "height"].map((side) => Number(svg.getAttribute(side)));
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = make("canvas", { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    canvas.toBlob((blob) => saveBlob(blob, name), "image/png");
  });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(svg))}`;
}

// The two buttons below a chart. `box` holds the chart as it is drawn at that moment.
function chartButtons(box, title) {
  const button = (kind, act) => {
    const one = make("button", { type: "button", "aria-label": `Save ${kind}: ${title}` }, `Save ${kind}`);
    one.addEventListener("click", () => {
      const svg = box.querySelector("svg[role=img]");
      if (svg) act(svg);
    });
    return one;
  };
  return make("p", { class: "tools" },
    button("SVG", (svg) => saveText(standalone(svg), `${slug(title)}.svg`, "image/svg+xml")),
    button("PNG", (svg) => savePng(svg, `${slug(title)}.png`)));
}
