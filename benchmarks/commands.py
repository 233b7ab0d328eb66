"""Whole commands beside `python -c "import torch"`, processes in turn.

Usage: python benchmarks/commands.py [--repeat 7] [--preset smoke]

What is measured, each after it was done once: a finished run that is asked for again, and `usbench methods`.
Processor seconds (user and system) are compared, since the clock of a shared machine says little; the ratio
is the median of the pairs. Everything is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TORCH = [sys.executable, "-c", "import torch"]
USBENCH = [sys.executable, "-m", "usbench"]


def seconds(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """User and system seconds of a process and of those that it starts."""
    before = os.times()
    subprocess.run(
        command,
        check=True,
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = os.times()
    used: float = after.children_user + after.children_system - before.children_user - before.children_system
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--preset", default="smoke")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="usbench-commands-") as name:
        folder = Path(name)
        # As an installed package: with its compiled files.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"USBENCH_CACHE": str(folder / "cache")}
        run = ["run", "--method", "unet", "--fusion", "early", "--task", "chaos", "--preset", words.preset]
        measured = (("a finished run", run, 1.2), ("usbench methods", ["methods"], 0.5))
        for what, rest, goal in measured:
            command = [*USBENCH, *rest]
            first = seconds(command, environment, folder)
            seconds(TORCH, environment, folder)
            pairs = [
                (seconds(command, environment, folder), seconds(TORCH, environment, folder))
                for _ in range(words.repeat)
            ]
            one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{what + ', the first time':32} {first:7.2f} s")
            print(f"{what + ', again':32} {one:7.2f} s")
            print(f"{'import torch':32} {two:7.2f} s")
            print(f"{'ratio':32} {ratio:7.2f}   (target: at most {goal})")


if __name__ == "__main__":
    main()
