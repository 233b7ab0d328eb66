// Plots as inline SVG, drawn at the width they have.
"use strict";

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) {
    found.push([i * step, (i * step).toFixed(digits).replace("-", "\u2212")]);
  }
  return found;
}

const drawings = new Set();

// A box whose content is `paint(width)`, painted again when its width changes. Painting must not fail off screen.
function plot(paint) {
  const box = make("div", { class: "plot" });
  const one = { box, paint, width: 0 };
  drawings.add(one);
  repaint(one, true);
  return box;
}

function repaint(one, always) {
  const width = Math.max(260, Math.min(760, one.box.clientWidth || 640));
  if (!always && width === one.width) return;
  one.width = width;
  one.box.replaceChildren(...one.paint(width));
}

// Called once new boxes are on the page, and when the window changes.
function fitPlots() {
  for (const one of drawings) {
    if (one.box.isConnected) repaint(one, false);
    else drawings.delete(one);
  }
}
addEventListener("resize", fitPlots);

// Marks of a plot that can be read one by one: with the pointer the nearest one, with the arrow keys the next one.
// marks: [{node, x, y, text}] in reading order, y null where only x counts. The chosen one's text stands below.
function explore(svg, marks, hint) {
  const line = make("p", { class: "caption", "aria-live": "polite" }, hint);
  let current = -1;
  const choose = (index) => {
    if (index === current) return;
    if (current >= 0) marks[current].node.classList.remove("on");
    current = index;
    if (index >= 0) {
      marks[index].node.classList.add("on");
      line.textContent = marks[index].text;
    } else line.textContent = hint;
  };
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") choose(-1);
    if (!step || !marks.length) return;
    event.preventDefault();
    choose(current < 0 ? (step > 0 ? 0 : marks.length - 1) : (current + step + marks.length) % marks.length);
  });
  svg.addEventListener("focus", () => { if (current < 0 && marks.length) choose(0); });
  svg.addEventListener("blur", () => choose(-1));
  const nearest = (event) => {
    const place = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - place.left, event.clientY - place.top];
    let best = -1;
    let least = 40 * 40;
    marks.forEach((mark, i) => {
      const distance = (mark.x - x) ** 2 + (mark.y === null ? 0 : (mark.y - y) ** 2);
      if (distance < least) [best, least] = [i, distance];
    });
    choose(best);
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) choose(-1); });
  return line;
}

// A mark whose shape and colour are those of a fusion; of anything else the kind is a class of the style sheet.
function symbol(kind, x, y, size) {
  const look = data.fusions?.[kind];
  const node = {
    square: () => draw("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size }),
    triangle: () => draw("path", { d: `M${x} ${y - size * 1.2}l${size * 1.2} ${size * 2.1}h${-size * 2.4}z` }),
    diamond: () => draw("path", { d: `M${x} ${y - size * 1.4}l${size * 1.4} ${size * 1.4}l${-size * 1.4} ${size * 1.4}l${
      -size * 1.4} ${-size * 1.4}z` }),
    circle: () => draw("circle", { cx: x, cy: y, r: size }),
  }[look?.mark ?? "circle"]();
  node.setAttribute("class", look ? "mark" : `mark ${kind}`);
  if (look) node.style.fill = `light-dark(${look.colour}, ${look.colour_on_dark})`;
  return node;
}

// An empty chart that shrinks with its box and says what it is.
function canvas(width, height, name) {
  return draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
}

// The range of DSC that shows points {dsc, low, high} with some room.
function dscRange(points) {
  const lows = points.map((point) => point.low ?? point.dsc);
  const highs = points.map((point) => point.high ?? point.dsc);
  const pad = Math.max(0.01, 0.05 * (Math.max(...highs) - Math.min(...lows)));
  return [Math.max(0, Math.min(...lows) - pad), Math.min(1, Math.max(...highs) + pad)];
}

function dscAxis(svg, low, high, up, left, right) {
  for (const [value, text] of ticks(low, high, 6)) {
    svg.append(
      draw("line", { x1: left, x2: right, y1: up(value), y2: up(value), class: "grid" }),
      draw("text", { x: left - 6, y: up(value) + 4, "text-anchor": "end" }, text),
    );
  }
}

// Dots of one value each, on a shared axis, one band a group: dots that would overlap are moved up or down.
// bands: [{label, kind, points: [{value, text}], centre, low, high}].
function swarm({ bands, low, high, name, zero = false, axis, sides = null, hint }) {
  return plot((width) => {
    const [left, right, radius] = [20, 20, 4];
    const scale = (value) => left + ((value - low) / (high - low)) * (width - left - right);
    const inner = draw("g");
    const marks = [];
    let top = sides ? 22 : 4;
    if (sides) {
      inner.append(
        draw("text", { x: scale(0) - 8, y: 14, "text-anchor": "end" }, sides[0]),
        draw("text", { x: scale(0) + 8, y: 14 }, sides[1]),
      );
    }
    for (const band of bands) {
      if (band.label) {
        inner.append(draw("text", { x: left, y: top + 13, class: "strong" }, band.label));
        top += 18;
      }
      const placed = [];
      const points = [...band.points].sort((a, b) => a.value - b.value);
      for (const point of points) {
        const x = scale(point.value);
        const near = placed.filter((other) => x - other.x < 2 * radius);
        let level = 0;
        // 0, 1, -1, 2, -2, ...
        while (near.some((other) => (x - other.x) ** 2 + (2.1 * radius * (level - other.level)) ** 2
          < (2 * radius) ** 2)) level = level > 0 ? -level : 1 - level;
        placed.push({ x, level, point });
      }
      const levels = placed.map((one) => one.level);
      const above = Math.max(0, -Math.min(0, ...levels));
      const below = Math.max(0, ...levels);
      const middle = top + 8 + above * 2.1 * radius;
      const bottom = middle + below * 2.1 * radius + 16;
      for (const { x, level, point } of placed) {
        const y = middle + level * 2.1 * radius;
        const node = draw("circle", { cx: x, cy: y, r: radius, class: `mark ${band.kind}` });
        inner.append(node);
        marks.push({ node, x, y, text: point.text });
      }
      if (!missing(band.low) && !missing(band.high)) {
        inner.append(draw("line", {
          x1: scale(band.low), x2: scale(band.high), y1: bottom, y2: bottom, class: "interval",
        }));
      }
      if (!missing(band.centre)) {
        const x = scale(band.centre);
        inner.append(draw("path", { d: `M${x} ${bottom - 5}l5 5l-5 5l-5 -5z`, class: "centre" }));
      }
      top = bottom + 14;
    }
    const height = top + 34;
    const svg = canvas(width, height, name);
    for (const [value, text] of ticks(low, high, width < 420 ? 4 : 8)) {
      svg.append(
        draw("line", { x1: scale(value), x2: scale(value), y1: sides ? 20 : 0, y2: top, class: "grid" }),
        draw("text", { x: scale(value), y: top + 14, "text-anchor": "middle" }, text),
      );
    }
    if (zero) svg.append(draw("line", { x1: scale(0), x2: scale(0), y1: 4, y2: top, class: "zero" }));
    svg.append(inner, draw("text", { x: width / 2, y: top + 30, "text-anchor": "middle" }, axis));
    return [svg, explore(svg, marks, hint)];
  });
}

// A number with its interval as a small bar; the domain is shared by the rows of a table.
function bar(value, low, high, [from, to]) {
  const [width, height] = [110, 14];
  const x = (v) => 4 + ((v - from) / (to - from)) * (width - 8);
  const svg = draw("svg", { width, height, class: "bar", "aria-hidden": "true" });
  svg.append(draw("line", { x1: 4, x2: width - 4, y1: 7, y2: 7, class: "grid" }));
  if (from < 0 && to > 0) svg.append(draw("line", { x1: x(0), x2: x(0), y1: 0, y2: height, class: "zero" }));
  if (!missing(low) && !missing(high)) {
    svg.append(draw("line", { x1: x(low), x2: x(high), y1: 7, y2: 7, class: "interval" }));
  }
  if (!missing(value)) svg.append(draw("circle", { cx: x(value), cy: 7, r: 3.5, class: "centre" }));
  return svg;
}
