"""Tables with chosen columns: the LaTeX compiles, spreads are those of numpy, errors say what there is."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from kit.handmade import add_row
from kit.intervals import of_scores

from usbench.errors import UsbenchError
from usbench.leaderboards import View, build, render
from usbench.leaderboards.latex import escape

ODD = "n_1 & 50% #2 café αΩ ± 中"
# Eight patients: of fewer than six nothing is marked.
FIRST = [0.5, 0.6, 0.7, 0.9] * 2


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Two methods under all fusions, but one that lacks hybrid and is incomplete under late."""
    runs = tmp_path_factory.mktemp("runs")
    for place, fusion in enumerate(("early", "hybrid", "late")):
        add_row(runs, ODD, [value + 0.02 * place for value in FIRST], fusion, folds=2)
    add_row(runs, "[odd]", [0.4, 0.5, 0.6, 0.7] * 2, "early", folds=2)
    add_row(runs, "[odd]", [0.8, 0.9, 0.9, 0.9] * 2, "late", folds=2, done=[0])
    return build(runs)


def body(text: str) -> list[list[str]]:
    """The cells of the lines of LaTeX tables."""
    return [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]


def test_nothing_is_marked_where_nothing_can_be_tested(tmp_path):
    for method, value in (("one", 0.9), ("two", 0.2)):
        add_row(tmp_path, method, [value, value - 0.1, value - 0.05, value - 0.02])
    for view in (None, View(("dsc",))):
        text = render(build(tmp_path), "latex", view)
        assert not re.search(r"\\textbf|\\underline", text)


def test_methods_by_fusions_has_a_group_of_columns_for_each_fusion(board):
    view = View(("dsc", "parameters"), layout="methods-by-fusions", label="tab:a", caption="50% of {x}_y")
    text = render(board, "latex", view)
    groups, heads, first, second = (cells for cells in body(text.replace(r"\&", "and")))
    assert groups == ["", *(rf"\multicolumn{{2}}{{c}}{{{name}}}" for name in ("early", "hybrid", "late"))]
    assert heads == ["method", *["DSC", "parameters"] * 3]
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5} \cmidrule(lr){6-7}" in text
    # By hand: the means of FIRST and of FIRST + 0.02 and + 0.04.
    assert first[1::2] == ["0.675", r"\underline{0.695}", r"\textbf{0.715}"]
    assert second == ["{}[odd]", "0.550", "14.33M", "--", "--", r"0.850\textsuperscript{*}", "14.33M"]
    assert r"\label{tab:a}" in text
    assert r"\caption{50\% of \{x\}\_y}" in text
    assert "* Not ranked: incomplete: 1 of 2 folds: [odd], late" in text


def test_standard_deviation_is_that_of_numpy_and_the_interval_that_of_the_row(board):
    by_sd = list(csv.DictReader(io.StringIO(render(board, "csv", View(("dsc", "hd95"), "sd")))))
    by_interval = list(csv.DictReader(io.StringIO(render(board, "csv", View(("dsc",), "interval")))))
    for row, sd, ends in zip(board.tables[0].rows, by_sd, by_interval, strict=True):
        values = [scores["dsc"] for scores in row.patients.values()]
        assert float(sd["dsc_sd"]) == pytest.approx(np.std(values, ddof=1))
        # HD95 of the runs made by hand is 10 x (1 - DSC).
        assert float(sd["hd95_sd"]) == pytest.approx(10 * np.std(values, ddof=1))
        shown = tuple(float(ends[name]) if ends[name] else None for name in ("dsc_low", "dsc_high"))
        assert shown == ((None, None) if row.interval is None else pytest.approx(of_scores(values)))
        assert list(ends) == ["table", "method", "fusion", "dsc", "dsc_low", "dsc_high"]
    late = next(row for row in body(render(board, "latex", View(("dsc",), "sd"))) if "late" in row[-2])
    assert late[-1] == rf"\textbf{{0.715}} \ensuremath{{\pm}} {np.std(FIRST, ddof=1):.3f}"


def test_markdown_has_the_chosen_columns_alone(board):
    lines = render(board, "md", View(("fusion", "ms_per_slice", "DSC"), "interval")).splitlines()
    head = next(line for line in lines if line.startswith("| "))
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["method", "fusion", "ms/slice", "DSC"]
    assert any(re.search(r"0\.715 \[0\.\d{3}, 0\.\d{3}\]", line) for line in lines)
    assert not [line for line in lines if line.startswith("### Effect")]


@pytest.mark.parametrize(
    ("view", "form", "message"),
    [
        (
            View(("dcs",)),
            "md",
            r"unknown column 'dcs', did you mean 'dsc'\? choose one of: assd, best, cases, dsc,",
        ),
        (View(spread="var"), "md", "unknown spread 'var'; choose one of: interval, none, sd"),
        (View(layout="grid"), "md", "unknown layout 'grid'"),
        (View(("dsc",)), "json", "--format json holds everything"),
        (View(layout="methods-by-fusions"), "csv", "CSV has a line a row"),
        (View(label="a"), "md", "--label and --caption are of LaTeX"),
        (View(label="a}b"), "latex", "LaTeX cannot refer to a label with '}'"),
    ],
)
def test_what_cannot_be_shown_is_refused(board, view, form, message):
    with pytest.raises(UsbenchError, match=message):
        render(board, form, view)


def test_escape_knows_letters_beyond_ascii():
    assert escape("é") == "é"
    assert escape("e\u0301") == "é"
    assert escape("\N{GREEK SMALL LETTER ALPHA}±") == r"\ensuremath{\alpha}\ensuremath{\pm}"
    assert escape("中") == "(U+4E2D)"


def test_command_prints_the_chosen_table(command, tmp_path):
    add_row(tmp_path / "runs", "unet", FIRST)
    words = ("leaderboard", "--runs-dir", tmp_path / "runs")
    done = command(*words, "--format", "csv", "--columns", "dsc,train-seconds", "--spread", "sd")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "table,method,fusion,dsc,dsc_sd,train_seconds"
    failed = command(*words, "--columns", "nothing")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: unknown column 'nothing'")


@pytest.mark.parametrize("layout", ["rows", "methods-by-fusions"])
def test_latex_of_both_layouts_compiles(board, tmp_path, layout):
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        pytest.skip("neither pdflatex nor tectonic is here (Debian: texlive-latex-base and -recommended)")
    view = View(("dsc", "hd95", "weights", "parameters"), "interval", layout, "tab:all", "Ünïcode_& 5% #")
    document = (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n"
        "\\usepackage{graphicx}\n\\begin{document}\nTable~\\ref{tab:all}.\n"
        + render(board, "latex", view)
        + "\\end{document}\n"
    )
    (tmp_path / "board.tex").write_text(document, encoding="utf-8")
    words = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in program else []
    done = subprocess.run(
        [program, *words, "board.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout
    assert (tmp_path / "board.pdf").stat().st_size > 5_000
    if shutil.which("pdftotext"):
        words = ["pdftotext", "board.pdf", "-"]
        shown = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout
        assert "n_1 & 50% #2 caf" in shown.replace("\n", " ")
