"""`usbench matrix` over cells that are all finished: the whole command, process start to exit.

Usage: python benchmarks/matrix.py [--cells 50 500] [--repeat 5] [--task chaos]

Makes the task's phantom and synthetic finished results (right in schema, digests and rows, invented in
scores) in a temporary folder, then asks for the same cells again. Every result is read and verified. Beside
it: `python -c "import torch"`, which the command cannot do without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--task", default="chaos")
    words = parser.parse_args()
    torch_alone = [seconds([sys.executable, "-c", "import torch"]) for _ in range(words.repeat)]
    print(f'python -c "import torch"  {statistics.median(torch_alone):6.2f} s')
    with tempfile.TemporaryDirectory() as folder:
        os.environ["USBENCH_CACHE"] = f"{folder}/cache"
        os.environ.pop("USBENCH_DATA", None)
        for count in words.cells:
            runs = Path(folder) / f"runs-{count}"
            # Ten methods, one fusion, five folds: fifty cells a seed.
            options = ["--methods", "all", "--fusions", "hybrid", "--tasks", words.task, "--folds", "all"]
            options += ["--seeds", ",".join(map(str, range(-(-count // 50)))), "--data", "phantom"]
            options += ["--preset", "smoke", "--device", "cpu", "--runs-dir", str(runs)]
            made = finish(options)
            command = [sys.executable, "-m", "usbench", "matrix", *options]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert f"{made} cells: 0 computed, {made} finished before, 0 failed" in done.stdout, done.stdout
            times = [seconds(command) for _ in range(words.repeat)]
            print(
                f"usbench matrix, {made:4d} done  {statistics.median(times):6.2f} s "
                f"(fastest {min(times):.2f}, slowest {max(times):.2f})"
            )


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def finish(options: list[str]) -> int:
    """Write a synthetic result for every cell of the matrix; how many there are."""
    from usbench.matrices.plan import plan_matrix
    from usbench.matrices.request import MatrixRequest
    from usbench.results.io import cases_csv, write_result
    from usbench.storage.files import write_text

    given = dict(zip(options[::2], options[1::2], strict=True))
    request = MatrixRequest.of(**{flag[2:].replace("-", "_"): value for flag, value in given.items()})
    matrix = plan_matrix(request, "cpu")
    for planned in matrix.cells:
        cell = planned.cell
        assert cell is not None
        rows = {case: [score(name) for name in cell.task.class_names] for case in cell.split.test(cell.fold)}
        write_text(cell.folder / "cases.csv", cases_csv(rows))
        write_result(cell.folder, result(cell))
    return len(matrix.cells)


def score(name: str) -> Any:
    from usbench.scores.case import ClassScore
    from usbench.scores.registry import all_scores

    return ClassScore(name, {score.name: 0.8 for score in all_scores()}, tp=800, fp=100, fn=100, tn=9000)


def result(cell: Any) -> dict[str, Any]:
    """A result.json of a size that is usual."""
    scores = {"dsc": 0.8, "miou": 0.7, "hd95": 3.0, "nsd": 0.9, "sensitivity": 0.8, "specificity": 0.99}
    return {
        "schema": 1,
        "usbench": "0.1.0",
        "cell": {
            "task": cell.task.name,
            "method": cell.method.name,
            "fusion": cell.fusion,
            "fold": cell.fold,
            "seed": cell.seed,
            "hash": cell.key,
        },
        "task": {"name": cell.task.name, "classes": list(cell.task.class_names)},
        "data": {"kind": cell.kind, "fingerprint": cell.store.fingerprint, "cases": 10, "limit": None},
        "split": {"train": list(cell.split.train(cell.fold)), "test": list(cell.split.test(cell.fold))},
        "preset": cell.config.preset,
        "config": cell.config.as_dict(),
        "method": {"name": cell.method.name, "source_hash": cell.source_hash, "paper": cell.method.paper},
        "remarks": [],
        "scores": {**scores, "classes": {name: {**scores, "cases": 2} for name in cell.task.class_names}},
        "paper_style": {"paper_dsc": 0.8, "paper_miou": 0.9},
        "cost": {"parameters": 1, "trainable": 1, "seconds": 60.0, "device": "CPU", "devices": 1},
        "provenance": {"packages": dict.fromkeys(("torch", "numpy", "scipy", "timm"), "1.0")},
        "protocol": cell.protocol,
    }


if __name__ == "__main__":
    main()
