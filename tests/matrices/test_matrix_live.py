"""What a person sees while a matrix is computed."""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from usbench.matrices import live
from usbench.matrices.worker import JobReport
from usbench.results.running import Progress
from usbench.runs.lock import locked_cell


def entries(folder: Path, count: int) -> list[Any]:
    config = SimpleNamespace(train=SimpleNamespace(epochs=14))
    made = []
    for number in range(count):
        (folder / str(number)).mkdir()
        plan = SimpleNamespace(config=config)
        made.append(
            SimpleNamespace(name=f"cell {number}", folder=folder / str(number), result=None, plan=plan)
        )
    return made


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    out = io.StringIO()
    monkeypatch.setattr(live, "_console", lambda: Console(file=out, width=200))
    cells = entries(tmp_path, 3)
    with live.View(cells, before=2, workers=2) as view:
        view.ended(cells[0], JobReport("computed", 120.0))
        view.ended(cells[1], JobReport("failed", 3.0, "no memory"))
        assert view.time_left() == 120
    assert out.getvalue().splitlines() == [
        "matrix: 2 of 5 cells are done, 3 to compute",
        "[3/5] cell 0: computed in 2 min; about 2 min left",
        "[4/5] cell 1: failed: no memory; about 2 min left",
    ]


def test_live_view_reads_what_runs_from_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=90, force_terminal=True, color_system=None)
    monkeypatch.setattr(live, "_console", lambda: console)
    cells = entries(tmp_path, 3)
    (tmp_path / "2" / ".lock").touch()  # Of a process that is dead.
    one = Progress("node7", 12, 0.0, time.time(), "training", 3, 14, 0.7, 40.0)
    (tmp_path / "1" / ".progress.json").write_text(json.dumps(asdict(one)))
    with locked_cell(tmp_path / "1"), live.View(cells, before=4, workers=1) as view:
        view.ended(cells[0], JobReport("computed", 60.0))
        console.print(view._render())
        shown = out.getvalue()
        assert view._live is not None
    assert "5 of 7 cells done, 1 running; about 2 min left" in shown
    assert "cell 1: epoch 3 of 14, loss 0.700, on node7 (process 12), about 40 s left" in shown
    assert "cell 2" not in shown


def test_durations() -> None:
    assert [live.duration(s) for s in (0.4, 34, 89, 90, 840, 5399, 8280)] == [
        "0 s", "34 s", "89 s", "2 min", "14 min", "90 min", "2.3 h",
    ]  # fmt: skip
