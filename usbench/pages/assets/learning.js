// Learning curves: what rows score with few training patients and with all of them.
"use strict";

const trainedOn = (point) => (point.least === point.most ? String(point.most) : `${point.least} to ${point.most}`);

// DSC against the number of patients trained on, a line a curve; lines of one fusion differ in their dashes.
function learningPlot(group) {
  return plot((width) => {
    const [left, right, top, height] = [44, 20, 10, 300];
    const bottom = height - 40;
    const points = group.curves.flatMap((curve) => curve.points);
    const place = (point) => Math.log10((point.least + point.most) / 2);
    const [x0, x1] = [Math.min(...points.map(place)) - 0.05, Math.max(...points.map(place)) + 0.05];
    const lows = points.map((point) => point.low ?? point.dsc);
    const highs = points.map((point) => point.high ?? point.dsc);
    const pad = Math.max(0.01, 0.05 * (Math.max(...highs) - Math.min(...lows)));
    const [y0, y1] = [Math.max(0, Math.min(...lows) - pad), Math.min(1, Math.max(...highs) + pad)];
    const across = (point) => left + ((place(point) - x0) / (x1 - x0)) * (width - left - right);
    const up = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - top);
    const svg = draw("svg", { width, height, role: "img", "aria-label": "DSC against the number of patients trained on" });
    for (const [value, text] of ticks(y0, y1, 6)) {
      svg.append(
        draw("line", { x1: left, x2: width - right, y1: up(value), y2: up(value), class: "grid" }),
        draw("text", { x: left - 6, y: up(value) + 4, "text-anchor": "end" }, text),
      );
    }
    let last = -Infinity;
    for (const point of [...points].sort((a, b) => place(a) - place(b))) {
      const x = across(point);
      if (x - last < 32) continue;
      last = x;
      svg.append(draw("text", { x, y: bottom + 16, "text-anchor": "middle" }, String((point.least + point.most) / 2)));
    }
    const turns = {};
    const marks = group.curves.flatMap((curve) => {
      const look = data.fusions?.[curve.fusion];
      const turn = turns[curve.fusion] = (turns[curve.fusion] ?? -1) + 1;
      const path = curve.points.map((point, i) => `${i ? "L" : "M"}${across(point)} ${up(point.dsc)}`).join("");
      const line = draw("path", { d: path, class: "curve total", "stroke-dasharray": ["none", "7 4", "2 3", "8 3 2 3"][turn % 4] });
      if (look) line.style.stroke = `light-dark(${look.colour}, ${look.colour_on_dark})`;
      svg.append(line);
      return curve.points.map((point) => {
        const [x, y] = [across(point), up(point.dsc)];
        if (!missing(point.low)) {
          svg.append(draw("line", { x1: x, x2: x, y1: up(point.low), y2: up(point.high), class: "whisker" }));
        }
        const node = symbol(curve.fusion, x, y, 5);
        svg.append(node);
        const interval = missing(point.low) ? "" : ` [${number(point.low)}, ${number(point.high)}]`;
        const folds = point.folds_done === point.folds ? "" : `; ${point.folds_done} of ${point.folds} folds`;
        return { node, x, y, text: `${curve.label}, ${curve.fusion}, trained on ${trainedOn(point)} patients (${
          point.trained_on}): DSC ${number(point.dsc)}${interval}${folds}` };
      });
    });
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" },
      "patients trained on (log scale)"));
    return [svg, explore(svg, marks, "DSC (vertical) with its interval. Point at a mark, or use the arrow keys.")];
  });
}

function learningTable(group) {
  const names = [["method", "text"], ["fusion", "text"], ["trained on", "text"], ["patients", "down"], ["DSC", "down"],
    ["95% interval", null], ["test cases", "down"], ["folds", "text"]];
  const grid = make("table", { class: "records" }, make("caption", { class: "hidden" }, group.title),
    make("thead", {}, make("tr", {}, names.map(([name, sort]) => make("th", {
      scope: "col", "data-sort": sort, class: sort === "down" ? "number" : null }, name)))),
    make("tbody", {}, group.curves.flatMap((curve) => curve.points.map((point) => make("tr", {},
      make("th", { scope: "row" }, curve.label), make("td", {}, curve.fusion), make("td", {}, point.trained_on),
      make("td", { class: "number", "data-value": point.least + point.most }, trainedOn(point)),
      make("td", { class: "number", "data-value": point.dsc }, number(point.dsc)),
      make("td", {}, missing(point.low) ? DASH : `[${number(point.low)}, ${number(point.high)}]`),
      make("td", { class: "number" }, point.cases), make("td", {}, `${point.folds_done}/${point.folds}`))))));
  sortable(grid);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": group.title }, grid);
}

function learning() {
  const groups = data.curves ?? [];
  if (!groups.length) return null;
  return make("section", { id: "learning" }, make("h2", {}, "Learning curves"),
    make("p", { class: "muted" }, "Rows of tables that differ in the part of the training patients alone. Smaller sets lie "
      + "within larger ones of the same seed. Test patients, settings and epochs are the same, so a network takes fewer "
      + "steps with fewer patients."),
    groups.map((group) => make("section", {}, make("h3", {}, group.title), learningPlot(group), learningTable(group))));
}
