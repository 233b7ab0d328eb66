"""The table of MedVisionLlama's ablation: every row, and the pretrained block paired with each other row.

Usage: python benchmarks/medvisionllama_table.py RUNS

RUNS is the folder that `benchmarks/medvisionllama.sh` filled, with some of its rows, seeds and folds or all.
A pair is compared over the patients and seeds that both have: DSC is averaged over seeds within a patient,
the interval is the t interval of the mean paired difference over patients, and the difference of each seed
stands beside it. The interval is of these trained networks: it does not count the variance over seeds.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

Place = tuple[str, float]
Scores = dict[tuple[int, str], float]
"""DSC by seed and case."""


HEADS = (
    "row",
    "DSC, mean of seeds (each)",
    "parameters",
    "trained",
    "train s",
    "pretrained less it",
    "by seed",
)


def main() -> None:
    rows: dict[Place, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(Path(sys.argv[1]).rglob("result.json")):
        result = json.loads(file.read_text())
        with (file.parent / "cases.csv").open() as lines:
            scores = [(line["case"], float(line["dsc"] or "nan")) for line in csv.DictReader(lines)]
        place = result["cell"]["task"], result["split"].get("share", 1.0)
        rows[place][name_of(result["config"]["method"])].append({**result, "dsc": dict(scores)})
    for (task, share), of_place in sorted(rows.items()):
        print(f"\n{task}, trained on {share:.0%} of the training patients\n")
        print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
        tables = {name: scores_of(runs) for name, runs in of_place.items()}
        for name, runs in sorted(of_place.items()):
            print(line_of(name, runs, tables))


def name_of(settings: dict[str, Any]) -> str:
    """A row's name, after what differs from the default."""
    words = [settings["llm"] if settings["control"] == "none" else settings["control"]]
    words += [f"rank {settings['rank']}"] if settings["rank"] != 8 else []
    words += [settings["residual"]] if settings["residual"] != "outer" else []
    words += [settings["place"]] if settings["place"] != "after-encoder" else []
    return " ".join(words)


def scores_of(runs: list[dict[str, Any]]) -> Scores:
    return {(run["cell"]["seed"], case): dsc for run in runs for case, dsc in run["dsc"].items()}


def line_of(name: str, runs: list[dict[str, Any]], tables: dict[str, Scores]) -> str:
    by_seed = {seed: [d for (s, _), d in tables[name].items() if s == seed] for seed, _ in tables[name]}
    means = {seed: float(np.nanmean(found)) for seed, found in sorted(by_seed.items())}
    cost = [runs[0]["cost"][key] for key in ("parameters", "trainable")]
    frozen = runs[0]["cost"]["frozen_elsewhere"]
    seconds = np.median([run["cost"]["train_seconds"] for run in runs])
    each = ", ".join(f"{value:.3f}" for value in means.values())
    cells = [name, f"{np.mean(list(means.values())):.3f} ({each})", f"{cost[0] + frozen:,}", f"{cost[1]:,}"]
    cells += [f"{seconds:.0f}", *paired(tables.get("smollm2", {}), tables[name], name)]
    return f"| {' | '.join(cells)} |"


def paired(pretrained: Scores, other: Scores, name: str) -> tuple[str, str]:
    """The mean difference with its 95% t interval over patients, and that of each seed."""
    from scipy.stats import t

    shared = sorted(pretrained.keys() & other.keys())
    if name == "smollm2" or not shared:
        return "", ""
    by_case, by_seed = defaultdict(list), defaultdict(list)
    for seed, case in shared:
        difference = pretrained[seed, case] - other[seed, case]
        by_case[case].append(difference)
        by_seed[seed].append(difference)
    values = np.array([np.mean(found) for found in by_case.values()])
    words = f"{values.mean():+.3f}"
    if (n := len(values)) > 1:
        half = t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
        words += f" [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}], {n} patients"
    return words, ", ".join(f"{np.mean(found):+.3f}" for _, found in sorted(by_seed.items()))


if __name__ == "__main__":
    main()
