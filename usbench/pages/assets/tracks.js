// Tables of tracks, below the clean ones: what is left where modalities are missing or noisy, and on other data.
"use strict";

const trackLines = [];

// A mean with its interval, as a column that sorts.
function meanColumn(key, name, first, digits = 3, hint = null) {
  return {
    name, hint, sort: first, value: (row) => row.means[key]?.value,
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
    { name: "method", sort: "text", head: true, value: (row) => row.label, show: methodCell },
    { name: "fusion", sort: "text", wide: true, value: (row) => row.fusion, show: (row) => row.fusion },
    meanColumn(table.ranked_by, table.ranked_as, "down", 3, "what the rows are ranked by"),
    {
      name: "tier", sort: "up", hint: "tied: not told apart from the leader by the test below the table",
      value: (row) => row.tier, show: (row) => (missing(row.tier) ? DASH : row.tier === 1 ? tied(row) : "below"),
    },
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

// A sortable table of the rows of a track; the filters of the page hide its lines.
function trackGrid(table, all, title) {
  const columns = all.filter((column) => table.rows.some((row) => !missing(column.value(row))));
  const grid = make("table", { class: "records" }, make("caption", { class: "hidden" }, title),
    make("thead", {}, make("tr", {}, columns.map((column) => make("th", {
      scope: "col", "data-sort": column.sort, title: column.hint, class: classOf(column),
    }, column.name)))),
    make("tbody", {}, table.rows.map((row) => {
      const line = make("tr", {}, columns.map((column) => make(column.head ? "th" : "td", {
        scope: column.head ? "row" : null, class: classOf(column), "data-value": column.value(row) ?? "",
      }, column.show(row, table))));
      trackLines.push({ table, row, line });
      return line;
    })));
  sortable(grid);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, grid);
}

function lostTable(table) {
  if (table.track !== "robustness" || table.modalities.length < 2) return null;
  const columns = [
    { name: "method", sort: "text", head: true, value: (row) => row.label, show: (row) => row.label },
    { name: "fusion", sort: "text", value: (row) => row.fusion, show: (row) => row.fusion },
    ...table.modalities.map((name) => meanColumn(`lost-${name}`, `without ${name}`, "down", 3,
      `clean DSC less the DSC without ${name}, paired over patients`)),
  ];
  return make("section", {}, make("h3", {}, "What is lost without each modality"),
    make("p", { class: "muted" }, "Clean DSC less the DSC without the modality, paired over patients, with its 95% "
      + "interval; below 0: better without it."),
    trackGrid(table, columns, `lost without: ${table.title}`));
}

function trackSection(table, index) {
  const where = table.other_data ? `${table.cases} cases of ${table.other_data}` : `${table.cases} cases, the test folds`;
  const lines = data.track_notes[table.track].map((line) => make("li", {}, line));
  const tests = table.tests;
  if (tests?.leader) {
    lines.push(make("li", {}, sentence(`Leader: ${tests.leader}`)),
      make("li", {}, sentence(`Test against the leader: ${tests.test}; corrected: ${tests.correction}`)));
  }
  if (tests?.note) lines.push(make("li", {}, sentence(tests.note)));
  const picture = table.picture ? make("section", {}, make("h3", {}, "DSC against what is missing"),
    make("div", { class: "picture" }, make("img", { src: table.picture, decoding: "async",
      alt: `${table.title}: DSC against what is missing, a panel for each method` }))) : null;
  return make("section", { class: "track", id: `track-${index + 1}` }, make("h2", {}, table.title),
    make("p", { class: "muted" }, `Modalities ${table.modalities.join(", ")}; classes ${table.classes.join(", ")}; ${where}; `
      + `data ${table.fingerprint.slice(0, 10)}, protocol ${table.protocol}. Rows of clean tables are others.`),
    trackGrid(table, trackColumns(table), table.title), make("ul", { class: "notes" }, lines),
    lostTable(table), picture, effects(table, table.ranked_as));
}

function filterTracks() {
  const seen = new Map();
  for (const { table, row, line } of trackLines) {
    const shown = (!filters.task || table.task === filters.task) && (!filters.data || table.data === filters.data)
      && (!filters.fusion || row.fusion === filters.fusion)
      && full(row).toLowerCase().includes(filters.text.toLowerCase());
    line.hidden = !shown;
    seen.set(table, seen.get(table) || shown);
  }
  (data.tracks ?? []).forEach((table, index) => {
    document.getElementById(`track-${index + 1}`).hidden = !seen.get(table);
  });
}

// Which modality the pictures of a table are without: a choice that exchanges pictures and words.
function missingChoice(cases) {
  const panels = cases.flatMap((one) => one.panels).filter((panel) => panel.without);
  const names = [...new Set(panels.flatMap((panel) => Object.keys(panel.without)))];
  if (!names.length) return null;
  const select = make("select", { class: "missing" }, make("option", { value: "" }, "all modalities"),
    names.map((name) => make("option", { value: name }, `without ${name}`)));
  select.addEventListener("change", () => {
    for (const panel of cases.flatMap((one) => one.panels)) {
      if (missing(panel.method)) continue;
      const other = panel.without?.[select.value];
      panel.image.src = other?.src ?? panel.src;
      panel.image.alt = other?.title ?? panel.text;
      panel.caption.textContent = other?.title
        ?? panel.title + (select.value ? ` (all modalities: no mask without ${select.value})` : "");
    }
  });
  return make("p", {}, make("label", {}, "masks predicted from ", select));
}
