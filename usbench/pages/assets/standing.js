// What the tests of a table say of its rows. Nothing here is computed: it is read from the data, in this one place.
"use strict";

// "leader", "not separated", "below the leader", "not testable", or null where a row was not tested.
function standingOf(row) {
  return row.standing || null;
}

// Whether a row cannot be ruled out as the best: true, false, or null where nobody knows.
function bestOf(row) {
  return row.best ?? null;
}

// A mask that overlaps nothing is never called as good as another, whatever a test of few patients can say.
function standingWords(row) {
  const standing = standingOf(row);
  if (standing === null) return null;
  return row.dsc === 0 ? "no overlap" : standing;
}

const STANDING_ORDER = ["leader", "not separated", "not testable", "below the leader", "no overlap"];

function standingColumn(hint) {
  return {
    name: "standing", sort: "up", hint, text: standingWords,
    value: (row) => (standingWords(row) === null ? null : STANDING_ORDER.indexOf(standingWords(row))),
    show: (row) => {
      const text = standingWords(row) ?? DASH;
      return ["leader", "not separated"].includes(text) ? make("span", { class: "tie" }, text) : text;
    },
  };
}

const bestColumn = () => ({
  name: "may be best", sort: "text", hint: "yes: the row cannot be ruled out as the best of the table",
  value: (row) => (bestOf(row) === null ? null : bestOf(row) ? "yes" : "no"),
  show: (row) => (bestOf(row) === null ? DASH : bestOf(row) ? "yes" : "no"),
});

// The comparison of two rows, from the table's list of all pairs of ranked rows (first row, later row): {mean, low, high,
// p}, the first row given less the second. null where the table has none.
function pairOf(a, b, table) {
  const ranked = table.rows.filter((row) => !missing(row.rank));
  const [i, j] = [ranked.indexOf(a), ranked.indexOf(b)];
  if (i < 0 || j < 0) return null;
  const [first, second] = i < j ? [i, j] : [j, i];
  const found = table.pairs?.[first * ranked.length - (first * (first + 1)) / 2 + second - first - 1];
  if (!found) return null;
  const [mean, low, high, p] = found;
  const negative = (value) => (missing(value) ? null : -value);
  return i < j ? { mean, low, high, p } : { mean: negative(mean), low: negative(high), high: negative(low), p };
}
