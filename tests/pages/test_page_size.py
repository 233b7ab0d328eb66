"""The size of the leaderboard's page: thousands of rows stay below its limit, and say what was left out."""

from __future__ import annotations

import json
import re
import sys

import pytest
from kit.places import ROOT

from usbench.pages import leaderboard_page as page
from usbench.pages.compact import MANY_ROWS, compact_tables


def a_table(rows: int) -> dict:
    return {
        "rows": [
            {"rank": i + 1, "dsc": 1 / 3, "patients": {"p": 0.5}, "runs": [{"path": "x"}], "settings": {}}
            for i in range(rows)
        ]
    }


def test_a_few_rows_are_kept_whole_and_many_as_lists():
    (few,) = compact_tables([a_table(MANY_ROWS)], [None])
    assert few["rows"][0] == {**a_table(1)["rows"][0], "patients": [0.5]}
    (many,) = compact_tables([a_table(MANY_ROWS + 1)], [None])
    assert many["keys"] == ["rank", "dsc"]
    assert many["rows"][:2] == [[1, 0.3333333], [2, 0.3333333]]
    assert many["details"][0] == {"patients": [0.5], "runs": [{"path": "x"}], "settings": {}}


def test_pairs_are_those_given_to_six_digits():
    rows = [{"patients": {"a": 0.75, "b": 0.5}}, {"patients": {"a": 0.5, "b": None}}]
    given = [[1 / 3, 0.1, 0.4, 0.04], [0.25, None, None, 1.0]]
    (made,) = compact_tables([{"rows": rows}], [given])
    assert made["pairs"] == [[0.333333, 0.1, 0.4, 0.04], [0.25, None, None, 1.0]]
    (none,) = compact_tables([{"rows": rows}], [None])
    assert none["pairs"] is None


@pytest.mark.slow
@pytest.mark.parametrize("tables", [1, 100])
def test_five_thousand_rows_stay_below_the_limit(tables, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("page", None)
    from page import board_data  # type: ignore[import-not-found]

    text = page.html(board_data(5000, tables, 150), None)
    assert len(text) < page.LIMIT == 5_000_000
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert sum(len(table["rows"]) for table in data["tables"]) == 5000
    assert all(table["details"] for table in data["tables"])
