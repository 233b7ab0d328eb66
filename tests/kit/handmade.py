"""Finished run folders made by hand: any scores, any names, without training anything."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from usbench.results.io import cases_csv, history_csv, write_result
from usbench.scores.case import ClassScore
from usbench.scores.registry import all_scores
from usbench.scores.summary import summarise
from usbench.storage.files import digest_of

HISTORY = [
    {"epoch": 1, "loss": 1.25, "dice_loss": 0.75, "bce_loss": 0.5, "lr": 0.001},
    {"epoch": 2, "loss": 0.9, "dice_loss": 0.6, "bce_loss": 0.3, "lr": 0.0005},
    {"epoch": 3, "loss": 0.4, "dice_loss": 0.3, "bce_loss": 0.1, "lr": 0.0001},
]


PATIENTS = ("p1", "p2", "p3", "p4")
FOLDS = (("p1", "p2"), ("p3", "p4"))
CLASSES = ("liver", "spleen")
TASKS = ("chaos", "msd-brain", "msd-prostate")


def class_score(name: str, dsc: float) -> ClassScore:
    edge = "both-empty" if math.isnan(dsc) else ""
    known = {"dsc": dsc, "iou": dsc / 2, "nsd": dsc, "sensitivity": dsc, "rvd": dsc - 1, "ravd": 1 - dsc}
    known |= {"hd95": 10 * (1 - dsc), "assd": 5 * (1 - dsc), "mssd": 20 * (1 - dsc)}
    values = {score.name: known.get(score.name, 0.99) for score in all_scores()}
    return ClassScore(name, values, 9, 1, 2, 88, edge)


def make_run(
    runs: Path,
    method: str = "unet",
    fusion: str = "late",
    fold: int = 0,
    seed: int = 0,
    dsc: Mapping[str, Sequence[float]] | None = None,
    **changes: Any,
) -> Path:
    """One of two folds of a phantom, in a new folder below `runs`: `dsc` as {patient: (liver, spleen)}."""
    dsc = dsc or dict.fromkeys(FOLDS[fold % 2], (0.8, 0.6))
    classes = changes.get("task__classes", CLASSES)
    count = len(list(runs.rglob("result.json")))
    facts = {
        "cell__seed": seed,
        "cell__hash": "f00",
        "data__kind": "phantom",
        "data__cases": len(PATIENTS),
        "split__rule": "fixed",
        "split__test": list(FOLDS[fold % 2]),
        "config__data": {"size": 96},
        "config__train": {"epochs": 14},
        "config__method": {"encoder": "resnet18"},
        "method__paper": "",
        "cost__parameters": 14_328_354,
        "cost__trainable": 14_328_354,
        "cost__gflops_per_slice": None,
        "cost__peak_memory_mb": 300.0,
        "cost__ms_per_slice": 10.0 + fold,
        "provenance": {},
    }
    return write_run(
        runs / "chaos-phantom" / f"{method}-{fusion}" / f"{fold}-{seed}-{count}",
        {case: dict(zip(classes, values, strict=True)) for case, values in dsc.items()},
        method,
        fusion,
        fold,
        2,
        **{**facts, **changes},
    )


def add_row(
    runs: Path,
    method: str,
    dsc: Sequence[float],
    fusion: str = "late",
    folds: int = 1,
    done: Sequence[int] | None = None,
    seed: int = 0,
    **changes: Any,
) -> None:
    """A row with the given DSC of patients p00, p01, ...; `done`: only these folds are run."""
    names = [f"p{i:02d}" for i in range(len(dsc))]
    classes = len(changes.get("task__classes", CLASSES))
    for fold in range(folds) if done is None else done:
        test = names[fold::folds]
        values = {name: (dsc[names.index(name)],) * classes for name in test}
        split = {"split__test": test, "split__folds": folds, "data__cases": len(dsc)}
        make_run(runs, method, fusion, fold, seed, values, **{**split, **changes})


def add_tasks(
    runs: Path, method: str, means: Sequence[float | None], fusion: str = "late", **changes: Any
) -> None:
    """A row on each task whose two patients have the given mean DSC."""
    for task, value in zip(TASKS, means, strict=True):
        if value is not None:
            add_row(runs, method, [value - 0.05, value + 0.05], fusion, cell__task=task, **changes)


def result_data(
    dsc: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, Sequence[ClassScore]],
    method: str,
    fusion: str,
    fold: int,
    folds: int,
    train: Sequence[str],
) -> dict[str, Any]:
    """A result.json before anything is changed in it."""
    classes = list(next(iter(dsc.values())))
    return {
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
            "memory_since": "cell",
            "train_seconds": 12.0,
            "epochs": 3,
            "device": "CPU of the test",
            "devices": 1,
            "precision": "32",
        },
        "provenance": {"finished": "2026-01-01T00:00:00Z", "commit": "c0ffee" + "0" * 34, "threads": 1},
        "protocol": "cafe00112233",
    }


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
    scores = {
        case: [class_score(name, value) for name, value in values.items()] for case, values in dsc.items()
    }
    data = result_data(dsc, scores, method, fusion, fold, folds, train)
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


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the result.json in a folder as somebody might who also makes its digest fit."""
    data = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    change(data)
    del data["digest"]
    (folder / "result.json").write_text(json.dumps({**data, "digest": digest_of(data)}), encoding="utf-8")


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
