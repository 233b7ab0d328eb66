"""Rows of other programs stand beside all that they share a frame with, marked, with unknown costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.handmade import write_run

from usbench.leaderboards.board import build
from usbench.leaderboards.formats import text_of
from usbench.results.digests import frame_of_result, protocol_of_result
from usbench.results.io import load_result

DATA = {"size": 96, "resize": "area", "normalise": "zscore", "plane": "axial"}
TRAIN = {"epochs": 3}


def put(runs: Path, method: str, dsc: tuple[float, ...], **changes: Any) -> Path:
    """A finished run of one fold; patients have the given DSC."""
    values = {f"p{number}": {"liver": value} for number, value in enumerate(dsc)}
    facts = {"data__fingerprint": "a" * 64, "config__data": DATA, "config__train": TRAIN, **changes}
    return write_run(runs / f"{method}-{len(list(runs.rglob('result.json')))}", values, method, **facts)


def put_outside(runs: Path, kind: str, dsc: tuple[float, ...], **changes: Any) -> Path:
    unknown = (
        "parameters",
        "trainable",
        "ms_per_slice",
        "peak_memory_mb",
        "train_seconds",
        "gflops_per_slice",
    )
    outside = {
        "kind": kind, "label": f"their {kind}", "missing": [], "claims": [], "predict_seconds": None,
        "versions": {},
    }  # fmt: skip
    facts: dict[str, Any] = {f"cost__{name}": None for name in unknown}
    facts |= {"config__data": {}, "config__train": {}, "schema": 2, "outside": outside, "protocol": "0" * 12}
    return put(runs, f"their-{kind}", dsc, **{**facts, **changes})


def test_two_tables_of_one_frame_have_the_row_and_a_third_does_not(tmp_path: Path) -> None:
    put(tmp_path, "unet", (0.8, 0.6), protocol="a" * 12)
    put(tmp_path, "resunet", (0.7, 0.5), protocol="b" * 12, config__data={**DATA, "size": 128})
    put(tmp_path, "unext", (0.7, 0.5), protocol="c" * 12, split__digest="e" * 64)
    put_outside(tmp_path, "pipeline", (0.9, 0.7))
    put_outside(tmp_path, "masks", (0.5, 0.3))
    board = build(tmp_path)
    assert not board.problems
    labels = {table.protocol[0]: [(row.rank, row.label) for row in table.rows] for table in board.tables}
    pipeline, masks = "their pipeline (outside pipeline)", "their masks (masks from elsewhere)"
    assert labels == {
        "a": [(1, pipeline), (2, "unet"), (3, masks)],
        "b": [(1, pipeline), (2, "resunet"), (3, masks)],
        "c": [(1, "unext")],
    }


def test_without_a_table_of_its_frame_it_has_one_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "unext", (0.7, 0.5), protocol="c" * 12, split__digest="e" * 64)
    put_outside(tmp_path, "masks", (0.5, 0.3))
    own = next(table for table in build(tmp_path).tables if table.protocol[0] == "0")
    assert own.title == "chaos (sample), masks of other programs"


@pytest.mark.parametrize("suffix", ["md", "csv", "json", "tex", "html"])
def test_every_format_marks_the_row(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, "unet", (0.8, 0.6), protocol="a" * 12)
    put_outside(tmp_path, "masks", (0.5, 0.3))
    assert "masks from elsewhere" in text_of(build(tmp_path), suffix)


def test_the_frame_of_a_result_is_the_protocol_of_masks_from_elsewhere(tmp_path: Path) -> None:
    inside = load_result(put(tmp_path, "unet", (0.8, 0.6))).data
    outside = load_result(put_outside(tmp_path, "masks", (0.5, 0.3))).data
    assert frame_of_result(inside) == frame_of_result(outside) == protocol_of_result(outside)
    assert protocol_of_result(inside) != frame_of_result(inside)


def test_null_costs_and_the_block_outside_come_together(tmp_path: Path) -> None:
    from usbench.errors import UsbenchError

    with pytest.raises(UsbenchError, match=r"'cost\.parameters' is null without outside"):
        put(tmp_path / "a", "unet", (0.8, 0.6), cost__parameters=None)
    with pytest.raises(UsbenchError, match="against its schema"):
        put_outside(tmp_path / "b", "masks", (0.5, 0.3), schema=1)
    with pytest.raises(UsbenchError, match="settings of data or training"):
        put_outside(tmp_path / "c", "masks", (0.5, 0.3), config__train=TRAIN)
