// The data of the page. Of a large board the rows stand as lists of values beside one list of their names.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

for (const table of data.tables) {
  if (!table.keys) continue;
  table.rows = table.rows.map((values, i) => ({ ...Object.fromEntries(table.keys.map((key, k) => [key, values[k]])), ...table.details[i] }));
}
