"""Learning curves beside numbers worked by hand; few patients never mix with all of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from kit.few_patients import FULL, HALF, add, seal, write_curves
from kit.handmade import TASKS
from kit.intervals import of_scores
from kit.schemas import same_keys
from PIL import Image

from usbench.leaderboards import render, write
from usbench.leaderboards.board import Leaderboard, build
from usbench.leaderboards.plain import FEW_PATIENTS_SCHEMA
from usbench.results.usable import table_key

TITLE = "chaos (phantom), preset quick"


@pytest.fixture
def board(tmp_path: Path) -> Leaderboard:
    return build(write_curves(tmp_path))


def test_numbers_are_those_of_the_rows(board: Leaderboard) -> None:
    """Means by hand: 4.8 / 6 and 3.6 / 6; intervals as the tables have them."""
    (group,) = board.curves
    assert (group.title, group.task, group.data) == (TITLE, "chaos", "phantom")
    unext, unet = group.curves
    assert [(one.label, one.fusion) for one in (unext, unet)] == [("unext", "early"), ("unet", "late")]
    assert [point.trained_on for point in unet.points] == ["1 patient", "50%", "all"]
    assert [(point.least, point.most) for point in unet.points] == [(1, 1), (2, 2), (3, 3)]
    assert [point.dsc for point in unet.points] == pytest.approx([0.5, 0.6, 0.8])
    assert [(point.low, point.high) for point in unet.points] == [
        (None, None),  # All six have 0.5: there is no spread.
        pytest.approx(of_scores(HALF)),
        pytest.approx(of_scores(FULL)),
    ]
    assert [point.cases for point in unet.points] == [6, 6, 6]
    assert [point.table for point in unet.points] == [
        f"{TITLE}, 1 training patient",
        f"{TITLE}, 50% of the training patients",
        TITLE,
    ]
    # The full point is the row of the full table.
    full = next(table for table in board.tables if table.title == TITLE)
    assert unet.points[-1].dsc == full.rows[0].scores["dsc"]
    assert (unet.points[-1].low, unet.points[-1].high) == full.rows[0].interval
    assert [point.trained_on for point in unext.points] == ["50%"]


def test_few_patients_are_tables_of_their_own(board: Leaderboard) -> None:
    assert [table.title for table in board.tables] == [
        TITLE,
        f"{TITLE}, 1 training patient",
        f"{TITLE}, 50% of the training patients",
        "msd-brain (phantom), preset quick",
    ]
    assert [[row.method for row in table.rows] for table in board.tables] == [
        ["unet"], ["unet"], ["unext", "unet"], ["unet"],
    ]  # fmt: skip
    half = board.tables[2]
    assert "trained on 50% of the training patients, 2 in a fold" in half.facts
    assert half.trained_on == (2, 2)
    assert half.of_all_patients == board.tables[0].protocol != half.protocol


def test_ranks_over_tasks_and_published_rows_take_full_tables_alone(tmp_path: Path) -> None:
    """A better row of few patients does not stand for the task."""
    for task in TASKS[:2]:
        add(tmp_path, "unet", FULL, cell__task=task)
        add(tmp_path, "unet", [0.99] * 6, cell__task=task, share=0.5, trained=2)
        add(tmp_path, "unext", [0.99] * 6, cell__task=task, share=0.5, trained=2)
    board = build(seal(tmp_path))
    (overall,) = board.overall
    assert [(row.method, row.mean_dsc) for row in overall.rows] == [("unet", pytest.approx(0.8))]
    ours = [row for one in board.reported for line in one.lines for row in line.measured]
    assert {(row.table, round(row.dsc or 0, 9)) for row in ours} == {
        ("chaos (phantom), preset quick", 0.8),
        ("msd-brain (phantom), preset quick", 0.8),
    }


def test_other_settings_are_other_curves(tmp_path: Path) -> None:
    """Another length of training is another group; another encoder another curve; names say which."""
    add(tmp_path, "unet", HALF, share=0.5, trained=2)
    add(tmp_path, "unet", FULL, config__train={"epochs": 99})
    assert [(len(g.curves), len(g.curves[0].points)) for g in build(seal(tmp_path)).curves] == [(1, 1)]
    add(tmp_path, "unet", HALF, share=0.5, trained=2, config__method={"encoder": "other"})
    add(tmp_path, "unet", FULL)
    (group,) = build(seal(tmp_path)).curves
    assert group.title == f"{TITLE}, epochs 14"
    assert sorted((curve.label, len(curve.points)) for curve in group.curves) == [
        ("unet, encoder other", 1),
        ("unet, encoder resnet18", 2),
    ]


def test_without_few_patients_there_is_no_curve(tmp_path: Path) -> None:
    add(tmp_path, "unet", FULL)
    board = build(seal(tmp_path))
    assert board.curves == ()
    assert "earning" not in render(board)
    assert "learning.png" not in [path.name for path in write(board, tmp_path / "out")]


def test_a_row_without_a_score_has_no_point(tmp_path: Path) -> None:
    add(tmp_path, "unet", [math.nan] * 6, share=0.5, trained=2)
    assert build(seal(tmp_path)).curves == ()


def test_every_format_shows_them(board: Leaderboard, tmp_path: Path) -> None:
    low, high = of_scores(HALF)
    for form in ("table", "md"):
        text = render(board, form)
        assert f"Learning curves: {TITLE}" in text
        line = next(one for one in text.splitlines() if "50%" in one and "unet" in one)
        assert f"0.600 [{low:.3f}, {high:.3f}]" in line
        assert "takes fewer steps with fewer patients" in " ".join(text.split())
    assert r"50\%" in render(board, "latex")
    data = json.loads(render(board, "json"))
    assert [point["trained_on"] for point in data["curves"][0]["curves"][1]["points"]] == [
        "1 patient", "50%", "all",
    ]  # fmt: skip
    few = [{key: table[key] for key in ("share", "train_cases") if key in table} for table in data["tables"]]
    assert few == [{}, {"train_cases": 1}, {"share": 0.5}, {}]
    assert set(few[1] | few[2]) == set(FEW_PATIENTS_SCHEMA["tables"])
    same_keys(data["curves"], FEW_PATIENTS_SCHEMA["curves"])
    paths = write(board, tmp_path / "out", pictures=False)
    picture = next(path for path in paths if path.name == "learning.png")
    pixels = np.asarray(Image.open(picture).convert("RGB"), dtype=int)
    # The blue of late fusion and whatever early fusion has are on it: it is no empty picture.
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_keys_of_tables_differ(tmp_path: Path) -> None:
    """A result of few patients can never stand in the table of all of them."""
    add(tmp_path, "unet", FULL)
    add(tmp_path, "unet", HALF, share=0.5, trained=2)
    add(tmp_path, "unet", HALF, train_cases=2, trained=2)
    files = sorted(seal(tmp_path).rglob("result.json"))
    keys = {table_key(json.loads(file.read_text(encoding="utf-8"))) for file in files}
    assert (len(files), len(keys)) == (6, 3)
