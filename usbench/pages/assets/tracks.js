// Tables of tracks, below the clean ones: what is left where modalities are missing or noisy, and on other data.
"use strict";

// A mean with its interval, as a column that sorts.
function meanColumn(key, name, first, digits = 3, hint = null) {
  return {
    name, hint, sort: first, value: (row) => row.means[key]?.value,
    files: ["", "low", "high"].map((end) => ({ name: end ? `${name} ${end}` : name,
      value: (row) => row.means[key]?.[end || "value"] })),
    show: (row) => {
      const mean = row.means[key];
      if (!mean || missing(mean.value)) return DASH;
      const interval = missing(mean.low) ? "" : ` [${number(mean.low, digits)}, ${number(mean.high, digits)}]`;
      return [make("b", {}, number(mean.value, digits)), make("span", { class: "muted" }, interval)];
    },
  };
}

function trackColumns(table) {
  const named = data.track_columns[table.track].filter((one) => one.key !== table.ranked_by);
  return [
    { name: "rank", sort: "up", value: (row) => row.rank, show: (row) => row.rank ?? DASH },
    methodColumn(), fusionColumn(),
    meanColumn(table.ranked_by, table.ranked_as, "down", 3, "what the rows are ranked by"),
    standingColumn("what the test below the table says of the row and the leader"), bestColumn(),
    { name: "p", sort: "up", hint: "p of the test against the leader, corrected", value: (row) => row.p_leader,
      show: (row) => pValue(row.p_leader) },
    ...named.map((one) => meanColumn(one.key, one.name, one.sort, one.digits, one.hint)),
    ...(table.rows.some((row) => row.told) ? [{ name: "told", sort: "text",
      hint: "whether the network was told which modalities are there", value: (row) => (row.told ? "yes" : "no"),
      show: (row) => (row.told ? "yes" : "no") }] : []),
    { name: "cases", sort: "down", value: (row) => row.cases, show: (row) => row.cases },
    { name: "folds", sort: "down", value: (row) => row.folds_done, show: (row) => `${row.folds_done}/${row.folds}` },
    { name: "seeds", sort: "text", value: (row) => row.seeds, show: (row) => row.seeds },
  ];
}

// A table of the rows of a track; only the main one of a section has links to its rows.
function trackGrid(table, columns, title, linked) {
  const ids = linked ? stableIds(table.rows, [table.track, table.other_data, table.protocol]) : null;
  return makeGrid({ title, columns, rows: table.rows, table, about: (row) => aboutRow(row, table),
    idOf: ids ? (row) => ids.get(row) : null });
}

function lostTable(table) {
  if (table.track !== "robustness" || table.modalities.length < 2) return null;
  const columns = [
    methodColumn(), fusionColumn(),
    ...table.modalities.map((name) => meanColumn(`lost-${name}`, `without ${name}`, "down", 3,
      `clean DSC less the DSC without ${name}, paired over patients`)),
  ];
  return make("section", {}, make("h3", {}, "What is lost without each modality"),
    make("p", { class: "muted" }, "Clean DSC less the DSC without the modality, paired over patients, with its 95% "
      + "interval; below 0: better without it."),
    trackGrid(table, columns, `lost without: ${table.title}`).box);
}

function trackSection(table, index) {
  const where = table.other_data ? `${table.cases} cases of ${table.other_data}` : `${table.cases} cases, the test folds`;
  const lines = table.notes.map((line) => make("li", {}, line));
  const picture = table.picture ? make("section", {}, make("h3", {}, "DSC against what is missing"),
    make("div", { class: "picture" }, make("img", { src: table.picture, decoding: "async",
      alt: `${table.title}: DSC against what is missing, a panel for each method` }))) : null;
  const grid = trackGrid(table, trackColumns(table), table.title, true);
  const section = make("section", { class: "track", id: `track-${index + 1}` }, make("h2", {}, table.title),
    make("p", { class: "muted" }, `Modalities ${table.modalities.join(", ")}; classes ${table.classes.join(", ")}; ${where}; `
      + `data ${table.fingerprint.slice(0, 10)}, protocol ${table.protocol}. Rows of clean tables are others.`),
    grid.box, make("ul", { class: "notes" }, lines),
    lostTable(table), picture, effects(table, table.ranked_as));
  redraws.push(() => { section.hidden = !grid.shown.length; });
  return section;
}
