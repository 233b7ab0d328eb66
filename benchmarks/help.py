"""Start-up: `usbench --help` beside `python -c "import click"`, whole processes in turn.

Usage: python benchmarks/help.py [--repeat 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=15)
    words = parser.parse_args()
    script = Path(sys.executable).with_name("usbench")
    ours = [str(script), "--help"]
    theirs = [sys.executable, "-c", "import click"]
    seconds(ours), seconds(theirs)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(words.repeat)]
    one, two = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    print(f"usbench --help               {one:7.1f} ms")
    print(f'python -c "import click"     {two:7.1f} ms')
    print(f"ratio                        {one / two:7.2f} (target: at most 4)")


if __name__ == "__main__":
    main()
