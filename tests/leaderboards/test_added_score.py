"""A score that is added: one entry, and it stands everywhere; results from before it are read as NaN."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from kit.handmade import add_row, make_run
from kit.masks import cube

from usbench.cli.summary import print_results
from usbench.contracts.score import Score
from usbench.errors import UsbenchError
from usbench.leaderboards import kept
from usbench.leaderboards.board import build
from usbench.leaderboards.formats import render
from usbench.leaderboards.plain import as_dict, board_schema
from usbench.pages import run_page
from usbench.results.io import cases_csv, load_result, parse_cases, read_cases
from usbench.scores import registry
from usbench.scores.case import score_case
from usbench.scores.summary import summarise
from usbench.scores.text import definitions

KEPT = Path(__file__).parents[2] / "leaderboards"

FOUND = Score(
    name="found_ml",
    label="found",
    unit="ml",
    direction="neither",
    digits=1,
    sentence="volume of P",
    function=lambda of: of.predicted * of.voxel_mm3 / 1000,
    mean=("mean_found_ml", "mean found"),
    in_summary=True,
    added="9.9.9",
)


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> Score:
    monkeypatch.setattr(registry, "SCORES", (*registry.SCORES, FOUND))
    return FOUND


def page_data(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_an_entry_is_scored_written_and_averaged(one_more):
    # 2 x 3 x 4 = 24 voxels of 5 x 2 x 10 mm: 2.4 ml; of the other class nothing is there at all.
    prediction, truth = cube((6, 6, 6), (1, 1, 1), (3, 4, 5)), cube((6, 6, 6), (0, 0, 0), (2, 2, 2))
    rows = score_case(prediction, truth, ["liver", "spleen"], (5.0, 2.0, 10.0), 1.0)
    assert rows[0].scores["found_ml"] == pytest.approx(2.4)
    assert math.isnan(rows[1].scores["found_ml"])
    liver, spleen = parse_cases(cases_csv({"p1": rows}), "cases.csv")
    assert list(liver)[-6:] == ["found_ml", "tp", "fp", "fn", "tn", "edge"]
    assert liver["found_ml"] == pytest.approx(2.4)
    assert math.isnan(spleen["found_ml"])
    block = summarise([rows])
    assert block["mean_found_ml"] == pytest.approx(2.4)
    assert block["classes"]["liver"]["found_ml"] == pytest.approx(2.4)
    assert block["classes"]["spleen"]["found_ml"] is None
    assert "| found | `found_ml` (mean: `mean_found_ml`) | volume of P | ml | neither |" in definitions(
        registry.all_scores()
    )


def test_an_entry_stands_in_every_format_and_on_the_pages(tmp_path, one_more, capsys, monkeypatch):
    add_row(tmp_path, "unet", [0.9, 0.8])
    folder = next(tmp_path.rglob("result.json")).parent
    result = load_result(folder)
    assert "found_ml" in (folder / "cases.csv").read_text().splitlines()[0].split(",")
    assert result.scores["mean_found_ml"] == pytest.approx(0.99)
    board = build(tmp_path)
    assert as_dict(board)["tables"][0]["rows"][0]["mean_found_ml"] == pytest.approx(0.99)
    assert "volume of P, ml" in board_schema()["tables"][0]["rows"][0]["mean_found_ml"]
    assert json.loads(render(board, "json"))["tables"][0]["rows"][0]["mean_found_ml"] == pytest.approx(0.99)
    (row,) = csv.DictReader(io.StringIO(render(board, "csv")))
    assert float(row["mean_found_ml"]) == pytest.approx(0.99)
    for form, head in (
        ("md", "| mean found ml |"),
        ("latex", "& mean found ml &"),
        ("table", " mean found ml "),
    ):
        assert head in re.sub(" +", " ", render(board, form))
    # "neither": 1.0 stands there unmarked, though it is the best of its column.
    assert "& 1.0 &" in render(board, "latex")
    column = {
        "key": "mean_found_ml",
        "name": "mean found ml",
        "sort": "up",
        "digits": 1,
        "hint": "volume of P",
    }
    assert page_data(render(board, "html"))["scores"][-1] == column
    page = run_page.html(result)
    assert "<dt>mean found ml</dt><dd>1.0</dd>" in page
    assert page.count("data-sort=up>found ml</th>") == 2  # of cases, and of classes
    monkeypatch.setenv("COLUMNS", "120")
    print_results([result])
    assert "found ml" in capsys.readouterr().out


def test_a_result_from_before_a_score_is_read_without_it(tmp_path, monkeypatch):
    old = make_run(tmp_path, fold=0)
    before = (old / "cases.csv").read_bytes()
    monkeypatch.setattr(registry, "SCORES", (*registry.SCORES, FOUND))
    rows = read_cases(old / "cases.csv")
    assert all(math.isnan(row["found_ml"]) for row in rows)
    assert rows[0]["dsc"] == pytest.approx(0.8)
    board = build(tmp_path)
    assert not board.problems
    assert board.tables[0].rows[0].scores["mean_found_ml"] is None
    assert board.tables[0].rows[0].scores["assd"] is not None
    assert "mean_found_ml" in render(board, "csv").splitlines()[0]
    assert "mean found" not in render(board, "md")
    assert "found ml" not in run_page.html(load_result(old))
    # With the other fold computed anew the row still has none: it would be a mean over two of its patients.
    make_run(tmp_path, fold=1)
    (row,) = build(tmp_path).tables[0].rows
    assert (row.rank, row.scores["mean_found_ml"]) == (1, None)
    # A row that has it throughout shows it beside one that does not.
    for fold in range(2):
        make_run(tmp_path, "resunet", fold=fold, dsc={f"p{2 * fold + i}": (0.5, 0.5) for i in (1, 2)})
    means = {row.method: row.scores["mean_found_ml"] for row in build(tmp_path).tables[0].rows}
    assert means == {"unet": None, "resunet": pytest.approx(0.99)}
    assert (old / "cases.csv").read_bytes() == before


def test_a_score_that_every_result_has_may_not_be_absent(tmp_path):
    text = (make_run(tmp_path) / "cases.csv").read_text()
    head, *lines = text.splitlines()
    place = head.split(",").index("hd95")
    cut = "\n".join(",".join(np.delete(line.split(","), place)) for line in (head, *lines))
    with pytest.raises(UsbenchError, match="lacks the column hd95"):
        parse_cases(cut, "cases.csv")
    with pytest.raises(UsbenchError, match="the column 'dsc' stands there twice"):
        parse_cases(text.replace("hd95", "dsc"), "cases.csv")


@pytest.mark.parametrize("name", ["glioma-64", "phantoms-64", "zeus-64"])
def test_kept_results_from_before_the_new_scores_make_their_tables(name):
    board = kept.board_of(KEPT / name)
    rows = [row for table in board.tables for row in table.rows]
    new = ("assd", "mssd", "rvd", "ravd")
    assert {row.scores[score] for row in rows for score in new} == {None}
    assert all(row.scores["hd95"] is not None for row in rows)
    if name == "glioma-64":
        assert sum(len(row.runs) for row in rows) == 116
    header, *lines = csv.reader((KEPT / name / "leaderboard.csv").read_text().splitlines())
    assert all(line[header.index(score)] == "" for line in lines for score in new)
    assert "ASSD" not in (KEPT / name / "leaderboard.md").read_text()
