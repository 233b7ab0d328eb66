"""Time the leaderboard on synthetic runs: reading and checking, statistics, JSON, and the whole command.

Usage: python benchmarks/leaderboard.py [--results 50 500 5000] [--patients 30] [--profile]
       python benchmarks/leaderboard.py --separation

Every result is one fold of five with `--patients` test patients of four classes, written by the
writers of `usbench.results.io`; a row has five of them, so 500 results are 100 rows over 150 patients,
all in one table, which is the worst case for the statistics. The scores are random: methods differ
by a little, patients by a lot. Times are of one process on one core, as the clock on the wall shows
them; the last columns are the command `usbench leaderboard --format json`, with the start of Python and
all imports, by the wall and in CPU time, which other work on the machine does not stretch.

--separation times the statistics alone: all that is said of 30 rows of 484 patients, and the single step for
5,000 rows of as many. What they find is simulated by benchmarks/separation.py.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from usbench.results.io import run_folder, write_result, write_tables
from usbench.results.schema import SCHEMA_VERSION
from usbench.scores.case import ClassScore
from usbench.scores.registry import all_scores
from usbench.scores.summary import summarise

FOLDS = 5
FUSIONS = ("early", "hybrid", "late")
CLASSES = ("liver", "right-kidney", "left-kidney", "spleen")


def write_runs(runs: Path, results: int, patients: int) -> None:
    """Write `results` finished runs of `patients` test patients each below `runs`."""
    rng = np.random.default_rng(0)
    case_ids = [f"{i + 1:04d}" for i in range(FOLDS * patients)]
    difficulty = rng.normal(0, 0.08, (FOLDS, patients, len(CLASSES)))
    for number in range(results):
        row, fold = divmod(number, FOLDS)
        method, fusion = f"method-{row // len(FUSIONS):03d}", FUSIONS[row % len(FUSIONS)]
        test = case_ids[fold * patients : (fold + 1) * patients]
        skill = 0.8 - 0.0005 * row
        dsc = np.clip(skill + difficulty[fold] + rng.normal(0, 0.03, (patients, len(CLASSES))), 0, 1)
        cases = {
            case: [
                ClassScore(n, {score.name: v for score in all_scores()}, 900, 100, 100, 99_000)
                for n, v in zip(CLASSES, values.tolist(), strict=True)
            ]
            for case, values in zip(test, dsc, strict=True)
        }
        data = result_data(method, fusion, fold, f"{number:064x}", case_ids, test, row)
        folder = run_folder(runs, "chaos", "phantom", method, fusion, fold, 0, f"{number:064x}")
        write_tables(folder, cases, [{"epoch": 0, "loss": 1.0, "lr": 1e-3}])
        write_result(folder, {**data, "scores": summarise(list(cases.values()))})


def result_data(
    method: str, fusion: str, fold: int, key: str, case_ids: list[str], test: list[str], row: int
) -> dict[str, Any]:
    """The content of a result.json, without its scores and what `write_result` adds."""
    cell = {"task": "chaos", "method": method, "fusion": fusion, "fold": fold, "seed": 0, "hash": key}
    return {
        "schema": SCHEMA_VERSION,
        "usbench": "0.1.0",
        "cell": cell,
        "task": {
            "name": "chaos",
            "title": "synthetic",
            "modalities": ["t1-in", "t1-out", "t2-spir"],
            "classes": list(CLASSES),
            "merge_labels": None,
        },
        "data": {
            "kind": "phantom",
            "fingerprint": "a" * 64,
            "cases": len(case_ids),
            "limit": None,
            "agreement": {},
        },
        "split": {
            "folds": FOLDS,
            "rule": "fixed",
            "digest": "d" * 64,
            "train": [case for case in case_ids if case not in test],
            "test": test,
        },
        "preset": "quick",
        "config": {
            "data": {"size": 96, "resize": "area"},
            "train": {"epochs": 14, "batch": 8},
            "fusion": {"merge": "mean-logits", "hybrid": "conv1x1"},
            "method": {"width": 16},
        },
        "method": {
            "name": method,
            "origin": "built in",
            "source_hash": "b" * 64,
            "version": "0.1.0",
            "paper": "",
            "weights": "none",
            "licence": "none",
            "pretraining_overlap": "none",
        },
        "remarks": [],
        "paper_style": {"paper_dsc": None, "paper_miou": None},
        "cost": {
            "parameters": 10_000 * (row + 1),
            "trainable": 10_000 * (row + 1),
            "frozen_elsewhere": 0,
            "gflops_per_slice": 0.1 * (row + 1),
            "ms_per_slice": 1.0 + 0.1 * row,
            "peak_memory_mb": 500.0,
            "memory_since": "cell",
            "train_seconds": 60.0,
            "epochs": 14,
            "device": "synthetic",
            "devices": 1,
            "precision": "32",
        },
        "provenance": {"commit": None},
        "protocol": "cafe00112233",
    }


def time_board(runs: Path) -> tuple[float, ...]:
    """Seconds of reading and checking, of the statistics, of JSON, and of the command: wall and CPU."""
    from usbench.leaderboards.board import Leaderboard
    from usbench.leaderboards.formats import render
    from usbench.leaderboards.table import make_tables
    from usbench.results.usable import collect

    start = time.perf_counter()
    found, problems = collect(runs)
    assert not problems, problems[0]
    read = time.perf_counter()
    tables = make_tables(found)
    counted = time.perf_counter()
    render(Leaderboard(tables, problems), "json")
    written = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "usbench", "leaderboard", "--runs-dir", str(runs), "--format", "json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - written, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return read - start, counted - read, written - counted, wall, used


def time_separation(rows: int, patients: int) -> float:
    """Seconds of `separate_many`, above `MANY` rows, or of the same statistics as in a small table."""
    from usbench.leaderboards.stats import (
        MANY,
        rank_sets,
        ranking_schemes,
        ruled_out,
        separate,
        separate_many,
        split_half,
    )

    rng = np.random.default_rng(0)
    dsc = rng.normal(0.8, 0.08, patients) + rng.normal(0, 0.04, (rows, patients))
    dsc = np.clip(dsc - 0.03 * np.linspace(0, 1, rows)[:, None], 0, 1)
    dsc = dsc[np.argsort(-dsc.mean(axis=1))]
    start = time.perf_counter()
    if rows > MANY:
        separate_many(dsc)
    else:
        found = separate(dsc)
        ruled_out(dsc)
        rank_sets(found, rows)
        split_half(dsc)
        ranking_schemes(dsc, found)
    return time.perf_counter() - start


def main() -> None:
    """Write the runs, time the leaderboard on them, and print a line for each number of results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--results", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--patients", type=int, default=30, help="test patients of a result")
    parser.add_argument("--profile", action="store_true", help="also print where the time goes")
    parser.add_argument("--separation", action="store_true", help="time the statistics alone")
    options = parser.parse_args()
    if options.separation:
        import scipy.stats  # its import is no part of the statistics

        print("rows  patients  seconds")
        for rows, patients in ((30, 484), (5000, 484)):
            print(f"{rows:4d} {patients:9d} {time_separation(rows, patients):8.2f}", flush=True)
        return
    import scipy.stats  # noqa: F401  # its import is part of the command's time alone

    print("results  rows  patients  read s  statistics s  JSON s  together s  command s  its CPU s")
    for results in options.results:
        with tempfile.TemporaryDirectory() as folder:
            runs = Path(folder)
            write_runs(runs, results, options.patients)
            read, counted, written, command, used = time_board(runs)
            print(
                f"{results:7d} {results // FOLDS:5d} {FOLDS * options.patients:9d} {read:7.2f} "
                f"{counted:13.2f} {written:7.2f} {read + counted + written:11.2f} "
                f"{command:10.2f} {used:10.2f}",
                flush=True,
            )
            if options.profile:
                profile = cProfile.Profile()
                profile.runcall(time_board, runs)
                pstats.Stats(profile).sort_stats("cumulative").print_stats(25)


if __name__ == "__main__":
    main()
