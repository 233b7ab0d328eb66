// DSC against what a row costs, with the rows that none is better and cheaper than.
"use strict";

// The ranked rows of the Pareto front by rising cost: no other ranked row has at most their cost and at least their DSC, and
// is better in one of them. Rows that are not ranked have other patients behind their mean, and have no part in it.
function paretoFront(points) {
  const sorted = points.filter((point) => point.ranked).sort((a, b) => a.x - b.x || b.y - a.y);
  const front = [];
  for (const point of sorted) {
    const last = front.at(-1);
    if (!last || point.y > last.y || (point.y === last.y && point.x === last.x)) front.push(point);
  }
  return front;
}

function shortNumber(value) {
  if (value >= 1e6) return `${value / 1e6}M`;
  if (value >= 1e3) return `${value / 1e3}k`;
  return String(Number(value.toPrecision(3)));
}

// points: [{name, kind, x, y, low, high}], all x above 0; cost: one of COSTS.
function costPlot(points, cost) {
  return plot((width) => {
    const [left, right, top, height] = [44, 14, 10, 300];
    const bottom = height - 40;
    const logs = points.map((point) => Math.log10(point.x));
    const [x0, x1] = [Math.min(...logs) - 0.08, Math.max(...logs) + 0.08];
    const [y0, y1] = dscRange(points.map((point) => ({ dsc: point.y, low: point.low, high: point.high })));
    const across = (x) => left + ((Math.log10(x) - x0) / (x1 - x0)) * (width - left - right);
    const up = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - top);
    const svg = canvas(width, height, `DSC against ${cost.name}`);
    dscAxis(svg, y0, y1, up, left, width - right);
    const steps = x1 - x0 > (width < 420 ? 1.2 : 2.5) ? [1] : [1, 2, 5];
    for (let power = Math.floor(x0); power <= x1; power += 1) {
      for (const step of steps) {
        const value = step * 10 ** power;
        if (Math.log10(value) < x0 || Math.log10(value) > x1) continue;
        svg.append(
          draw("line", { x1: across(value), x2: across(value), y1: top, y2: bottom, class: "grid" }),
          draw("text", { x: across(value), y: bottom + 16, "text-anchor": "middle" }, shortNumber(value)),
        );
      }
    }
    const front = paretoFront(points);
    const path = front.map((point, i) => (i ? `H${across(point.x)}V${up(point.y)}` : `M${across(point.x)} ${up(point.y)}`));
    if (front.length) svg.append(draw("path", { d: `${path.join("")}H${width - right}`, class: "front" }));
    const marks = [...points].sort((a, b) => a.x - b.x).map((point) => {
      const [x, y] = [across(point.x), up(point.y)];
      if (!missing(point.low)) {
        svg.append(draw("line", { x1: x, x2: x, y1: up(point.low), y2: up(point.high), class: "whisker" }));
      }
      const node = symbol(point.kind, x, y, 5);
      svg.append(node);
      const interval = missing(point.low) ? "" : ` [${number(point.low)}, ${number(point.high)}]`;
      const best = front.includes(point) ? "; on the Pareto front" : "";
      return { node, x, y, text: `${point.name}: DSC ${number(point.y)}${interval}, ${cost.show(point.x)} ${cost.name}${best}` };
    });
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" },
      `${cost.name} (log scale)`));
    return [svg, explore(svg, marks, "DSC (vertical) with its interval; the dashed line is the Pareto front. Point at a mark, "
      + "or use the arrow keys.")];
  });
}

const chartNear = drawnNear(10); // charts

// The chart of a table with the choice of what is across. `redraw(rows)` draws the rows that the filters leave.
function costChart(table) {
  const known = COSTS.filter(({ key }) => table.rows.some((row) => costOf(row, key) > 0 && !missing(row.dsc)));
  const box = make("div", {});
  const front = make("p", { class: "muted front-names" });
  let shown = table.rows;
  const select = make("select", { class: "axis" }, known.map(({ key, name }) => make("option", { value: key }, name)));
  const heading = make("h3", {}, `DSC against ${known[0]?.name ?? "cost"}`);
  let waiting = true;
  const redraw = (rows) => {
    shown = rows;
    if (waiting) return;
    const cost = known.find(({ key }) => key === select.value);
    const points = cost ? rows.filter((row) => !missing(row.dsc) && costOf(row, cost.key) > 0).map((row) => ({
      name: full(row), kind: row.fusion, x: costOf(row, cost.key), y: row.dsc, low: row.dsc_low, high: row.dsc_high,
      ranked: !missing(row.rank) })) : [];
    if (cost) heading.textContent = `DSC against ${cost.name}`;
    box.replaceChildren(points.length ? costPlot(points, cost)
      : make("p", { class: "muted" }, "No row with a score and this cost is shown."));
    const names = paretoFront(points).map((point) => point.name);
    front.textContent = names.length ? `Pareto front, no shown ranked row has more DSC for less: ${names.join("; ")}.` : "";
    fitPlots();
  };
  select.addEventListener("change", () => redraw(shown));
  const section = make("section", { class: "cost" }, heading,
    known.length ? make("p", {}, make("label", {}, "against ", select)) : null, legendOf(table), box, front,
    chartButtons(box, `DSC against cost, ${table.title}`));
  chartNear(section, () => { waiting = false; redraw(shown); });
  return { section, redraw };
}
