"""Rows that are one: submissions of one's own runs, copies, and older code beside newer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.handmade import add_row
from kit.tampering import accept, change_cases, lay_out, put_together, taken_apart

from usbench.leaderboards import build, render

DSC = [0.9, 0.8, 0.7, 0.9, 0.8, 0.75]
OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def code(letter: str, finished: str) -> dict[str, Any]:
    return {"method__source_hash": letter * 64, "provenance__finished": finished}


def test_a_verified_submission_of_ones_own_runs_is_one_row(tmp_path: Path) -> None:
    runs = lay_out(taken_apart(), tmp_path)
    (tmp_path / "in").mkdir()
    accept(put_together(tmp_path / "in" / "entry.zip", taken_apart()))
    board = build(runs, submissions=tmp_path / "in")
    ((row,),) = (table.rows for table in board.tables)
    assert row.entry is None
    assert all(str(runs) in run["path"] for run in row.runs)
    (folded,) = row.also
    assert (folded.name, folded.why) == ("submission unext-small, worked example", "the same scores")
    assert folded.dsc == row.scores["dsc"]
    assert len(folded.runs) == 5
    assert all("entry.zip" in run["path"] for run in folded.runs)
    # It is named below the table, and makes no second row.
    said = "Under unext-small, hybrid: submission unext-small, worked example, the same scores, DSC"
    assert said in render(board, "md")


def test_a_submission_with_one_other_score_is_a_row_of_its_own(tmp_path: Path) -> None:
    own = taken_apart()
    change_cases(own, lambda rows: rows[0].update(dsc=rows[0]["dsc"] - 0.001))
    runs = lay_out(own, tmp_path)
    (tmp_path / "in").mkdir()
    accept(put_together(tmp_path / "in" / "entry.zip", taken_apart()))
    ((first, second),) = (table.rows for table in build(runs, submissions=tmp_path / "in").tables)
    assert (first.entry is not None, second.entry) == (True, None)
    assert (first.also, second.also) == ((), ())


def test_older_code_stands_under_newer_and_takes_no_part(tmp_path: Path) -> None:
    # The older one is better: what counts is what the code does now.
    add_row(tmp_path, "unet", [dsc + 0.05 for dsc in DSC], **code("a", OLD))
    add_row(tmp_path, "unet", DSC, **code("b", NEW))
    add_row(tmp_path, "unext", [dsc - 0.1 for dsc in DSC])
    board = build(tmp_path)
    (table,) = board.tables
    assert [(row.rank, row.label) for row in table.rows] == [(1, "unet"), (2, "unext")]
    assert table.rows[0].settings["code"] == "b" * 10
    ((name, dsc, why),) = [(one.name, one.dsc, one.why) for one in table.rows[0].also]
    assert (name, why) == (f"code {'a' * 10}", "older code")
    assert abs((dsc or 0) - sum(DSC) / 6 - 0.05) < 1e-9
    assert table.tests.family == 1
    assert f"Under unet, late: code {'a' * 10}, older code, DSC 0.858." in render(board, "md")


def test_older_code_that_is_more_complete_stays_a_row(tmp_path: Path) -> None:
    add_row(tmp_path, "unet", DSC, folds=2, **code("a", OLD))
    add_row(tmp_path, "unet", DSC, folds=2, done=[0], **code("b", NEW))
    (table,) = build(tmp_path).tables
    assert [(row.rank, row.settings["code"][0]) for row in table.rows] == [(1, "a"), (None, "b")]
    assert [row.also for row in table.rows] == [(), ()]


def test_older_code_of_another_fold_stays_a_row(tmp_path: Path) -> None:
    add_row(tmp_path, "unet", DSC, folds=2, done=[0], **code("a", OLD))
    add_row(tmp_path, "unet", DSC, folds=2, done=[1], **code("b", NEW))
    (table,) = build(tmp_path).tables
    assert sorted(row.settings["code"][0] for row in table.rows) == ["a", "b"]


def test_other_settings_with_equal_scores_are_not_folded(tmp_path: Path) -> None:
    # Networks that find nothing have equal scores, all 0, and are different networks.
    for encoder in ("resnet18", "resnet34"):
        add_row(tmp_path, "unet", [0.0] * 6, config__method={"encoder": encoder})
    add_row(tmp_path, "unet", [0.0] * 6, "early")
    add_row(tmp_path, "unet", [0.0] * 6, method__weights="imagenet")
    add_row(tmp_path, "unext", [0.0] * 6)
    (table,) = build(tmp_path).tables
    assert sorted(row.name for row in table.rows) == [
        "unet [imagenet], late",
        "unet, early",
        "unet, encoder resnet18, late",
        "unet, encoder resnet34, late",
        "unext, late",
    ]
    assert all(row.also == () and row.rank == 1 for row in table.rows)
