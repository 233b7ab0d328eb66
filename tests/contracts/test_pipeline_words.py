"""What a program says of itself reaches the watcher of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.nnunet_folder import told

from usbench.contracts.pipeline_words import PipelineWords
from usbench.errors import UsbenchError


def test_what_the_program_says_is_handed_on() -> None:
    watcher = told()
    listener = PipelineWords("nnU-Net", watcher)
    for line in (
        "Epoch 0",
        '{"usbench": "stage", "text": "nnU-Net plans"}',
        '{"usbench": "case", "text": "prepares", "number": 1, "total": 2}',
        '{"usbench": "case", "text": "prepares", "number": 2, "total": 2}',
        '{"usbench": "alive"}',
        '{"usbench": "train", "epochs": 5, "done": 2}',
        '{"usbench": "epoch", "epoch": 3, "loss": 0.5, "lr": 0.01, "seconds": 2.0}',
    ):
        listener(line)
    assert watcher.lines == ["nnU-Net plans", "prepares, 2 of 2", "nnU-Net goes on after epoch 2 of 5"]
    assert watcher.total == 5
    assert watcher.epochs == [{"epoch": 3, "loss": 0.5, "lr": 0.01, "seconds": 2.0}]
    with pytest.raises(UsbenchError, match=r"^nnU-Net: no training case"):
        listener('{"usbench": "fault", "text": "no training case has a foreground voxel"}')


def test_a_fault_names_the_log_where_that_says_more() -> None:
    with pytest.raises(UsbenchError, match=r"^MIST: too small; its output is in run/pipeline\.log$"):
        PipelineWords("MIST", told(), Path("run/pipeline.log"))('{"usbench": "fault", "text": "too small"}')
