"""What the tests of planted faults share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.faulty_methods import LAST


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For all tests of a file: the phantom in it is made once."""
    return tmp_path_factory.mktemp("check")


@pytest.fixture
def own_loss() -> Iterator[None]:
    """A fault replaces the trainer's loss: it is put back."""
    yield
    if "loss" in LAST:
        import usbench.runs.train as training

        training.training_loss = LAST.pop("loss")
        LAST.clear()
