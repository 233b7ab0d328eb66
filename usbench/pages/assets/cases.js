// Pictures of cases: the truth and the masks of several methods side by side, of one case at a time.
"use strict";

const SIDE_BY_SIDE = 8; // masks that are shown until the reader chooses

// A method's own name, of a panel that shows the mask of a row.
const ownerOf = (panel, table) => (missing(panel.method) ? null : table.rows[panel.method] ?? null);

function caseViewer(table) {
  const found = table.pictures;
  if (!found) return null;
  const legend = found.classes.length ? make("p", { class: "legend" }, found.classes.map((one) => {
    const sample = draw("svg", { width: 14, height: 14, "aria-hidden": "true" },
      draw("rect", { x: 1, y: 1, width: 12, height: 12, fill: one.colour }));
    return make("span", {}, sample, one.name);
  })) : null;
  const owners = [...new Set(found.cases.flatMap((one) => one.panels).map((panel) => ownerOf(panel, table)).filter(Boolean))]
    .sort((a, b) => table.rows.indexOf(a) - table.rows.indexOf(b));
  const chosen = new Set(owners.slice(0, SIDE_BY_SIDE));
  const strip = make("div", { class: "strip", tabindex: "0", role: "region", "aria-label": `pictures, ${table.title}` });
  const note = make("p", { class: "muted", "aria-live": "polite" });
  const select = make("select", { class: "case" }, found.cases.map((one, i) => make("option", { value: i }, one.title)));
  const without = missingChoice(found.cases);
  const show = () => {
    const one = found.cases[Number(select.value)];
    const panels = (missing(one.same) ? one : found.cases[one.same]).panels;
    const left = panels.filter((panel) => {
      const row = ownerOf(panel, table);
      return !row || (chosen.has(row) && matches(aboutRow(row, table)));
    });
    const masks = (list) => list.filter((panel) => ownerOf(panel, table)).length;
    const hidden = masks(panels) - masks(left);
    note.textContent = `${one.note}${hidden ? ` ${hidden} of ${masks(panels)} methods are not shown: see Methods and the filters.` : ""}`;
    strip.replaceChildren(...left.map((panel) => panelFigure(panel, without?.value())));
  };
  select.addEventListener("change", show);
  without?.select.addEventListener("change", show);
  const names = new Map(owners.map((row) => [full(row), row]));
  const methods = names.size ? checkboxes("Methods", [...names.keys()], (name) => chosen.has(names.get(name)), (name, on) => {
    if (on) chosen.add(names.get(name));
    else chosen.delete(names.get(name));
    show();
  }) : null;
  show();
  const section = make("section", { class: "cases" }, make("h3", {}, "Pictures of cases"), make("p", { class: "muted" }, found.note),
    legend, found.cases.length ? make("p", { class: "choices" }, make("label", {}, "case ", select), without?.label) : null,
    methods, note, strip);
  return { section, show };
}

function panelFigure(panel, without) {
  const other = without && !missing(panel.method) ? panel.without?.[without] : null;
  const more = without && !missing(panel.method) && !other ? ` (all modalities: no mask without ${without})` : "";
  const image = make("img", { src: other?.src ?? panel.src, width: panel.width, height: panel.height,
    alt: other?.title ?? panel.text, decoding: "async" });
  return make("figure", {}, image, make("figcaption", {}, other?.title ?? panel.title + more));
}

// Which modality the masks are predicted without, where a robustness track kept such masks.
function missingChoice(cases) {
  const names = [...new Set(cases.flatMap((one) => one.panels).flatMap((panel) => Object.keys(panel.without ?? {})))];
  if (!names.length) return null;
  const select = make("select", { class: "missing" }, make("option", { value: "" }, "all modalities"),
    names.map((name) => make("option", { value: name }, `without ${name}`)));
  return { select, label: make("label", {}, "masks predicted from ", select), value: () => select.value };
}
