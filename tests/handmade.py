"""Finished run folders made by hand: any scores, any names, without training anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from usbench.metrics import ClassScore, summarise
from usbench.results import cases_csv, history_csv, write_result

HISTORY = [
    {"epoch": 1, "loss": 1.25, "dice_loss": 0.75, "bce_loss": 0.5, "lr": 0.001},
    {"epoch": 2, "loss": 0.9, "dice_loss": 0.6, "bce_loss": 0.3, "lr": 0.0005},
    {"epoch": 3, "loss": 0.4, "dice_loss": 0.3, "bce_loss": 0.1, "lr": 0.0001},
]


def write_run(
    folder: Path,
    dsc: Mapping[str, Mapping[str, float]],
    method: str = "unet",
    fusion: str = "early",
    fold: int = 0,
    folds: int = 1,
    train: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
    **changes: Any,
) -> Path:
    """Write a finished run: `dsc` by case and class, `files` by name, `changes` as part__key."""
    classes = list(next(iter(dsc.values())))
    scores = {
        case: [
            ClassScore(name, v, v / 2, 20 * (1 - v), v, v, 0.99, 9, 1, 2, 88, "")
            for name, v in values.items()
        ]
        for case, values in dsc.items()
    }
    data: dict[str, Any] = {
        "schema": 1,
        "usbench": "0.1.0",
        "cell": {
            "task": "chaos",
            "method": method,
            "fusion": fusion,
            "fold": fold,
            "seed": 0,
            "hash": f"{fold}fab{method}{fusion}",
        },
        "task": {
            "name": "chaos",
            "title": "Abdomen",
            "modalities": ["t1-in", "t2-spir"],
            "classes": classes,
            "merge_labels": None,
        },
        "data": {"kind": "sample", "fingerprint": "a" * 64, "cases": len(dsc) * folds, "limit": None},
        "split": {
            "folds": folds,
            "rule": "derived",
            "digest": "d" * 64,
            "train": list(train),
            "test": list(dsc),
        },
        "preset": "quick",
        "config": {
            "data": {"size": 16, "resize": "area", "normalise": "zscore", "plane": "axial"},
            "train": {"epochs": 3},
            "fusion": {"merge": "mean-logits"},
            "method": {},
        },
        "method": {
            "name": method,
            "origin": "built in",
            "source_hash": "b" * 64,
            "version": "0.1.0",
            "paper": "By hand.",
            "weights": "none",
            "licence": "none",
            "pretraining_overlap": "none",
        },
        "remarks": [],
        "scores": summarise(list(scores.values())),
        "paper_style": {"paper_dsc": 0.5, "paper_miou": None},
        "cost": {
            "parameters": 1_500_000,
            "trainable": 1_500_000,
            "frozen_elsewhere": 0,
            "gflops_per_slice": 1.5,
            "ms_per_slice": 4.0,
            "peak_memory_mb": 300.0,
            "train_seconds": 12.0,
            "epochs": 3,
            "device": "CPU of the test",
            "devices": 1,
            "precision": "32",
        },
        "provenance": {"finished": "2026-01-01T00:00:00Z", "commit": "c0ffee" + "0" * 34, "threads": 1},
        "protocol": "cafe00112233",
    }
    data["data"]["agreement"] = {}
    for name, value in changes.items():
        *path, last = name.split("__")
        inner = data
        for part in path:
            inner = inner[part]
        inner[last] = value
    folder.mkdir(parents=True)
    (folder / "cases.csv").write_text(cases_csv(scores), encoding="utf-8")
    (folder / "history.csv").write_text(history_csv(HISTORY), encoding="utf-8")
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_result(folder, data)
    return folder


def runs_of(folder: Path) -> list[dict[str, Any]]:
    """What a row of a leaderboard says of the runs below `folder`, in order of fold."""
    found = []
    for file in sorted(folder.rglob("result.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        found.append(
            {
                "path": str(file.parent),
                "hash": data["cell"]["hash"],
                "commit": data["provenance"]["commit"],
                "device": data["cost"]["device"],
                "fold": data["cell"]["fold"],
                "seed": data["cell"]["seed"],
            }
        )
    return sorted(found, key=lambda run: run["fold"])
