"""Fronts of DSC against cost, by hand; limits of cost as a user writes them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from kit.handmade import add_row
from PIL import Image

from usbench.errors import UsbenchError
from usbench.leaderboards import build, render, write
from usbench.leaderboards.costs import best_under, cost_fronts, parse_limits

# Name: (DSC, parameters, ms). By parameters e has fewest, d is beaten by b (as many, worse), c by a.
ROWS = {"a": (0.9, 30e6, 5.0), "b": (0.8, 10e6, 20.0), "c": (0.7, 40e6, 2.0), "d": (0.75, 10e6, 30.0),
        "e": (0.6, 1e6, 2.0)}  # fmt: skip


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    for name, (dsc, parameters, ms) in ROWS.items():
        add_row(runs, name, [dsc - 0.05, dsc + 0.05], cost__parameters=int(parameters), cost__ms_per_slice=ms)
    # Better and cheaper than all, but not ranked.
    add_row(runs, "f", [0.99, 0.99], folds=2, done=[0], cost__parameters=5, cost__ms_per_slice=0.1)
    return build(runs)


def names(board):
    return {front.axis.name: [row.label for row in front.rows] for front in cost_fronts(board.tables[0])}


def test_fronts_are_those_found_by_hand(board):
    found = names(board)
    assert found["parameters"] == ["e", "b", "a"]
    # c costs the same as e and is better; b and d are slower and worse than a.
    assert found["ms_per_slice"] == ["c", "a"]
    # All take 300 MB: the best alone. Nobody knows the GFLOPs.
    assert found["memory_mb"] == ["a"]
    assert "gflops" not in found


def test_equal_rows_are_all_on_the_front_and_unknown_costs_are_counted(board):
    table = board.tables[0]
    a = table.rows[0]
    twin = replace(a, label="twin")
    unknown = replace(a, label="unknown", ms_per_slice=None)
    fronts = cost_fronts(replace(table, rows=(a, twin, unknown)))
    by_time = next(front for front in fronts if front.axis.name == "ms_per_slice")
    assert [row.label for row in by_time.rows] == ["a", "twin"]
    assert by_time.unknown == 1


def test_front_agrees_with_a_count_of_all_pairs(board):
    table, rng = board.tables[0], np.random.default_rng(0)
    points = rng.integers(1, 8, (40, 2))
    rows = tuple(
        replace(table.rows[0], label=str(i), parameters=int(cost), scores={"dsc": score / 10})
        for i, (cost, score) in enumerate(points)
    )
    front = next(one for one in cost_fronts(replace(table, rows=rows)) if one.axis.name == "parameters")
    less = (points[:, None, 0] <= points[None, :, 0]) & (points[:, None, 1] >= points[None, :, 1])
    beaten = (less & (points[:, None] != points[None, :]).any(axis=2)).any(axis=0)
    assert {row.label for row in front.rows} == {str(i) for i in np.flatnonzero(~beaten)}


def test_sections_and_json_say_the_fronts(board):
    text = render(board, "md")
    assert "## Cost: chaos (phantom), preset quick" in text
    lines = [
        re.split(r"\s*\|\s*", line)[1:4] for line in text.splitlines() if line.startswith("| parameters ")
    ]
    assert lines == [
        ["parameters", "1.00M", "e"],
        ["parameters", "10.00M", "b"],
        ["parameters", "30.00M", "a"],
    ]
    assert "Cost: chaos" in render(board, "table")
    assert "Cost: chaos" not in render(board, "latex")
    fronts = json.loads(render(board, "json"))["tables"][0]["cost_fronts"]
    first = next(front for front in fronts if front["cost"] == "ms_per_slice")
    assert [(row["label"], row["at_most"]) for row in first["rows"]] == [("c", 2.0), ("a", 5.0)]


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("parameters=10M,ms=20", {"parameters": 1e7, "ms_per_slice": 20}),
        ("Parameters=500k", {"parameters": 5e5}),
        (" ms = 0.5s , memory=2GB", {"ms_per_slice": 500, "memory_mb": 2000}),
        ("train=1.5h,gflops=.5", {"train_seconds": 5400, "gflops": 0.5}),
        ("memory_mb=300MB", {"memory_mb": 300}),
    ],
)
def test_limits_are_read_with_their_units(text, limits):
    assert parse_limits(text) == pytest.approx(limits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters", "is no limit; write for example parameters=10M,ms=20"),
        ("size=3", "unknown cost 'size'; choose one of: gflops, memory, ms, parameters, train"),
        ("ms=fast", "'fast' is no number above 0"),
        ("ms=-3", "'-3' is no number above 0"),
        ("ms=0", "'0' is no number above 0"),
        ("ms=3MB", "'MB' is no unit of ms; leave it out or use ms, s"),
        ("ms=3,ms_per_slice=4", "names ms twice"),
        ("", "is no limit"),
    ],
)
def test_other_limits_are_refused(text, message):
    with pytest.raises(UsbenchError, match=message):
        parse_limits(text)


def test_the_best_row_under_limits_is_printed_first(board, command, tmp_path):
    table = board.tables[0]
    assert best_under(table, parse_limits("parameters=10M,ms=20")).label == "b"
    assert best_under(table, parse_limits("parameters=10M,ms=19")).label == "e"
    assert best_under(table, parse_limits("ms=1")) is None
    assert best_under(table, parse_limits("gflops=1000")) is None
    for form in ("table", "md"):
        text = render(board, form, under=parse_limits("parameters=10M,ms=20"))
        place = text.index("Best under parameters 10.00M, ms per slice 20.0")
        assert place < text.index("modalities t1-in")
        assert re.search(r"\bb\b.*late.*0\.800", text[place : text.index("modalities t1-in")])
    with pytest.raises(UsbenchError, match="--under is printed in the formats table and md, not in csv"):
        render(board, "csv", under={"ms_per_slice": 1.0})
    add_row(tmp_path / "runs", "unet", [0.5, 0.6])
    failed = command("leaderboard", "--runs-dir", tmp_path / "runs", "--under", "ms=1kg")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: --under ms=1kg: 'kg' is no unit of ms")


def test_the_picture_has_the_chosen_costs(board, command, tmp_path):
    for name, axes in (("one", ["memory"]), ("five", ["parameters", "gflops", "ms", "memory", "train"])):
        write(board, tmp_path / name, pictures=False, cost_axes=axes)
    one, five = (
        np.asarray(Image.open(tmp_path / name / "leaderboard-cost.png").convert("L"))
        for name in ("one", "five")
    )
    assert one.shape == five.shape
    assert not np.array_equal(one, five)
    with pytest.raises(UsbenchError, match="unknown cost 'weight'"):
        write(board, tmp_path / "none", cost_axes=["weight"])
    add_row(tmp_path / "runs", "unet", [0.5, 0.6])
    failed = command("leaderboard", "--runs-dir", tmp_path / "runs", "--cost-axis", "ms")
    assert failed.returncode == 1
    assert "add --out FOLDER" in failed.stderr
