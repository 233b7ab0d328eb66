"""Prepared data for the tests of features, in a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from usbench.datasets.store import DataSettings, Store, prepare
from usbench.datasets.tasks import get_task


@pytest.fixture
def store(small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    return prepare(get_task("msd-prostate"), small_prostate, DataSettings(size=16), workers=1)
