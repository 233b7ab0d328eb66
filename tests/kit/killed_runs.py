"""A run that is killed in training and started again, beside one that nobody disturbs."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from usbench.results.io import load_result
from usbench.results.result import Result


def undisturbed_and_killed(
    words: Sequence[str], environment: Mapping[str, str], folder: Path
) -> tuple[Result, Result]:
    """Run a command whole, and once more killed (SIGKILL) after an epoch and started again.

    Args:
        words: The command of one cell, without --runs-dir.
        environment: Of its processes.
        folder: Where "whole" and "killed" go.

    Returns:
        The two results.
    """

    def start(runs: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*words, "--runs-dir", str(folder / runs)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def rows(runs: str) -> int:
        files = list((folder / runs).glob("*/*/*/history.csv"))
        return len(files[0].read_text().splitlines()) - 1 if files else 0

    assert start("whole").wait(timeout=300) == 0
    victim = start("killed")
    deadline = time.monotonic() + 120
    while rows("killed") < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert rows("killed") >= 1
    assert not list((folder / "killed").glob("*/*/*/result.json")), "killed too late to prove anything"
    assert start("killed").wait(timeout=300) == 0
    whole, killed = (load_result(next((folder / r).glob("*/*/*/result.json"))) for r in ("whole", "killed"))
    return whole, killed
