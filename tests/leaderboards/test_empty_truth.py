"""Classes that the truth does not have: it alone decides who counts, and false positives are counted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from kit.handmade import CLASSES, write_run

from usbench.cli.main import main
from usbench.errors import UsbenchError
from usbench.leaderboards import build, render
from usbench.results.io import cases_csv, write_result
from usbench.results.usable import _edges
from usbench.scores.case import score_case
from usbench.scores.summary import summarise

SIDE = 6
SPACING = (10.0, 10.0, 10.0)  # A voxel is 1 ml.
DIAGONAL = math.sqrt(3) * SIDE * 10


def mask(liver: int = 2, spleen: int = 2, shift: int = 0) -> np.ndarray:
    """Two blocks of the given length, 2 x 2 across; 0 for none. `shift` moves the spleen by voxels."""
    found = np.zeros((SIDE, SIDE, SIDE), dtype=np.uint8)
    found[:2, :2, :liver] = 1
    found[4:, 4:, shift : shift + spleen] = 2
    return found


# Both organs in p0 to p3, the liver alone in p4 and p5, neither in p6.
TRUTH = {
    **{f"p{i}": mask() for i in range(4)},
    **{f"p{i}": mask(spleen=0) for i in (4, 5)},
    "p6": mask(0, 0),
}
TIDY = {**TRUTH, "p0": mask(shift=1)}
"""All right, but for the spleen of p0, which lies one voxel of 10 mm beside its place."""
MESSY = {**TIDY, "p4": mask(spleen=3), "p6": mask(2, 0)}
"""A spleen of 12 ml and a liver of 8 ml besides, where there is none."""
LAZY = {**TIDY, "p3": mask(spleen=0)}
"""Nothing of the spleen of p3."""


def add(runs: Path, method: str, predicted: dict[str, np.ndarray]) -> None:
    scores = {
        case: score_case(predicted[case], truth, CLASSES, SPACING, 2.0) for case, truth in TRUTH.items()
    }
    folder = write_run(runs / method, {case: dict.fromkeys(CLASSES, 0.5) for case in TRUTH}, method)
    (folder / "cases.csv").write_text(cases_csv(scores), encoding="utf-8")
    data = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    data["scores"] = summarise(list(scores.values()))
    write_result(folder, data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for method, predicted in (("tidy", TIDY), ("messy", MESSY), ("lazy", LAZY)):
        add(folder, method, predicted)
    return folder


def test_the_truth_alone_decides_which_patients_and_classes_count(runs: Path) -> None:
    (table,) = build(runs).tables
    rows = {row.method: row for row in table.rows}
    # Spleen of p0: 4 of 8 voxels overlap, 2 x 4 / 16 = 0.5, so p0 has 0.75. All else of tidy is 1.
    for method in ("tidy", "messy"):
        assert rows[method].scores["dsc"] == pytest.approx((0.75 + 5) / 6)
        assert rows[method].rank == 1
    # Nobody is scored in p6, who has no organ, whatever is predicted there.
    assert [row.cases for row in table.rows] == [6, 6, 6]
    assert table.tests.patients == 6
    patients = {name: {case: one["dsc"] for case, one in row.patients.items()} for name, row in rows.items()}
    assert patients["messy"] == pytest.approx(patients["tidy"], nan_ok=True)
    assert [case for case, dsc in patients["messy"].items() if math.isnan(dsc)] == ["p6"]


def test_false_positives_are_counted_with_their_volume(runs: Path) -> None:
    board = build(runs)
    rows = {row.method: row for row in board.tables[0].rows}
    # Three patients lack a class. Messy has 12 ml in p4 and 8 ml in p6; the mean is of those two.
    assert {name: (row.false_cases, row.empty_cases) for name, row in rows.items()} == {
        "tidy": (0, 3),
        "messy": (2, 3),
        "lazy": (0, 3),
    }
    assert rows["messy"].scores["false_ml"] == pytest.approx(10)
    assert rows["tidy"].scores["false_ml"] is None
    text = render(board, "md")
    assert "2/3 (10.00 ml)" in text
    assert "0/3 |" in text
    assert "A class that the truth does not have is scored for no row" in text


def test_penalised_distances_stand_beside_those_that_were_found(runs: Path) -> None:
    rows = {row.method: row for row in build(runs).tables[0].rows}
    # Spleen of p0: 10 mm, its liver 0, so 5; of lazy the spleen of p3 has the diagonal.
    assert rows["tidy"].scores["hd95"] == pytest.approx(5 / 6)
    assert rows["lazy"].scores["hd95"] == pytest.approx((5 + DIAGONAL / 2) / 6)
    assert (rows["tidy"].hd95_penalised, rows["lazy"].hd95_penalised) == (0, 1)
    assert rows["lazy"].hd95_found == pytest.approx(5 / 6)


def test_the_convention_of_brats_scores_both_empty_one_and_a_false_positive_zero(runs: Path) -> None:
    board = build(runs, empty="brats")
    rows = {row.method: row for row in board.tables[0].rows}
    assert [row.cases for row in rows.values()] == [7, 7, 7]
    assert rows["tidy"].scores["dsc"] == pytest.approx((0.75 + 6) / 7)
    # Messy: liver 1 and spleen 0 in p4; liver 0 and spleen 1 in p6.
    assert rows["messy"].scores["dsc"] == pytest.approx((0.75 + 4 + 0.5 + 0.5) / 7)
    assert rows["messy"].patients["p4"]["hd95"] == pytest.approx(DIAGONAL / 2)
    assert rows["tidy"].patients["p6"]["hd95"] == 0
    assert json.loads(render(board, "json"))["empty"] == "brats"
    assert "scores 1 where it is not predicted either, else 0" in render(board, "md")


def test_the_command_takes_the_convention_and_no_other(runs: Path) -> None:
    words = ["leaderboard", "--runs-dir", str(runs), "--empty"]
    shown = CliRunner().invoke(main, [*words, "brats", "--format", "csv"])
    assert shown.exit_code == 0, shown.output
    assert f"{(0.75 + 6) / 7:.6f}"[:7] in shown.output
    with pytest.raises(
        UsbenchError, match="unknown rule for empty masks 'zero'; choose one of: brats, truth"
    ):
        build(runs, empty="zero")


def test_a_single_voxel_where_there_is_nothing_is_a_false_positive() -> None:
    nothing = {"tp": 0, "fn": 0, "hd95": math.nan}
    found = _edges(
        [[{**nothing, "fp": 1, "edge": "truth-empty"}, {**nothing, "fp": 0, "edge": "both-empty"}]]
    )
    # Two classes that the truth does not have, one of them predicted, none penalised.
    assert found[0, :3].tolist() == [2, 1, 0]
