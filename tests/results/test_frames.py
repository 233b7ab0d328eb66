"""Results and leaderboards as data frames and as short text, beside numbers by hand and pandas' reader."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit.handmade import make_run

import usbench
from usbench.leaderboards import render
from usbench.results.result import Results
from usbench.scores.registry import all_scores


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two folds of a method; the spleen of p1 has no score."""
    folders = [
        make_run(tmp_path, fold=0, dsc={"p1": (0.8, math.nan), "p2": (0.4, 0.6)}),
        make_run(tmp_path, fold=1, dsc={"p3": (0.9, 0.7), "p4": (0.5, 0.5)}, cost__gflops_per_slice=2.5),
    ]
    return Results(usbench.load_result(folder) for folder in folders)


def test_results_are_a_list_and_a_table(results: Results) -> None:
    assert isinstance(results, list)
    assert (len(results), results[1].data["cell"]["fold"]) == (2, 1)
    frame = results.to_frame()
    assert frame[["task", "data", "method", "fusion", "fold", "seed"]].to_numpy().tolist() == [
        ["chaos", "phantom", "unet", "late", 0, 0],
        ["chaos", "phantom", "unet", "late", 1, 0],
    ]
    # Over the classes that have a score, then over cases: (0.8 + (0.4 + 0.6) / 2) / 2 and (0.8 + 0.5) / 2.
    assert frame["dsc"].tolist() == pytest.approx([0.65, 0.65])
    assert {score.mean_name for score in all_scores()} < set(frame)
    assert frame["parameters"].tolist() == [14_328_354] * 2
    assert np.isnan(frame["gflops_per_slice"][0])
    assert frame["gflops_per_slice"][1] == 2.5
    assert frame["path"].tolist() == [str(result.path) for result in results]
    assert frame["dsc"].dtype == float
    empty = Results().to_frame()
    assert (len(empty), list(empty)) == (0, list(frame))


def test_cases_are_what_pandas_reads_of_the_file(results: Results) -> None:
    read = pd.read_csv(results[0].path / "cases.csv", keep_default_na=False, na_values={"dsc": "", "iou": ""})
    names = ["case", "class", "dsc", "iou", "hd95", "tp", "fp", "fn", "tn", "edge"]
    for name in names:
        ours, theirs = results[0].cases[name], read[name]
        if name == "hd95":
            theirs = pd.to_numeric(theirs)
        assert ours.fillna("none").tolist() == theirs.fillna("none").tolist(), name
    assert results[0].cases is results[0].cases
    assert results[0].cases.groupby("class")["dsc"].mean().to_dict() == pytest.approx(
        {"liver": 0.6, "spleen": 0.6}
    )


def test_a_leaderboard_is_the_table_that_its_csv_holds(results: Results, tmp_path: Path) -> None:
    make_run(tmp_path, "zeus", fold=0)
    board = usbench.leaderboard(tmp_path)
    frame = board.to_frame()
    assert list(frame["method"]) == ["unet", "zeus"]
    assert list(frame["table"].unique()) == ["chaos (phantom), preset quick"]
    read = pd.read_csv(io.StringIO(render(board, "csv")))
    assert list(frame) == list(read)
    for name in ("rank", "dsc", "dsc_low", "dsc_high", "hd95", "parameters", "cases", "folds_done"):
        assert frame[name].astype(float).tolist() == pytest.approx(read[name].tolist(), nan_ok=True), name


def test_what_python_and_notebooks_show_is_short(results: Results, tmp_path: Path) -> None:
    make_run(tmp_path, "<b>", fold=0)
    board = usbench.leaderboard(tmp_path)
    assert repr(results[0]) == (f"<Result: chaos, unet, late, fold 0, seed 0, DSC 0.650, {results[0].path}>")
    assert len(repr(results).splitlines()) == 3
    assert repr(Results()) == "<Results: none>"
    assert repr(board) == "<Leaderboard: 1 table, 2 rows, 0 runs left out>"
    for shown in (results[0]._repr_html_(), results._repr_html_(), board._repr_html_()):
        assert "<table" in shown
        assert len(shown) < 10_000
    assert "0.650" in results._repr_html_()
    # The numbers that pandas gives to rows say nothing.
    assert "<th>0</th>" not in results._repr_html_()
    # Names of methods are other people's words.
    assert "<b>" not in board._repr_html_()
    assert "&lt;b&gt;" in board._repr_html_()


def test_dir_lists_the_api() -> None:
    assert dir(usbench) == sorted(usbench.__all__)
    for name in dir(usbench):
        assert getattr(usbench, name) is not None


@pytest.mark.parametrize("command", ["import usbench; dir(usbench)", "HELP"])
def test_neither_import_nor_help_loads_pandas_or_pydantic(command: str) -> None:
    if command == "HELP":
        command = "from click.testing import CliRunner; from usbench.cli.main import main\n"
        command += "assert CliRunner().invoke(main, ['--help']).exit_code == 0"
    heavy = "pandas", "pydantic", "torch", "SimpleITK", "matplotlib"
    code = f"{command}\nimport sys\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
