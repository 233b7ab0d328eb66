// The training curves of a run.
"use strict";

const rows = JSON.parse(document.getElementById("data").textContent).history;
const place = document.getElementById("history");

// One plot over the epochs, the vertical axis from 0. names: the columns to draw, each with its style.
function curves(names, title, height) {
  return plot((width) => {
    const [left, right, top] = [52, 14, 8];
    const bottom = height - 38;
    const last = rows.length - 1;
    const highest = Math.max(...rows.flatMap((row) => names.map(([name]) => row[name] ?? 0)), 1e-12) * 1.04;
    const across = (i) => (last ? left + (i / last) * (width - left - right) : (left + width - right) / 2);
    const up = (value) => bottom - (value / highest) * (bottom - top);
    const svg = canvas(width, height, `${title} by epoch`);
    for (const [value, text] of ticks(0, highest, height > 150 ? 6 : 3)) {
      svg.append(
        draw("line", { x1: left, x2: width - right, y1: up(value), y2: up(value), class: "grid" }),
        draw("text", { x: left - 6, y: up(value) + 4, "text-anchor": "end" }, text),
      );
    }
    const every = Math.max(1, Math.ceil(rows.length / (width < 420 ? 6 : 12)));
    rows.forEach((row, i) => {
      if (i % every === 0) {
        svg.append(draw("text", { x: across(i), y: bottom + 16, "text-anchor": "middle" }, String(row.epoch)));
      }
    });
    for (const [name, , style] of names) {
      // A value that is not finite breaks the line.
      let path = "";
      let drawing = false;
      rows.forEach((row, i) => {
        if (missing(row[name])) drawing = false;
        else {
          path += `${drawing ? "L" : "M"}${across(i)} ${up(row[name])}`;
          drawing = true;
        }
      });
      svg.append(draw("path", { d: path, class: `curve ${style}` }));
    }
    const marks = rows.map((row, i) => {
      const known = names.filter(([name]) => !missing(row[name]));
      const node = draw("g", { class: "epoch" }, draw("line", { x1: across(i), x2: across(i), y1: top, y2: bottom }),
        known.map(([name]) => draw("circle", { cx: across(i), cy: up(row[name]), r: 3 })));
      svg.append(node);
      const said = names.map(([name, label]) => `${label} ${missing(row[name]) ? DASH : Number(row[name].toPrecision(4))}`);
      return { node, x: across(i), y: null, text: `epoch ${row.epoch}: ${said.join(", ")}` };
    });
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "epoch"));
    return [svg, explore(svg, marks, "Point at an epoch, or use the arrow keys.")];
  });
}

if (place) {
  const losses = Object.keys(rows[0]).filter((name) => name === "loss" || name.endsWith("_loss"));
  let used = 0;
  const names = losses.map((name) => {
    if (name === "loss") return [name, "total", "total"];
    used += 1;
    return [name, name.replace(/_loss$/, "").replaceAll("_", " "), `c${((used - 1) % 3) + 1}`];
  });
  const sample = (style) => draw("svg", { width: 26, height: 10, "aria-hidden": "true" },
    draw("path", { d: "M1 5h24", class: `curve ${style}` }));
  place.append(
    make("h3", {}, "Training loss"),
    make("p", { class: "legend" }, names.map(([, label, style]) => make("span", {}, sample(style), label))),
    curves(names, "training loss", 260),
  );
  if ("lr" in rows[0]) {
    const rate = curves([["lr", "learning rate", "total"]], "learning rate", 140);
    place.append(make("h3", {}, "Learning rate"), rate);
  }
  fitPlots();
}
