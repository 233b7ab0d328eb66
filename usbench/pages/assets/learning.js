// Learning curves: what rows score with few training patients and with all of them.
"use strict";

const trainedOn = (point) => (point.least === point.most ? String(point.most) : `${point.least} to ${point.most}`);

// DSC against the number of patients trained on, a line a curve; lines of one fusion differ in their dashes.
function learningPlot(curves) {
  return plot((width) => {
    const [left, right, top, height] = [44, 20, 10, 300];
    const bottom = height - 40;
    const points = curves.flatMap((curve) => curve.points);
    const place = (point) => Math.log10((point.least + point.most) / 2);
    const [x0, x1] = [Math.min(...points.map(place)) - 0.05, Math.max(...points.map(place)) + 0.05];
    const [y0, y1] = dscRange(points);
    const across = (point) => left + ((place(point) - x0) / (x1 - x0)) * (width - left - right);
    const up = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - top);
    const svg = canvas(width, height, "DSC against the number of patients trained on");
    dscAxis(svg, y0, y1, up, left, width - right);
    let last = -Infinity;
    for (const point of [...points].sort((a, b) => place(a) - place(b))) {
      const x = across(point);
      if (x - last < 32) continue;
      last = x;
      svg.append(draw("text", { x, y: bottom + 16, "text-anchor": "middle" }, String((point.least + point.most) / 2)));
    }
    const turns = {};
    const marks = curves.flatMap((curve) => {
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

const aboutCurve = (curve, group) => ({ name: `${curve.label}, ${curve.fusion}`, fusion: curve.fusion, task: group.task,
  data: group.data });

function learningTable(group) {
  const rows = group.curves.flatMap((curve) => curve.points.map((point) => ({ curve, point, label: curve.label, fusion: curve.fusion })));
  return makeGrid({
    title: group.title, rows, about: ({ curve }) => aboutCurve(curve, group),
    columns: [
      methodColumn(),
      fusionColumn(),
      { name: "trained on", sort: "text", value: ({ point }) => point.trained_on, show: ({ point }) => point.trained_on },
      { name: "patients", sort: "down", value: ({ point }) => point.least + point.most, text: ({ point }) => trainedOn(point),
        show: ({ point }) => trainedOn(point) },
      { name: "DSC", sort: "down", value: ({ point }) => point.dsc, show: ({ point }) => number(point.dsc) },
      { name: "95% interval", value: ({ point }) => point.low, text: ({ point }) => (missing(point.low) ? null
        : `[${number(point.low)}, ${number(point.high)}]`), show: ({ point }) => (missing(point.low) ? DASH
        : `[${number(point.low)}, ${number(point.high)}]`) },
      { name: "test cases", sort: "down", value: ({ point }) => point.cases, show: ({ point }) => point.cases },
      { name: "folds", sort: "text", value: ({ point }) => `${point.folds_done}/${point.folds}`,
        show: ({ point }) => `${point.folds_done}/${point.folds}` },
    ],
  });
}

function learning() {
  const groups = data.curves ?? [];
  if (!groups.length) return null;
  const parts = groups.map((group) => {
    const box = make("div", {});
    const grid = learningTable(group);
    const section = make("section", {}, make("h3", {}, group.title), box, chartButtons(box, `learning curves, ${group.title}`), grid.box);
    const redraw = () => {
      const curves = group.curves.filter((curve) => matches(aboutCurve(curve, group)));
      section.hidden = !curves.length;
      box.replaceChildren(...(curves.length ? [learningPlot(curves)] : []));
    };
    redraws.push(redraw);
    return section;
  });
  return make("section", { id: "learning" }, make("h2", {}, "Learning curves"),
    make("p", { class: "muted" }, "Rows of tables that differ in the part of the training patients alone. Smaller sets lie "
      + "within larger ones of the same seed. Test patients, settings and epochs are the same, so a network takes fewer "
      + "steps with fewer patients."), parts);
}
