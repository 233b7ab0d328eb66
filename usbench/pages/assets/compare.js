// What is shown of one selected row, and of two: patients, paired differences, runs.
"use strict";

const full = (row) => `${row.label}, ${row.fusion}`;

function domainOf(values) {
  const low = Math.floor(Math.min(...values) * 10 - 1e-9) / 10;
  const high = Math.ceil(Math.max(...values) * 10 + 1e-9) / 10;
  return [Math.max(0, low), Math.min(1, high)];
}

const HINT = "A dot is a patient, the diamond their mean, the line its 95% interval. Point at a dot, or use the arrow keys.";

// Patients of a row as points, without those that are not scored.
function points(row, table) {
  return table.case_ids.map((id, i) => ({ id, value: row.patients?.[i] })).filter((one) => !missing(one.value))
    .map((one) => ({ ...one, text: `${one.id}: DSC ${number(one.value)}, ${full(row)}` }));
}

function stripPlot(rows, table) {
  const bands = rows.map((row) => ({
    label: `${full(row)}: ${number(row.dsc)}`, kind: row.fusion, points: points(row, table), centre: row.dsc,
    low: row.dsc_low, high: row.dsc_high,
  }));
  const values = bands.flatMap((band) => band.points.map((point) => point.value));
  if (!values.length) {
    return make("p", { class: "muted" }, rows.some((row) => !row.patients)
      ? "The patients of this row were left out to keep the page small." : "No patient of this row is scored.");
  }
  const [low, high] = domainOf(values);
  return swarm({
    bands, low, high, name: "DSC of each patient", axis: "DSC",
    hint: HINT,
  });
}

function compare(a, b, table) {
  const shared = table.case_ids.map((id, i) => ({ id, a: a.patients?.[i], b: b.patients?.[i] }))
    .filter((one) => !missing(one.a) && !missing(one.b));
  const differences = shared.map((one) => one.a - one.b);
  const only = [a, b].map((row) => points(row, table).length - shared.length);
  return {
    shared, differences, only,
    ...(pairOf(a, b, table) ?? { mean: null, low: null, high: null, p: null }),
    better: differences.filter((d) => d > 0).length,
    worse: differences.filter((d) => d < 0).length,
    equal: differences.filter((d) => d === 0).length,
  };
}

function verdict(result) {
  const interval = missing(result.low) ? "" : ` [${signed(result.low)}, ${signed(result.high)}]`;
  const equal = result.equal ? `, equal in ${result.equal}` : "";
  const p = missing(result.p) ? "" : `, p ${pValue(result.p)}`;
  return `${signed(result.mean)}${interval}${p}, better in ${result.better}, worse in ${result.worse}${equal}`;
}

function comparison(a, b, table) {
  const result = compare(a, b, table);
  const parts = [make("h4", {}, `Paired comparison: ${full(a)} minus ${full(b)}`)];
  if (!result.shared.length) {
    const left = [a, b].some((row) => !row.patients) ? "Patients of these rows were left out to keep the page small."
      : "The two rows have no scored patient in common.";
    return [...parts, make("p", {}, left)];
  }
  const facts = [
    ["mean difference of DSC", signed(result.mean, 4), "mean"],
    ["95% interval", !missing(result.low) ? `${signed(result.low, 4)} to ${signed(result.high, 4)}`
      : table.pairs ? "none of so few patients, or without spread" : "none in a table of so many rows", "interval"],
    ["p of the paired test", pValue(result.p), "p"],
    ["patients better", result.better, "better"],
    ["patients worse", result.worse, "worse"],
    ["patients equal", result.equal, "equal"],
    ["patients in both", result.shared.length, "shared"],
  ];
  parts.push(make("dl", { class: "facts" }, facts.map(([name, value, key]) => make("div", {}, make("dt", {}, name),
    make("dd", { "data-fact": key }, String(value))))));
  const reach = Math.max(0.01, ...result.differences.map(Math.abs)) * 1.08;
  parts.push(swarm({
    bands: [{
      kind: "difference", centre: result.mean, low: result.low, high: result.high,
      points: result.shared.map((one) => ({
        value: one.a - one.b,
        text: `${one.id}: ${signed(one.a - one.b)} (${number(one.a)} against ${number(one.b)})`,
      })),
    }],
    low: -reach, high: reach, zero: true, sides: ["\u2190 second better", "first better \u2192"],
    name: "differences of DSC by patient", axis: "difference of DSC", hint: HINT,
  }));
  const left = result.only.some((n) => n > 0)
    ? ` Patients in one row alone are left out: ${result.only[0]} of the first, ${result.only[1]} of the second.` : "";
  parts.push(make("p", { class: "muted" }, "The interval (Student's, of the patients' differences) is of this pair alone and not "
    + `corrected for choosing the pair; p is corrected over all pairs of the table.${left}`));
  return parts;
}

function runsTable(row) {
  if (!row.runs?.length) return make("p", { class: "muted" }, "The runs behind this row are not named in this board.");
  const keys = ["fold", "seed", "hash", "commit", "device", "path"];
  const body = row.runs.map((run) => make("tr", {}, keys.map((key) => make("td", {
    class: ["fold", "seed"].includes(key) ? "number" : key === "device" ? null : "code",
    title: ["hash", "commit"].includes(key) ? run[key] : null,
  }, missing(run[key]) ? DASH : ["hash", "commit"].includes(key) ? String(run[key]).slice(0, 10) : String(run[key])))));
  return make("div", { class: "scroll" }, make("table", {},
    make("caption", {}, `Runs of ${full(row)}`),
    make("thead", {}, make("tr", {}, keys.map((key) => make("th", { scope: "col" }, key)))),
    make("tbody", {}, body)));
}

function settingsLine(row) {
  const words = Object.entries(row.settings ?? {}).filter(([, value]) => !missing(value));
  if (!words.length) return null;
  return make("p", { class: "muted code wrap" }, words.map(([key, value]) => `${key}=${typeof value === "object"
    ? JSON.stringify(value) : value}`).join("  "));
}
