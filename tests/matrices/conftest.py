"""The words of a small matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.places import TINY

SMALL = {"train.epochs": 1, "data.size": 32}


@pytest.fixture(autouse=True)
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRAGILE", raising=False)


@pytest.fixture
def words(small_prostate: Path, tmp_path: Path) -> dict[str, Any]:
    """Four cells of a method that takes no time."""
    return {
        "methods": "tiny",
        "fusions": "early,late",
        "tasks": "msd-prostate",
        "folds": "0,1",
        "preset": "smoke",
        "settings": SMALL,
        "data_dir": small_prostate,
        "device": "cpu",
        "plugins": [TINY],
        "runs_dir": tmp_path / "runs",
        "workers": 1,
    }
