"""The entries of the scores themselves, and the table of them in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from usbench.contracts.score import MeasuredClass
from usbench.results.io import case_columns
from usbench.scores.labels import union_box
from usbench.scores.registry import all_scores, beside_dsc
from usbench.scores.text import definitions

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_document_has_the_table_of_the_entries():
    text = DOCUMENT.read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- scores: .*? -->\n(.*?)\n<!-- end of scores -->", text, re.DOTALL)
    assert table == definitions(all_scores())


def test_only_the_first_scores_are_in_every_result():
    # Any other entry that does not say when it was added would make all older results unreadable.
    everywhere = [score.name for score in all_scores() if not score.added]
    assert everywhere == ["dsc", "iou", "hd95", "nsd", "sensitivity", "specificity"]


def test_entries_have_names_of_their_own_and_say_what_they_are():
    scores = all_scores()
    taken = [*case_columns(), *(score.mean_name for score in scores if score.mean)]
    assert len(set(taken)) == len(taken)
    assert len({score.label for score in scores}) == len(scores)
    for score in scores:
        assert score.name.isidentifier()
        assert score.sentence
        assert not score.sentence.endswith(".")
    assert [score.mean_heading for score in beside_dsc()] == [
        "mIoU", "HD95 mm", "NSD", "ASSD mm", "MSSD mm", "RVD", "RAVD",
    ]  # fmt: skip


def test_digits_and_units_are_those_of_the_field():
    # Shares to a thousandth; distances to a tenth of a mm, their mean to a hundredth; volumes to 10 mm^3.
    assert {score.name: (score.digits, score.unit) for score in all_scores()} == {
        "dsc": (3, ""), "iou": (3, ""), "sensitivity": (3, ""), "specificity": (3, ""), "hd95": (1, "mm"),
        "nsd": (3, ""), "assd": (2, "mm"), "mssd": (1, "mm"), "rvd": (3, ""), "ravd": (3, ""),
        "false_ml": (2, "ml"),
    }  # fmt: skip


@pytest.mark.parametrize("tp_fp_fn", [(0, 5, 0), (0, 0, 5)])
def test_no_surface_is_searched_where_one_mask_is_empty(tp_fp_fn):
    def measure():
        raise AssertionError("there is no surface to measure from")

    tp, fp, fn = tp_fp_fn
    edge = "prediction-empty" if fn else "truth-empty"
    measured = MeasuredClass(tp, fp, fn, 100, (1.0, 1.0, 1.0), 17.0, 1.0, edge, measure)
    found = {score.name: score.of(measured) for score in all_scores()}
    assert (found["hd95"], found["assd"], found["mssd"], found["nsd"]) == (17.0, 17.0, 17.0, 0.0)
    assert found["dsc"] == 0


def test_which_scores_are_columns_and_which_are_printed_after_a_run():
    assert [score.name for score in all_scores() if score.in_leaderboard] == [
        "dsc", "iou", "hd95", "nsd", "assd", "mssd", "rvd", "ravd",
    ]  # fmt: skip
    assert [score.name for score in all_scores() if score.in_summary] == [
        "dsc", "iou", "hd95", "nsd", "sensitivity",
    ]  # fmt: skip


@pytest.mark.parametrize("dtypes", [("uint8", "uint8"), ("uint8", "int16"), ("float32", "uint8")])
def test_the_box_of_two_masks_is_the_smallest_that_holds_both(dtypes):
    prediction, truth = (np.zeros((9, 8, 7), dtype) for dtype in dtypes)
    prediction[5, 1, 3] = 2
    truth[2:4, 4, 5] = 1
    assert union_box(prediction, truth) == (slice(2, 6), slice(1, 5), slice(3, 6))
    marked = np.argwhere((prediction != 0) | (truth != 0))
    first, last = marked.min(axis=0), marked.max(axis=0) + 1
    assert union_box(prediction, truth) == tuple(map(slice, first.tolist(), last.tolist()))
    assert union_box(prediction * 0, truth * 0) == (slice(0, 0),) * 3
