"""The policy of a process: quiet threads, memory that is kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Touch and free 64 MB a few times and count the pages that the system had to hand out after the first time.
PROGRAM = """
import resource, sys
from usbench.runtime.process import settle
if sys.argv[1] == "settled":
    settle()
import numpy as np
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or not hasattr(os, "confstr"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    if "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("glibc only")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    faults = {}
    for how in ("plain", "settled"):
        command = [sys.executable, "-c", PROGRAM, how]
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        faults[how] = int(answer.stdout)
    # Huge pages may make either count small.
    assert faults["settled"] <= faults["plain"]
    assert faults["settled"] < 5 * 64_000_000 / 4096 / 10


def test_waiting_threads_sleep_unless_told_otherwise() -> None:
    program = (
        "import os; from usbench.runtime.process import settle; settle(); "
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        if given:
            environment["OMP_WAIT_POLICY"] = given
        command = [sys.executable, "-c", program]
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert answer.stdout.strip() == expected
