"""What was recomputed is what counts: tamperings of the campaign, and what is said of the same masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaigns.tamper import Ground
from campaigns.tamperings import TAMPERINGS
from kit.tampering import EXAMPLE, Members, change_result, lay_out, put_together, taken_apart

from usbench.errors import UsbenchError
from usbench.leaderboards import render
from usbench.leaderboards.board import build
from usbench.leaderboards.plain import SAID_SCHEMA, as_dict
from usbench.results.masks import find_twins, mask_digest
from usbench.submissions.card import write_template
from usbench.submissions.verify import read_record, verify, write_record

TRIED = (
    "every DSC up by 9e-7",
    "every score better by 9e-7",
    "every DSC up by 1.1e-6",
    "Arabic digits in a count",
    "a score in words",
    "a history in Arabic",
    "a qform beside",
    "micrometres",
    "another fingerprint",
    "a fingerprint of zeros",
    "a learning rate within rounding",
    "one parameter",
    "a record of a DSC up by 9e-7",
    "a record of version 1",
)


@pytest.fixture(scope="module")
def ground(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.parametrize("name", TRIED)
def test_no_tampering_moves_a_rank_a_test_or_an_average(name: str, ground: Ground) -> None:
    came = ground.tried(name, TAMPERINGS[name])
    assert came["came"] == came["wanted"], came["why"]


def late(members: Members) -> None:
    """The same masks under another fusion."""
    members["card.yaml"] = members["card.yaml"].replace(b"unext-small, worked example", b"copy")
    change_result(members, lambda data: data["cell"].update(fusion="late", seed=3), fold=None)


def test_the_same_masks_under_another_name_are_said(cache: Path, tmp_path: Path) -> None:
    members = taken_apart()
    late(members)
    copy = put_together(tmp_path / "copy.zip", members)
    own = lay_out(taken_apart(), tmp_path / "own")
    found = verify(copy, runs_dir=own)
    (said,) = [note for note in found.notes if "the same masks" in note]
    assert "in all 10 patients: copy: unext-small, late, seed 3; " in said
    assert "(yours), seed 0" in said
    beside = verify(copy, beside=verify(EXAMPLE).trainings)
    assert any("worked example: unext-small, hybrid, seed 0" in note for note in beside.notes)
    write_record(found)
    board = build(own, submissions=tmp_path)
    (table,) = board.tables
    (note,) = table.notes
    assert note.startswith("The same masks, voxel by voxel, in all 10 patients: ")
    assert "copy: unext-small, late" in note
    for form in ("md", "table", "html", "json"):
        assert "voxel by voxel" in " ".join(render(board, form).split())
    plain = as_dict(board)["tables"][0]
    assert plain["said"] == [note]
    assert set(SAID_SCHEMA) == {"said"}
    # Without masks the counts of voxels are a sign, and are called that.
    for file in own.rglob("*.nii.gz"):
        file.unlink()
    (note,) = build(own, submissions=tmp_path).tables[0].notes
    assert note.startswith("The same counts of voxels in every class, as the same masks have, in all 10")


def test_claimed_costs_are_shown_and_compared_with_nothing(cache: Path, tmp_path: Path) -> None:
    path = put_together(tmp_path / "entry.zip", taken_apart())
    write_record(verify(path))
    board = build(tmp_path / "none", submissions=tmp_path)
    (row,) = as_dict(board)["tables"][0]["rows"]
    assert row["ms_per_slice"] is not None
    assert "ms_per_slice" in row["claimed"].split()
    assert board.tables[0].rows[0].entry is not None
    # Its code has changed since, so that the network cannot be counted here.
    assert as_dict(board)["tables"][0]["cost_fronts"] == []


def test_a_built_in_network_is_counted_anew(cache: Path, tmp_path: Path) -> None:
    from usbench.methods.registry import get_method, source_hash

    members = taken_apart()
    own = source_hash(get_method("unext-small")[0])
    honest: dict[str, Any] = {}

    def change(data: dict[str, Any]) -> None:
        honest.update(data["cost"])
        data["method"]["source_hash"] = own
        data["cost"].update(parameters=1, trainable=1)

    change_result(members, change, fold=None)
    path = put_together(tmp_path / "entry.zip", members)
    found = verify(path)
    assert any("claims 1 parameters" in note for note in found.notes)
    write_record(found)
    (row,) = build(tmp_path / "none", submissions=tmp_path).tables[0].rows
    assert (row.parameters, row.trainable) == (honest["parameters"], honest["trainable"])
    assert "parameters" not in row.claimed
    record = read_record(path)
    assert record is not None
    assert json.dumps(record).count(f'"parameters": {honest["parameters"]}') == 5


def test_digests_are_of_voxels_and_of_the_shape() -> None:
    mask = np.zeros((2, 3, 4), np.uint8)
    mask[1, 2, 3] = 1
    assert mask_digest(mask) == mask_digest(np.asfortranarray(mask).astype(np.int16))
    assert mask_digest(mask) != mask_digest(mask.reshape(3, 2, 4))
    assert mask_digest(mask) != mask_digest(mask[::-1])


@pytest.mark.parametrize(
    ("units", "wanted"),
    [
        ([{"a": 1, "b": 2}, {"a": 1, "b": 2}], [((0, 1), "all 2 patients")]),
        ([{"a": 1}, {"a": 1}], []),
        ([{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 4}], [((0, 1), "2 of 3 patients")]),
        ([{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, {"a": 1, "b": 2, "c": 0, "d": 0, "e": 0}], []),
        ([{}, {}], []),
        ([{"a": 1, "b": 2}, {"c": 1, "d": 2}], []),
    ],
)
def test_twins(units: list[dict[str, int]], wanted: list[Any]) -> None:
    assert [(twins.places, twins.words) for twins in find_twins(units)] == wanted


def test_a_template_is_of_one_method(tmp_path: Path) -> None:
    results = []
    for method in ("unet", "unext-small"):
        members = taken_apart()
        change_result(members, lambda data, method=method: data["cell"].update(method=method), 0)
        results.append(json.loads(_result(members, method)))
    with pytest.raises(UsbenchError, match=r"one method, and these are runs of 2 \(unet, unext-small\)"):
        write_template(tmp_path / "card.yaml", results)
    assert not (tmp_path / "card.yaml").exists()


def _result(members: Members, method: str) -> bytes:
    return next(
        text for name, text in members.items() if f"/{method}-" in name and name.endswith("result.json")
    )
