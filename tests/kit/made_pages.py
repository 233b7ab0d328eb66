"""A leaderboard and a run made by hand, and their pages, for tests that open them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kit.handmade import runs_of, write_run

EVIL = "</script><img src=x onerror=alert(1)>"
LONG = "a-method-with-a-very-long-name-that-fits-no-telephone-" * 3
CASES = [f"case-{i:02}" for i in range(24)] + [EVIL]


def scores(shift: float, seed: int) -> dict[str, float]:
    noise = np.random.default_rng(seed).normal(0, 0.08, len(CASES))
    return {case: float(np.clip(0.7 + shift + n, 0, 1)) for case, n in zip(CASES, noise, strict=True)}


ROWS = {  # (method, fusion): DSC by case, HD95 and parameters follow
    ("unet", "early"): (scores(0.1, 1), 14_000_000),
    ("unet", "late"): (scores(0.05, 2), 42_000_000),
    ("resunet", "hybrid"): (scores(0.0, 3), 900_000),
    (EVIL, "early"): (scores(-0.1, 4), 2_000_000),
    (LONG, "late"): (scores(-0.2, 5), 5_000_000),
}


def board_data(folder: Path) -> dict[str, Any]:
    """A leaderboard of two tasks from runs on disk, with the statistics that a board may have."""
    from usbench.leaderboards.board import build
    from usbench.leaderboards.formats import as_dict

    picture = io.BytesIO()
    Image.new("RGB", (300, 200), "#335577").save(picture, "PNG")
    for i, ((method, fusion), (dsc, parameters)) in enumerate(ROWS.items()):
        write_run(
            folder / "chaos" / str(i),
            {case: {"liver": value} for case, value in dsc.items()},
            method,
            fusion,
            files={"figures/cases.png": picture.getvalue()},
            cost__parameters=parameters,
            cost__trainable=parameters,
        )
    write_run(
        folder / "own" / "0", {"x": {"tumour": 0.5}}, folds=3, cell__task="own", data__kind="real", fold=1
    )
    broken = write_run(folder / "own" / "broken", {"x": {"tumour": 0.5}}, "broken", cell__task="own")
    (broken / "cases.csv").write_text("edited")
    data = as_dict(build(folder))
    runs = {(r["hash"]): r for r in runs_of(folder)}
    for table in data["tables"]:
        for row in table["rows"]:
            fold = 1 if table["task"] == "own" else 0
            row["runs"] = [runs[f"{fold}fab{row['method']}{row['fusion']}"]]
    first = data["tables"][0]
    for i, row in enumerate(first["rows"]):
        row |= {
            "standing": "leader" if i == 0 else "not separated" if i == 1 else "below the leader",
            "p_leader": None if i == 0 else 0.0004 * i**4,
            "rank_low": max(1, i),
            "rank_high": i + 2,
            "gflops": 1.5 * (i + 1),
            "memory_mb": 300.0,
            "train_seconds": 12.0,
            "seed_sd": None,
            "device": "CPU of the test",
        }
    effect = {"method": "unet", "a": "late", "b": "early", "difference": -0.05, "low": -0.08, "high": -0.02}
    first["fusion_effects"] = [{**effect, "n": 25, "p": 0.0002}]
    group = {
        "title": "sample data",
        "size": 16,
        "rows": [{"label": EVIL, "mean_rank": 1.5, "dsc": {"own": 0.5}}],
    }
    data["overall"] = [group]
    measured = {
        "table": "own",
        "label": EVIL,
        "fusion": "late",
        "status": "",
        "dsc": 0.5,
        "scores": {"dsc": 0.5},
    }
    line = {
        "task": "own", "printed_task": EVIL, "part": "", "method": "U-Net", "fusion": "late",
        "table": "Table 2", "parameters": "54.94M", "scores": {"dsc": "86.25"}, "units": {"dsc": "%"},
        "our_method": "unet", "measured": [measured],
    }  # fmt: skip
    source = {
        "title": "An author, a paper",
        "reference": EVIL,
        "address": "",
        "second_hand": "",
        "differs": [EVIL],
    }
    data["reported"] = [{**source, "lines": [line]}]
    return data


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a leaderboard and of the page of a run."""
    from dataclasses import asdict

    from usbench.fusions.looks import looks_of
    from usbench.leaderboards.board import build
    from usbench.leaderboards.flat import pairs_list
    from usbench.pages import leaderboard_page as page
    from usbench.pages import run_page

    folder = tmp_path_factory.mktemp("pages")
    data = board_data(folder / "runs")
    tables = build(folder / "runs").tables
    pairs = [pairs_list(table) for table in tables]
    notes = [["Leader: unet, early. By a test made by hand."], []]
    fusions = looks_of(row.fusion_stated for table in tables for row in table.rows)
    looks = {name: asdict(look) for name, look in fusions.items()}
    (folder / "board.html").write_text(page.html(data, data, pairs, looks, notes=notes), encoding="utf-8")
    run_page.write_report(folder / "runs" / "chaos" / "3", folder / "run.html")
    return {name: (folder / f"{name}.html").as_uri() for name in ("board", "run")}
