"""What tests share: a cache and a phantom of their own, made once, and the way to the open samples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit.browsing import browser, reader  # noqa: F401
from kit.commands import Command
from kit.made_pages import pages  # noqa: F401

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing a test does may touch the user's cache or data."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["USBENCH_CACHE"] = str(folder)
    os.environ.pop("USBENCH_DATA", None)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The openly licensed real samples, where USBENCH_REAL_DATA names them."""
    folder = os.environ.get("USBENCH_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("USBENCH_REAL_DATA names no folder of real samples")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def small_prostate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with four prostate phantoms."""
    from usbench.datasets.phantom import make_phantom
    from usbench.datasets.tasks import get_task

    folder = tmp_path_factory.mktemp("prostate")
    make_phantom(get_task("msd-prostate"), folder, cases=4, seed=3)
    return folder


@pytest.fixture
def command(cache: Path) -> Command:
    """Run `usbench ...` as a process of its own and return what it did."""

    def call(*words: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "usbench", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "USBENCH_CACHE": str(cache), **environment},
        )

    return call
