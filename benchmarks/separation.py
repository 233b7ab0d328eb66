"""Simulate tables of known truth: how often the leaderboard claims what is false, and finds what is true.

Usage: python benchmarks/separation.py [--population easy] [--cells 10x8 20x30] [--tables 400] [--minutes 20]

Patients' DSC are drawn from three populations (`POPULATIONS`), n patients and k rows, correlated by 0.7
between rows (Gaussian copula). In one set of tables all rows are equal; in others half of the rows are 3 or
10 points worse; in another they fail on 8 % of the patients instead of 3 % with the same mean. The claims are
those of the present procedure and of the one up to 0.2: two-sided Wilcoxon signed-rank tests of each row
against the leader, corrected by Holm over k(k-1)/2 pairs. Trainings of SD 1 point are added with one and with
three seeds.

Results are appended to `--out` in chunks, each with its own fixed seed; a run that was stopped goes on. What
was measured stands in docs/separation.md.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import beta, norm, wilcoxon

from usbench.leaderboards.stats import ALPHA, Noise, of_seeds, ruled_out, score_interval, separate

POPULATIONS = {"easy": (0.89, 0.06, 0.0), "skew": (0.83, 0.18, 0.03), "hard": (0.60, 0.29, 0.10)}
"""Mean and SD of a patient's DSC, and the share of patients of DSC 0."""

CORRELATION = 0.7
TRAINING = 0.01
PATIENTS, ROWS = (4, 10, 20, 32, 97), (2, 8, 30)
WORSE = {"equal": 0.0, "3 points": 0.03, "10 points": 0.10, "failures": 0.0}
CHUNK = 20

Cell = tuple[str, str, int, int, int]
"""Population, kind of table, patients, rows, seeds (0: trainings do not vary)."""


def quantiles(u: np.ndarray, population: str, worse: float = 0.0, fails: float | None = None) -> np.ndarray:
    """DSC at the quantiles `u`: 0 for the failures, else a beta distribution.

    Args:
        u: Between 0 and 1, any shape.
        population: Of `POPULATIONS`.
        worse: By how much the mean is lower.
        fails: Another share of failures with the same mean.
    """
    mean, spread, zeros = POPULATIONS[population]
    variance = (spread**2 + mean**2) / (1 - zeros) - (mean / (1 - zeros)) ** 2
    zeros = zeros if fails is None else fails
    centre = (mean - worse) / (1 - zeros)
    size = centre * (1 - centre) / variance - 1
    found = beta.ppf(np.maximum(u - zeros, 0) / (1 - zeros), centre * size, (1 - centre) * size)
    return np.where(u < zeros, 0.0, found)


def draw(rng: np.random.Generator, cell: Cell) -> tuple[np.ndarray, list[Noise | None] | None]:
    """Scores of one table, [rows, patients], its second half of the other kind, and its noise of training."""
    population, kind, n, k, seeds = cell
    shared, own = rng.normal(size=n), rng.normal(size=(k, n))
    u = norm.cdf(math.sqrt(CORRELATION) * shared + math.sqrt(1 - CORRELATION) * own)
    half = k // 2
    scores = quantiles(u, population)
    scores[half:] = quantiles(u[half:], population, WORSE[kind], 0.08 if kind == "failures" else None)
    if not seeds:
        return scores, None
    trained = scores[None] + rng.normal(0, TRAINING, (seeds, k, 1))
    trained = np.where(scores > 0, np.clip(trained, 0, 1), 0.0)
    noise = [of_seeds([trained[:, row].mean(axis=1).tolist()], [n]) for row in range(k)]
    return trained.mean(axis=0), noise


def old_below(scores: np.ndarray) -> np.ndarray:
    """Which rows the procedure up to 0.2 puts below the leader (row 0), [rows]."""
    k = len(scores)
    p = np.ones(k - 1)
    for i, row in enumerate(scores[1:]):
        difference = np.round(scores[0] - row, 12)
        # Without zeros, which the test drops, there are no ties, and scipy does not permute them.
        if (moved := difference[difference != 0]).size:
            p[i] = wilcoxon(moved).pvalue
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * (k * (k - 1) // 2 - np.arange(k - 1)))
    below = np.zeros(k, dtype=bool)
    below[1:][order] = corrected < ALPHA
    return below


def count_tables(rng: np.random.Generator, cell: Cell, tables: int) -> dict[str, float]:
    """Counts over simulated tables of one cell, as `markdown` reads them."""
    _, kind, _, k, _ = cell
    found: dict[str, float] = defaultdict(float, tables=tables)
    truth = np.where(np.arange(k) >= k // 2, -WORSE[kind], 0.0)
    for _ in range(tables):
        scores, noise = draw(rng, cell)
        order = np.argsort(-scores.mean(axis=1), kind="stable")
        scores, true = scores[order], truth[order]
        noise = None if noise is None else [noise[i] for i in order]
        new = separate(scores, noise=noise)
        better = new.better()
        claimed = np.where(better > 0, true[new.pairs[:, 0]] - true[new.pairs[:, 1]], 1.0)
        claimed = np.where(better < 0, true[new.pairs[:, 1]] - true[new.pairs[:, 0]], claimed)
        found["false any pair"] += bool((claimed <= 0).any())
        out = ruled_out(scores, noise)
        # One given row that is the best (the first before they were sorted).
        found["best ruled out"] += bool(out[order == 0][0])
        below_new = np.zeros(k, dtype=bool)
        below_new[1:] = better[: k - 1] > 0
        worse = true < true.max()
        found["worse"] += int(worse.sum())
        found["worse out"] += int(out[worse].sum())
        for name, below in (("old", old_below(scores)), ("new", below_new)):
            found[f"false {name}"] += bool((below & (true >= true[0])).any())
            found[f"worse {name}"] += int((below & worse).sum()) if not worse[0] else 0
    return dict(found)


def count_intervals(rng: np.random.Generator, population: str, n: int, samples: int) -> dict[str, float]:
    """How many 95 % intervals of the mean of n patients hold the true mean; old: percentile bootstrap."""
    scores = quantiles(rng.uniform(size=(samples, n)), population)
    mean = POPULATIONS[population][0]
    found: dict[str, float] = defaultdict(float, tables=samples)
    for values in scores:
        means = values[rng.integers(n, size=(1000, n))].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        found["old"] += bool(low <= mean <= high)
        ends = score_interval(values).ends
        if ends is not None:
            found["given"] += 1
            found["new"] += bool(ends[0] <= mean <= ends[1])
    return dict(found)


def all_cells() -> list[Cell]:
    """Every cell, the cheapest first."""
    cells: list[Cell] = [(p, "interval", n, 0, 0) for p in POPULATIONS for n in (2, 4, 10, 20, 97)]
    sizes = [(n, k) for n in PATIENTS for k in ROWS]
    for n, k in [*sizes, (10, 24)]:
        cells += [(p, kind, n, k, 0) for p in POPULATIONS for kind in ("equal", "3 points", "10 points")]
        cells.append(("skew", "failures", n, k, 0))
    for seeds in (1, 3):
        cells += [
            (p, kind, n, 8, seeds) for p in POPULATIONS for kind in ("equal", "10 points") for n in (10, 32)
        ]
    return sorted(cells, key=lambda cell: cost(cell))


def cost(cell: Cell) -> int:
    """Patterns of signs times pairs of rows."""
    _, _, n, k, _ = cell
    return min(2 ** (n - 1), 10_000) * k * (k - 1) // 2


def run(cells: list[Cell], tables: int, out: Path, until: float) -> None:
    """Simulate what `out` does not have yet, a chunk of each cell after the other, and append it there."""
    known = {(*one["cell"], one["chunk"]) for one in read(out)}
    for chunk in range(max(1, tables // CHUNK)):
        for cell in cells:
            # Large tables take seconds each.
            if (*cell, chunk) in known or (chunk % 8 and cost(cell) > 2_000_000):
                continue
            if time.monotonic() > until:
                return
            rng = np.random.default_rng([chunk, *"/".join(map(str, cell)).encode()])
            if cell[1] == "interval":
                counts = count_intervals(rng, cell[0], cell[2], 10 * CHUNK)
            else:
                counts = count_tables(rng, cell, CHUNK)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"cell": cell, "chunk": chunk, "counts": counts}) + "\n")


def read(out: Path) -> list[dict]:
    """The chunks of a file; a last line that was cut off is left out."""
    lines = out.read_text(encoding="utf-8").splitlines(keepends=True) if out.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def share(part: float, of: float) -> str:
    """In percent; "-" of nothing."""
    return f"{100 * part / of:.1f}" if of else "-"


def markdown(chunks: list[dict], cells: list[Cell]) -> str:
    """Four tables: intervals, false claims, power, false claims together; shares in percent."""
    sums: dict[Cell, dict[str, float]] = {}
    for one in chunks:
        into = sums.setdefault(tuple(one["cell"]), defaultdict(float))
        for name, value in one["counts"].items():
            into[name] += value
    parts = {"interval": ["| population | n | samples | old | new |"], "false": [], "power": []}
    parts["false"].append(
        "| population | rows | n | k | seeds | tables | old | new | new, any pair | best ruled out |"
    )
    parts["power"].append(
        "| population | half are worse by | n | k | seeds | tables | old | new | ruled out |"
    )
    for lines in parts.values():
        lines.append("|" + "---|" * (lines[0].count("|") - 1))
    for cell in sorted(sums.keys() & set(cells), key=lambda c: (list(POPULATIONS).index(c[0]), *c[1:])):
        population, kind, n, k, seeds = cell
        found, tables = sums[cell], int(sums[cell]["tables"])
        if kind == "interval":
            new = share(found["new"], found["given"])
            line = [population, n, tables, share(found["old"], tables), new]
            parts["interval"].append("| " + " | ".join(map(str, line)) + " |")
            continue
        head = [population, kind, n, k, seeds or "-", tables]
        names = ("false old", "false new", "false any pair", "best ruled out")
        parts["false"].append(
            "| " + " | ".join(map(str, [*head, *(share(found[x], tables) for x in names)])) + " |"
        )
        if WORSE[kind]:
            names = ("worse old", "worse new", "worse out")
            shares = [share(found[name], found["worse"]) for name in names]
            parts["power"].append("| " + " | ".join(map(str, [*head, *shares])) + " |")
    return "\n\n".join("\n".join(lines) for lines in [*parts.values(), together(sums, cells)])


def together(sums: dict[Cell, dict[str, float]], cells: list[Cell]) -> list[str]:
    """Lines of false claims over all cells of 10 patients or more, which a few tables a cell need."""
    pooled: dict[tuple[str, str, str], dict[str, float]] = {}
    for cell in sums.keys() & set(cells):
        population, kind, n, _, seeds = cell
        if kind == "interval" or n < 10:
            continue
        into = pooled.setdefault((population, kind, str(seeds or "-")), defaultdict(float))
        for name, value in sums[cell].items():
            into[name] += value
    lines = ["| population | rows | seeds | tables | old | new | new, any pair | best ruled out |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for head, found in sorted(pooled.items(), key=lambda one: (one[0][2], one[0])):
        names = ("false old", "false new", "false any pair", "best ruled out")
        shares = [share(found[name], found["tables"]) for name in names]
        lines.append("| " + " | ".join([*head, str(int(found["tables"])), *shares]) + " |")
    return lines


def main() -> None:
    """Simulate, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--population", nargs="+", choices=list(POPULATIONS), default=list(POPULATIONS))
    parser.add_argument(
        "--cells", nargs="+", metavar="NxK", help="patients x rows, such as 10x8; 10x0: intervals"
    )
    parser.add_argument(
        "--tables", type=int, default=400, help="tables of a cell; large cells have an eighth"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument(
        "--out", type=Path, default=Path("separation.jsonl"), help="where results are appended"
    )
    options = parser.parse_args()
    cells = [
        cell
        for cell in all_cells()
        if cell[0] in options.population and (not options.cells or f"{cell[2]}x{cell[3]}" in options.cells)
    ]
    run(cells, options.tables, options.out, time.monotonic() + 60 * options.minutes)
    print(markdown(read(options.out), cells))


if __name__ == "__main__":
    main()
