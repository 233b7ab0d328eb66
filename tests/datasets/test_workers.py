"""Workers that prepare data: they end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from usbench.datasets.workers import run_jobs


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells who is there")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_driver(number: signal.Signals) -> None:
    code = (
        "import os, time\n"
        "from usbench.datasets.workers import run_jobs\n"
        "from usbench.runtime.stopping import end_on_term\n"
        "end_on_term()\n"
        "for pid in run_jobs(os.getpid, [()] * 8, 2): print(pid, flush=True)\n"
        "for _ in run_jobs(time.sleep, [(60,)] * 2, 2): pass\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert driver.stdout is not None
    workers = {int(driver.stdout.readline()) for _ in range(8)}
    children = workers | {
        int(word)
        for file in Path(f"/proc/{driver.pid}/task").glob("*/children")
        for word in file.read_text().split()
    }
    time.sleep(0.5)
    assert all(map(alive, workers))
    driver.send_signal(number)
    assert driver.wait(30) in (-number, 143)
    deadline = time.monotonic() + 10
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [process for process in children if alive(process)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells who is there")
@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_a_worker_that_is_only_starting_ends_too(wait: float) -> None:
    """A worker without a job yet does not wait for one, when nobody is there who could send it."""
    mark = f"USBENCH_TEST_{os.getpid()}_{wait}"
    code = (
        "import time\n"
        "from usbench.datasets.workers import run_jobs\n"
        "list(run_jobs(time.sleep, [(60,)] * 2, 2))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, mark: "1"})
    deadline = time.monotonic() + 60
    while not any(b"LokyProcess" in words for words in marked(mark).values()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(wait)
    driver.kill()
    driver.wait(30)
    deadline = time.monotonic() + 15
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def marked(name: str) -> dict[int, bytes]:
    """By process that has a variable its words; those that have ended are left out."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{name}=1".encode() in (folder / "environ").read_bytes().split(b"\0") and alive(
                int(folder.name)
            ):
                found[int(folder.name)] = (folder / "cmdline").read_bytes()
    return found


def test_jobs_give_their_results() -> None:
    assert sorted(run_jobs(divmod, [(7, 2), (9, 4)], 2)) == [(2, 1), (3, 1)]
