"""Rows of a folder of runs paired with one of them, whatever their training: epochs, seconds, learning rate.

Usage: python benchmarks/pairs.py RUNS [--less "unet early"] [--folds 2,3,4] [--class liver]

The leaderboard compares rows of one protocol alone, and the number of epochs is part of it; for methods
trained for equal seconds this table stands beside it. A row is a method under a fusion with its settings;
it is called by those settings in which it differs from the others of its task. DSC is averaged over seeds
within a patient. The interval is the t interval (95 %) of the mean paired difference over the patients that
both rows have. With three seeds or more in every fold the variance of the difference over seeds is counted
too, fold by fold, as the leaderboard does; with fewer it is not. The difference of each seed stands beside
it. Rows that lack a fold have fewer patients, and say so.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from usbench.leaderboards.stats.intervals import difference_interval
from usbench.leaderboards.stats.trainings import Noise, of_seeds

Scores = dict[tuple[int, int, str], float]
"""DSC by seed, fold and patient."""

HEADS = ("row", "patients", "DSC", "by seed", "epochs", "train s a fold", "less {}", "95 %", "by seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--less", default="", help="the row that is taken from each, by a part of its name")
    parser.add_argument("--folds", default="", help="these alone, behind commas")
    parser.add_argument("--class", dest="structure", default="", help="of this class alone")
    words = parser.parse_args()
    folds = {int(fold) for fold in words.folds.split(",") if fold}
    tasks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted(words.runs.rglob("result.json")):
        result = json.loads(file.read_text())
        if not folds or result["cell"]["fold"] in folds:
            result["of"] = scores_of(file.parent / "cases.csv", result["cell"], words.structure)
            tasks[result["cell"]["task"]].append(result)
    for task, results in sorted(tasks.items()):
        print(f"\n{task}\n")
        table(results, words.less)


def scores_of(file: Path, cell: dict[str, Any], structure: str) -> Scores:
    """The mean over classes, or one of them, of each patient of a result."""
    found: dict[str, list[float]] = defaultdict(list)
    with file.open() as lines:
        for line in csv.DictReader(lines):
            if line["dsc"] and structure in ("", line["class"]):
                found[line["case"]].append(float(line["dsc"]))
    return {(cell["seed"], cell["fold"], case): float(np.mean(values)) for case, values in found.items()}


def table(results: list[dict[str, Any]], less: str) -> None:
    """Print the rows of a task."""
    named = names(results)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, result in zip(named, results, strict=True):
        rows[name].append(result)
    scores = {name: {k: v for one in some for k, v in one["of"].items()} for name, some in rows.items()}
    reference = next((name for name in rows if less and less in name), "")
    print(f"| {' | '.join(HEADS).format(reference)} |\n|{'---|' * len(HEADS)}")
    for name, some in sorted(rows.items()):
        own = scores[name]
        seconds = np.mean([one["cost"]["train_seconds"] for one in some])
        cells = [name, str(len({case for *_, case in own})), f"{np.mean(of_patients(own)):.3f}", by_seed(own)]
        cells += [str(some[0]["config"]["train"]["epochs"]), f"{seconds:.0f}"]
        cells += paired(own, scores[reference]) if reference not in ("", name) else ["", "", ""]
        print(f"| {' | '.join(cells)} |")


def names(results: list[dict[str, Any]]) -> list[str]:
    """Of each result its method, its fusion and the settings that are not the same in all of its method."""
    flat = []
    for one in results:
        config = one["config"]
        settings = {f"{part}.{k}": v for part in ("data", "train", "method") for k, v in config[part].items()}
        flat.append((f"{one['cell']['method']} {one['cell']['fusion']}", settings))
    called = []
    for name, settings in flat:
        others = [other for other_name, other in flat if other_name == name]
        unlike = [k for k, v in settings.items() if any(other.get(k) != v for other in others)]
        called.append(" ".join([name, *(f"{k.split('.')[1]}={settings[k]}" for k in unlike)]))
    return called


def of_patients(scores: Scores) -> list[float]:
    """The mean over seeds of every patient."""
    found: dict[str, list[float]] = defaultdict(list)
    for (*_, case), value in scores.items():
        found[case].append(value)
    return [float(np.mean(found[case])) for case in sorted(found)]


def by_seed(scores: Scores, signed: bool = False) -> str:
    """The mean over patients of every seed, as text."""
    seeds = sorted({seed for seed, *_ in scores})
    means = [np.mean([v for (s, *_), v in scores.items() if s == seed]) for seed in seeds]
    return " ".join(f"{mean:+.3f}" if signed else f"{mean:.3f}" for mean in means)


def paired(own: Scores, other: Scores) -> list[str]:
    """A row less another: the mean, its interval, and the mean of each seed."""
    both = {key: own[key] - other[key] for key in own if key in other}
    if not both:
        return ["", "no patient and seed in common", ""]
    values = of_patients(both)
    found = difference_interval(values, noise_of(both))
    ends = found.why if found.ends is None else "{:+.3f} to {:+.3f}".format(*found.ends)
    return [f"{np.mean(values):+.3f}", ends, by_seed(both, signed=True)]


def noise_of(differences: Scores) -> Noise | None:
    """The variance of the mean difference that comes from training; None below three seeds in a fold."""
    folds: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (seed, fold, _), value in differences.items():
        folds[fold][seed].append(value)
    means = [[float(np.mean(values)) for values in seeds.values()] for seeds in folds.values()]
    patients = [len({case for _, f, case in differences if f == fold}) for fold in folds]
    return of_seeds(means, patients)


if __name__ == "__main__":
    main()
