"""Submissions on a task that a file describes: verified by whoever has the file and the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.own_folders import TASK, patients, task_file
from kit.places import TINY
from kit.tampering import CARD

import usbench
from usbench.errors import UsbenchError
from usbench.submissions.card import dump_card
from usbench.submissions.checks import result_problems
from usbench.submissions.pack import submit
from usbench.submissions.verify import verify


@pytest.mark.slow
def test_a_submission_on_a_task_file_verifies(tmp_path: Path) -> None:
    patients(tmp_path / "patients")
    path = task_file(
        tmp_path, TASK, ("classes: {liver: 1, lesion: 2}", "regions: {whole: [1, 2], lesion: 2}")
    )
    results = usbench.run(
        "tiny",
        "early",
        str(path),
        folds="all",
        plugins=[TINY],
        preset="smoke",
        settings={"data.size": 32},
        device="cpu",
        runs_dir=tmp_path / "runs",
    )
    (tmp_path / "card.yaml").write_bytes(dump_card(CARD))
    made = submit([tmp_path / "runs"], tmp_path / "card.yaml", tmp_path / "own.zip")
    found = verify(made, task_dirs=[path])
    assert (found.runs, found.predictions) == (4, 4)
    with pytest.raises(UsbenchError, match="its task file with --task-dir"):
        verify(made)
    other = task_file(
        tmp_path,
        TASK,
        ("classes: {liver: 1, lesion: 2}", "regions: {whole: [1, 2], lesion: [2, 3]}"),
        name="other.yaml",
    )
    with pytest.raises(UsbenchError, match="the values of its classes, their thresholds or its grid"):
        verify(made, task_dirs=[other])
    for key, message in (
        ("definition", "protocol is not the digest"),
        ("patterns", "hash is not the digest"),
    ):
        result = json.loads(json.dumps(results[0].data))
        result["task"][key] = "0" * 16
        assert any(message in problem for problem in result_problems(result))
