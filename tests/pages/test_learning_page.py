"""The learning curves of a leaderboard's page, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.browsing import NEEDS_BROWSER
from kit.few_patients import write_curves

from usbench.leaderboards import write
from usbench.leaderboards.board import build


@NEEDS_BROWSER
def test_curves_can_be_read(reader: Any, tmp_path: Path) -> None:
    board = build(write_curves(tmp_path / "runs"))
    page = next(p for p in write(board, tmp_path / "out", pictures=False) if p.suffix == ".html")
    reader.open(page.as_uri())
    assert "Learning curves" in reader.text("#learning h2")
    lines = reader.all("#learning .plot .curve")
    marks = reader.all("#learning .plot .mark")
    assert (len(lines), len(marks)) == (2, 4)
    # Of U-Net: 1, 2 and 3 patients with 0.5, 0.6 and 0.8, so the second step up is twice the first.
    numbers = [float(n) for n in lines[1].get_attribute("d").replace("M", " ").replace("L", " ").split()]
    across, down = numbers[::2], numbers[1::2]
    assert across == sorted(across)
    assert down[1] - down[2] == pytest.approx(2 * (down[0] - down[1]), rel=1e-6)
    # On a logarithmic axis: from 1 to 2 as far as from 2 to 4, so log 2 : log 1.5.
    assert (across[1] - across[0]) / (across[2] - across[1]) == pytest.approx(0.6931 / 0.4055, rel=1e-3)
    rows = reader.run(
        "return [...document.querySelectorAll('#learning tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText).join(''))"
    )
    assert len(rows) == 4
    assert rows[1].startswith("unetlate1 patient10.500\N{EN DASH}62/2")
    reader.run("document.querySelector('#learning svg[role=img]').focus()")
    assert "unext, early, trained on 2 patients (50%): DSC 0.950" in reader.text("#learning .plot .caption")
    assert "30%" not in reader.text("#learning")
    assert reader.overflow() <= 0
    reader.check_quiet()
