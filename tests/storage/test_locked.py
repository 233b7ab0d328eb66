"""The lock file: a process that finds it held is told so or waits, and a killed holder leaves it free."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from usbench.errors import UsbenchError
from usbench.storage.files import locked

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from usbench.storage.files import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(float(sys.argv[2]))\n"
)


@contextmanager
def held(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock file for a while."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_busy_is_raised_while_another_process_holds_it_and_not_after_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    with held(path, 60) as other:
        with pytest.raises(UsbenchError, match="in use"), locked(path, busy=UsbenchError("in use")):
            pass
        other.kill()
        other.wait()
        with locked(path, busy=UsbenchError("in use"), remove=True):
            assert path.exists()
    assert not path.exists()


def test_who_waits_says_so_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ".lock"
    with held(path, 2), locked(path, "somebody is at it; waiting"):
        pass
    assert "somebody is at it; waiting" in capsys.readouterr().err
    assert path.exists()
