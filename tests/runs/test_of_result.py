"""What a result says of its run, given back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.handmade import make_run

from usbench.runs.of_result import task_of


@pytest.mark.parametrize("name", ["mine.yaml", "MINE.YML", "../mine.yaml"])
def test_a_name_in_a_result_has_no_file_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result may be another's: what it calls its task is a name, whatever it looks like."""
    data = json.loads((make_run(tmp_path / "runs") / "result.json").read_text())
    data["task"]["name"] = name
    read: list[object] = []
    monkeypatch.setattr("usbench.datasets.tasks.task_file.load_task_file", lambda *words: read.append(words))
    task = task_of(data)
    assert read == []
    assert task.class_names == tuple(data["task"]["classes"])
    assert task.modality_names == tuple(data["task"]["modalities"])
