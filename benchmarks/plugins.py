"""`usbench methods` with many installed plugins beside none: nothing of them may be imported.

python benchmarks/plugins.py [--plugins 50] [--repeats 3]

Each plugin is a folder with a module that takes seconds to import and the metadata that pip leaves, in a
temporary folder on PYTHONPATH. Prints CPU and wall seconds of the command, the least of some repeats taken in
turn, and their ratio. Exit code 1 where the ratio of CPU time is over 1.5, or a plugin was imported.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.5
CODE = """
import time
from pathlib import Path
Path(__file__).with_suffix(".imported").write_text("")
time.sleep(2)
from usbench import Method
METHOD = Method("{name}", "nobody", build_segmenter=lambda task, fusion: None)
"""


def install(folder: Path, number: int) -> None:
    """A package with an entry point, as pip leaves it."""
    name = f"plugin{number:03}"
    package = folder / f"{name}_package"
    package.mkdir()
    (package / "__init__.py").write_text(CODE.format(name=name))
    info = folder / f"{name}_package-1.{number}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}_package\nVersion: 1.{number}\n")
    (info / "entry_points.txt").write_text(f"[usbench.methods]\n{name} = {name}_package:METHOD\n")


def measure(path: str) -> tuple[float, float, int]:
    """CPU seconds, wall seconds and the number of methods of `usbench methods` with that PYTHONPATH."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "usbench", "methods", "--json"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, len(json.loads(done.stdout))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    words.add_argument("--plugins", type=int, default=50)
    words.add_argument("--repeats", type=int, default=3)
    asked = words.parse_args()
    root = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.plugins):
            install(Path(folder), number)
        paths = {0: root, asked.plugins: os.pathsep.join([folder, root])}
        found: dict[int, list[tuple[float, float, int]]] = {count: [] for count in paths}
        for _ in range(asked.repeats):
            for count, path in paths.items():
                found[count].append(measure(path))
        imported = list(Path(folder).rglob("*.imported"))
    cpu, wall = ({n: min(run[i] for run in runs) for n, runs in found.items()} for i in (0, 1))
    for count, runs in found.items():
        print(f"{count} plugins: {runs[0][2]} methods, CPU {cpu[count]:.2f} s, wall {wall[count]:.2f} s")
    ratio = cpu[asked.plugins] / cpu[0]
    print(
        f"ratio: CPU {ratio:.3f}, wall {wall[asked.plugins] / wall[0]:.3f}; {len(imported)} plugins imported"
    )
    return int(ratio > LIMIT or bool(imported))


if __name__ == "__main__":
    sys.exit(main())
