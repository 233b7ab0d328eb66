"""What `usbench run` can be told, `usbench matrix` tells each of its cells."""

from __future__ import annotations

from typing import Any

import pytest
from kit.places import ROOT
from kit.requests import parsed

import usbench
from usbench.cli.run import run
from usbench.contracts.options import options_of
from usbench.contracts.request import Request, run_options
from usbench.matrices.drive import job_of
from usbench.matrices.request import MatrixRequest, matrix_options
from usbench.matrices.resources import Place

PLURAL = {one.instead_of for one in options_of(MatrixRequest).values()} - {""}
ALONE = ("nodes", "overwrite")
"""The options that a matrix does not have; docs/matrix.md says why."""

OTHER: dict[str, Any] = {
    "data": "phantom",
    "modalities": "t2",
    "merge_labels": "all",
    "train_cases": "1",
    "precision": "bf16",
    "limit": 3,
    "keep_weights": False,
    "loggers": ["csv"],
    "cache_gb": 3.0,
    "yes": True,
}
"""Options with values that are not their defaults."""

ELSEWHERE = ("scanner", "devices", "config", "train_share", "folds", "preset", "settings", "device")
"""Those that exclude others, want a machine, or are settled before a cell is made: other tests see them."""


def test_every_option_of_run_is_one_of_matrix() -> None:
    """A new option of `run` is one of `matrix` too, or is named above and in the documentation."""
    assert set(run_options()) - set(matrix_options()) == PLURAL | set(ALONE)
    text = (ROOT / "docs" / "matrix.md").read_text()
    assert [name for name in ALONE if f"`--{name}`" not in text] == []


def test_every_option_reaches_the_request_of_a_cell(words: dict[str, Any]) -> None:
    asked = {**words, **OTHER, "fusions": "early", "folds": "0", "runs_dir": words["runs_dir"].absolute()}
    shared = MatrixRequest.of(**asked).shared
    cells = usbench.matrix(**asked, dry_run=True).cells
    passed = set(run_options()) - PLURAL - set(ALONE) - set(ELSEWHERE)
    untold = [name for name in passed if getattr(shared, name) == getattr(Request(), name)]
    assert untold == [], "give the new option a value in OTHER"
    for name in passed:
        assert getattr(cells[0].plan.request, name) == getattr(shared, name), name


@pytest.mark.parametrize("keep", [True, False])
def test_keeping_the_network(words: dict[str, Any], keep: bool) -> None:
    """Also on the command line of a `usbench run`, which computes cells of several devices."""
    asked = {**words, "fusions": "early", "folds": "0", "keep_weights": keep}
    usbench.matrix(**asked)
    (cell,) = usbench.matrix(**asked, dry_run=True).cells
    job = job_of(cell, Place("cpu", None, 1, 0, 1, False, 1))
    assert job.cell.request.keep_weights is keep
    assert parsed(run, job.cell.request.command()) == job.cell.request
    assert bool(list(words["runs_dir"].rglob("network.safetensors"))) is keep
