"""The formats of the leaderboard: JSON and its schema, LaTeX that compiles, CSV, Markdown, picture."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from kit.handmade import add_row, add_tasks, make_run
from kit.pictures import has_colour
from kit.places import ROOT
from kit.schemas import same_keys
from PIL import Image

from usbench.fusions.looks import Look
from usbench.leaderboards import render, write
from usbench.leaderboards.board import build
from usbench.leaderboards.cost_plot import cost_figure
from usbench.leaderboards.latex import escape
from usbench.leaderboards.learning import Curve, Learning, Point
from usbench.leaderboards.learning_plot import learning_figure
from usbench.leaderboards.plain import BOARD_SCHEMA_VERSION, board_schema
from usbench.leaderboards.subgroup_plot import subgroup_figure
from usbench.leaderboards.subgroups import SubgroupScore, SubgroupTable
from usbench.leaderboards.terminal import as_terminal
from usbench.pages.figures import COLOURS

SPECIAL = r"my_net & 50% #1 {x} ~ ^ \y $z$ <|>" + '"'

# Mappings whose keys are names of settings, tasks or patients.


@pytest.fixture(scope="module")
def full_board(tmp_path_factory):
    """A board with every section: three tasks, fusions, an incomplete row, an odd name, a problem."""
    runs = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 0.8, 12)
    for i, fusion in enumerate(("early", "hybrid", "late")):
        dsc = (base + 0.03 * i + rng.normal(0, 0.01, 12)).tolist()
        add_row(runs, "unet", dsc, fusion, folds=3, seed=0)
        add_row(runs, "unet", dsc[::-1], fusion, folds=3, seed=1)
    add_row(runs, SPECIAL.replace("/", ""), (base - 0.1).tolist(), folds=3)
    add_row(runs, "unext", base.tolist(), folds=3, done=[0])
    add_tasks(runs, "unet", (None, 0.7, 0.8))
    add_row(runs, "[odd]", [0.5, 0.6], cell__task="msd-brain")
    add_row(runs, "transunet", [0.5, 0.6], cell__task="msd-brain")
    newer = {"method__source_hash": "e" * 64, "provenance__finished": "2026-01-01T00:00:00Z"}
    add_row(runs, "transunet", [0.5, 0.7], cell__task="msd-brain", **newer)
    (make_run(runs, "edited") / "cases.csv").write_text("")
    return build(runs, baseline="unet-early")


def test_json_has_what_its_schema_explains(full_board):
    data = json.loads(render(full_board, "json"))
    assert data["schema"] == BOARD_SCHEMA_VERSION == 4
    with_effects = [table for table in data["tables"] if table["fusion_effects"]]
    assert len(with_effects) == 1
    # What only some tables and rows have, all of them get: an empty list says nothing of its keys.
    also = next(row["also"] for table in data["tables"] for row in table["rows"] if row["also"])
    for table in data["tables"]:
        for row in table["rows"]:
            row["also"] = row["also"] or also
        for part in ("fusion_effects", "baseline"):
            table[part] = table[part] or with_effects[0][part]
        table["schemes"] = table["schemes"] or with_effects[0]["schemes"]
        table["split_half"] = table["split_half"] or with_effects[0]["split_half"]
    same_keys(data, board_schema())


def test_json_numbers_are_unrounded_and_lead_to_their_runs(full_board):
    data = json.loads(render(full_board, "json"))
    table = next(table for table in data["tables"] if table["task"] == "chaos")
    ours = full_board.tables[0]
    assert table["split_half"]["agreement"] == ours.split_half.agreement
    for row, own in zip(table["rows"], ours.rows, strict=True):
        assert row["dsc"] == own.scores["dsc"]
        assert row["p_leader"] == own.p_leader
        # Every number can be computed again from the runs that the row names.
        scores = {}
        for run in row["runs"]:
            for line in csv.DictReader((Path(run["path"]) / "cases.csv").open()):
                scores.setdefault(line["case"], []).append(float(line["dsc"]))
        assert row["patients"] == pytest.approx({case: np.mean(values) for case, values in scores.items()})
        assert row["dsc"] == pytest.approx(np.mean([np.mean(values) for values in scores.values()]))
    unet = next(row for row in table["rows"] if row["label"] == "unet" and row["fusion"] == "late")
    assert sorted((run["fold"], run["seed"]) for run in unet["runs"]) == [
        (fold, seed) for fold in range(3) for seed in range(2)
    ]
    assert unet["seed_sd"] == 0 or unet["seed_sd"] < 1e-12


def test_csv_has_a_line_a_row_and_the_runs(full_board):
    lines = list(csv.DictReader(io.StringIO(render(full_board, "csv"))))
    assert len(lines) == sum(len(table.rows) for table in full_board.tables)
    first = lines[0]
    assert (first["standing"], first["best"], first["rank_low"]) == ("leader", "True", "1")
    assert len(first["runs"].split(";")) == 6
    assert all((Path(path) / "result.json").is_file() for path in first["runs"].split(";"))
    assert "patients" not in first
    assert float(first["dsc"]) == full_board.tables[0].rows[0].scores["dsc"]


def test_text_formats_say_how_it_was_tested(full_board):
    for form in ("table", "md", "latex"):
        text = " ".join(unescape(render(full_board, form)).replace("\\", "").split())
        text = text.replace("textless{}", "<")
        assert "flips of the signs of whole patients' differences of DSC" in text
        assert "step-down maxT (Westfall and Young 1993) over the 6 pairs of 4 ranked rows" in text
        assert "Below the leader: separated from unet, late (p <= 0.05)" in text
        assert "another seed may reverse them" in text
        assert "Effect of fusion" in text
        assert "early - hybrid" in text
        assert "Kendall's tau" in text
        assert "Over all tasks (phantom data, preset quick, size 96)" in text
        assert "usbench leaderboard --reported fitting shows them" in text
        assert "Not testable (n = 2: smallest p 0.5): no row is separated from another." in text


def test_markdown_tables_are_whole(full_board):
    lines = render(full_board, "md").splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and before.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", before))
    headings = [line for line in lines if line.startswith("#")]
    assert headings[0] == "# Leaderboard"
    assert sum(line.startswith("### Effect of fusion") for line in headings) == 1


def test_best_is_bold_and_second_underlined(tmp_path):
    # By DSC a, b, c; HD95 is 10 x (1 - DSC), so the least is a's too. d is better, but incomplete.
    for method, dsc in (("a", 0.9), ("b", 0.8), ("c", 0.8), ("e", 0.1)):
        add_row(tmp_path, method, [dsc] * 6)
    add_row(tmp_path, "d", [0.99] * 6, folds=2, done=[0])
    board = build(tmp_path)
    two_folds, one_fold = render(board, "latex"), board.tables[0]
    lines = {line.split(" & ")[2]: line for line in two_folds.splitlines() if line.count(" & ") > 5}
    assert len(one_fold.rows) == 5
    # DSC, mIoU, HD95, NSD, ASSD, MSSD, RAVD; of RVD, -0.100 here, no value is the best.
    assert lines["a"].count(r"\textbf{") == 7
    assert "& -0.100 &" in lines["a"]
    assert r"\textbf{0.900}" in lines["a"]
    assert r"\textbf{1.0}" in lines["a"]
    for method in ("b", "c"):
        assert lines[method].count(r"\underline{") == 7
        assert r"\textbf{" not in lines[method]
    for method in ("d", "e"):
        assert r"\textbf{" not in lines[method]
        assert r"\underline{" not in lines[method]


def test_latex_is_balanced_and_escaped(full_board):
    text = render(full_board, "latex")
    assert escape(r"a_b & 5% #\$") == r"a\_b \& 5\% \#\textbackslash{}\$"
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    for environment in ("table", "tabular"):
        assert body.count(rf"\begin{{{environment}}}") == body.count(rf"\end{{{environment}}}") > 3
    bare = re.sub(r"\\[{}&%$#_]", "", body)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"[$#^~]", re.sub(r"\\textasciicircum|\\textasciitilde", "", bare))
    # Every line of a table has as many cells as its column specification.
    for align, inside in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", bare, re.S):
        cells = [line for line in inside.splitlines() if line.endswith(r"\\")]
        assert {line.count(" & ") + 1 for line in cells} == {len(align)}


def test_latex_compiles(full_board, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    document = (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n"
        "\\usepackage{graphicx}\n\\begin{document}\n" + render(full_board, "latex") + "\\end{document}\n"
    )
    (tmp_path / "board.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "board.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    # No table is wider than the page.
    assert not [line for line in done.stdout.splitlines() if line.startswith("Overfull \\hbox")]
    assert (tmp_path / "board.pdf").stat().st_size > 10_000


def test_cost_figure_shows_every_fusion(full_board, tmp_path):
    path = tmp_path / "cost.png"
    assert cost_figure(full_board.tables, path)
    width, height = Image.open(path).size
    assert width > 1000
    assert height > 300 * len(full_board.tables)
    assert all(has_colour(path, COLOURS[i]) for i in (4, 5, 6))
    assert not cost_figure([], tmp_path / "none.png")
    assert [p.name for p in tmp_path.iterdir()] == ["cost.png"]


@pytest.mark.parametrize("count", [3, 29, 40])
def test_names_beside_the_cost_figure_neither_meet_nor_leave_it(full_board, tmp_path, monkeypatch, count):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: drawn.append(self))
    (table,) = [t for t in full_board.tables if t.rows[0].scores["dsc"] is not None][:1]
    row = replace(table.rows[0], label="unet [bundled efficientnet-lite0 (57934424)], images")
    cost_figure([replace(table, rows=[row] * count)], tmp_path / "cost.png")
    (figure,) = drawn
    key, names = figure.axes[-1], figure.axes[-1].texts
    boxes = [name.get_window_extent() for name in names]
    assert len(boxes) == min(count, 34)
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert boxes[-1].y0 >= key.get_window_extent().y0


@pytest.mark.parametrize("count", [7, 20, 34, 50])
def test_long_names_beside_the_cost_figure_can_be_read(full_board, tmp_path, monkeypatch, count):
    """Rows of seven settings each: no letter below 5 points, no word lost; the plot above stays as it is."""
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: drawn.append(self))
    (table,) = [t for t in full_board.tables if t.rows[0].scores["dsc"] is not None][:1]
    label = (
        "zeus [bundled], warm-up 1, code d358da2e52, about own, encoder_lora 0, instruction text, "
        "llm_precision 32, per case"
    )
    few, rows = table.rows[:1], [replace(table.rows[0], label=label)] * count
    for first, second in ((few, few), (few, rows)):
        cost_figure([replace(table, rows=one) for one in (first, second)], tmp_path / "cost.png")
    usual, figure = drawn
    # In pixels from the top of the picture: the first table, and the top of the second.
    ends = [
        [(one.bbox.y1 - axes.bbox.y1, one.bbox.y1 - axes.bbox.y0) for axes in one.axes]
        for one in (usual, figure)
    ]
    assert ends[1][0] == pytest.approx(ends[0][0], abs=0.5)
    assert ends[1][-1][0] == pytest.approx(ends[0][-1][0], abs=0.5)
    names = figure.axes[-1].texts
    boxes = [name.get_window_extent() for name in names]
    assert len(names) == min(count, 34)
    assert boxes[-1].y0 >= figure.axes[-1].bbox.y0
    assert min(name.get_fontsize() for name in names) >= 5
    assert all(name.get_text().split()[1:] == rows[0].name.split() for name in names)
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


LONG = "unet [bundled efficientnet-lite0 (57934424)], images"
LOOKS = {"early": Look("early", "#0072b2", "#56b4e9", "circle")}


@pytest.mark.parametrize("label", [LONG, LONG * 3])
@pytest.mark.parametrize("count", [3, 29, 40])
def test_names_beside_learning_curves_neither_meet_nor_leave_it(tmp_path, monkeypatch, count, label):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: drawn.append(self))
    points = tuple(Point(str(n), n, n, 0.5, 0.4, 0.6, 9, 1, 1, "table") for n in (2, 9))
    curves = (Curve("unet", label, "early", points),) * count
    learning_figure([Learning("title", "chaos", "real", curves)], LOOKS, tmp_path / "learning.png")
    (figure,) = drawn
    boxes = [name.get_window_extent() for name in figure.axes[-1].texts]
    assert len(boxes) == min(count, 30)
    assert all(name.get_fontsize() >= 5 for name in figure.axes[-1].texts)
    assert boxes[-1].y0 >= figure.axes[-1].bbox.y0
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


@pytest.mark.parametrize(
    "label", ["unet", LONG, "zeus [bundled], instruction text, about shuffled, warm-up 1, size 56", LONG * 3]
)
def test_names_beside_subgroups_neither_meet_nor_leave_it(tmp_path, monkeypatch, label):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: drawn.append(self))
    labels = [f"{label} {i}" for i in range(30)]
    scores = tuple(SubgroupScore(one, "early", "", "liver", 9, 0.5, 0.4, 0.6, ()) for one in labels)
    subgroup_figure([SubgroupTable("title", "class", scores, ())], LOOKS, tmp_path / "subgroups.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    boxes = [name.get_window_extent() for name in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 30
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
    assert all(name.get_fontsize() >= 5 for name in figure.axes[0].get_yticklabels())


@pytest.mark.parametrize(
    ("counts", "times", "some"),
    [
        ((4_500_000, 14_200_000), (22, 33), ("10M", "30")),
        ((3_900_000, 60_000_000), (5.5, 57.0), ("10M", "20")),
        ((900_000, 88_000_000), (0.4, 7.0), ("5M", "2")),
        ((20_000, 105_000_000), (0.7, 900.0), ("100k", "100")),
    ],
)
def test_cost_axis_has_few_plain_numbers(full_board, tmp_path, monkeypatch, counts, times, some):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: drawn.append(self))
    (table,) = [t for t in full_board.tables if t.rows[0].scores["dsc"] is not None][:1]
    rows = [
        replace(table.rows[0], parameters=count, ms_per_slice=ms)
        for count, ms in zip(counts, times, strict=True)
    ]
    cost_figure([replace(table, rows=rows)], tmp_path / "cost.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    for axes, one in zip(figure.axes, some, strict=False):
        low, high = axes.get_xlim()
        marks = []
        for minor in (False, True):
            places, labels = axes.get_xticks(minor=minor), axes.get_xticklabels(minor=minor)
            marks += [b for a, b in zip(places, labels, strict=True) if low <= a <= high and b.get_text()]
        boxes = [label.get_window_extent() for label in marks]
        assert one in [label.get_text() for label in marks]
        assert not any("$" in label.get_text() for label in marks)
        assert 2 <= len(marks) <= 7
        assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))


def test_cost_figure_of_many_tables_leaves_some_out(full_board, tmp_path, monkeypatch):
    monkeypatch.setattr("usbench.leaderboards.cost_plot._TABLES", 2)
    table = full_board.tables[-1]
    sizes = []
    for count in (2, 3):
        assert cost_figure([table] * count, tmp_path / f"{count}.png")
        sizes.append(Image.open(tmp_path / f"{count}.png").size)
    assert sizes[0] == sizes[1]
    two, three = (np.asarray(Image.open(tmp_path / f"{count}.png").convert("L")) for count in (2, 3))
    # The words on what is left out, at the foot.
    assert (two[-40:, :] < 128).sum() < (three[-40:, :] < 128).sum()


def test_board_without_any_score_is_written(tmp_path):
    nan = float("nan")
    add_row(tmp_path / "runs", "one", [nan, nan])
    names = [path.name for path in write(build(tmp_path / "runs"), tmp_path / "out")]
    assert names == [f"leaderboard.{suffix}" for suffix in ("md", "csv", "json", "tex", "html")]


@pytest.mark.parametrize("columns", [60, 80, 120, 160])
def test_terminal_fits_its_width(full_board, monkeypatch, columns):
    monkeypatch.setattr("sys.stdout", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = render(full_board, "table").splitlines()
    lines += as_terminal(replace(full_board, shortened=False)).splitlines()
    ours = [line for line in lines if not re.match(r"(too narrow for|modalities |  /|left out)", line)]
    assert max(map(len, ours)) <= columns
    assert any("DSC [95% CI]" in line for line in lines)


def test_command_prints_every_format_and_writes_them(command, tmp_path):
    add_row(tmp_path / "runs", "unet", [0.5, 0.6, 0.7, 0.8])
    words = ("leaderboard", "--runs-dir", tmp_path / "runs")
    done = command(*words, "--format", "latex", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert r"\toprule" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "leaderboard-cost.png", "leaderboard.csv", "leaderboard.html", "leaderboard.json", "leaderboard.md",
        "leaderboard.tex",
    ]  # fmt: skip
    assert (tmp_path / "out" / "leaderboard.tex").read_text() == done.stdout.rstrip("\n") + "\n"
    failed = command(*words, "--format", "yaml")
    assert failed.returncode == 1
    assert "unknown format 'yaml'" in failed.stderr


@pytest.mark.slow
def test_the_benchmark_of_five_hundred_results_runs(cache):
    file = ROOT / "benchmarks" / "leaderboard.py"
    done = subprocess.run(
        [sys.executable, str(file), "--results", "500"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results, rows, patients, *_ = done.stdout.splitlines()[1].split()
    assert (results, rows, patients) == ("500", "100", "150")
