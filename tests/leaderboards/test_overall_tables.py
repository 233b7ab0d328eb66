"""Over all tasks where a task has several tables: one chooses, and nothing is chosen silently."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from kit.handmade import add_row, add_tasks

from usbench.cli.main import main
from usbench.errors import UsbenchError
from usbench.leaderboards import build, render

TWO = "chaos (phantom), preset quick, modalities t1-in+t2-spir"
ONE = "chaos (phantom), preset quick, modalities t1-in"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on three tasks; of CHAOS there is a second table, of one modality, the other way round."""
    folder = tmp_path_factory.mktemp("runs")
    add_tasks(folder, "unet", (0.9, 0.8, 0.7))
    add_tasks(folder, "unext", (0.7, 0.7, 0.6))
    one = {"task__modalities": ["t1-in"], "protocol": "0123456789ab"}
    add_row(folder, "unet", [0.45, 0.55], **one)
    add_row(folder, "unext", [0.85, 0.95], **one)
    return folder


def test_a_task_of_several_tables_takes_no_part_and_the_section_says_so(runs: Path) -> None:
    board = build(runs)
    (group,) = board.overall
    assert group.tasks == ("msd-brain", "msd-prostate")
    (said,) = group.open
    assert said.startswith("chaos has several tables (")
    assert said.endswith("); choose one with --overall-table")
    assert TWO in said
    assert ONE in said
    assert "Not counted: chaos has several tables" in render(board, "md")


def test_where_one_task_alone_would_count_the_section_still_says_so(tmp_path: Path) -> None:
    add_tasks(tmp_path, "unet", (0.9, 0.8, None))
    one = {"task__modalities": ["t1-in"], "protocol": "0123456789ab"}
    add_row(tmp_path, "unet", [0.45, 0.55], **one)
    board = build(tmp_path)
    (group,) = board.overall
    assert (group.rows, group.tasks) == ((), ("msd-brain",))
    for form in ("table", "md", "latex", "json", "html"):
        assert "chaos has several tables" in " ".join(render(board, form).split()), form
    (chosen,) = build(tmp_path, overall_tables=[ONE]).overall
    assert [row.method for row in chosen.rows] == ["unet"]


@pytest.mark.parametrize(
    ("chosen", "unet", "unext"),
    [(TWO, (0.9 + 0.8 + 0.7) / 3, 2.0 / 3), (ONE, 2.0 / 3, (0.9 + 0.7 + 0.6) / 3)],
)
def test_the_chosen_table_counts(runs: Path, chosen: str, unet: float, unext: float) -> None:
    (group,) = build(runs, overall_tables=[chosen]).overall
    assert group.tasks == ("chaos", "msd-brain", "msd-prostate")
    assert group.tables[0] == chosen
    assert group.open == ()
    assert {row.method: row.mean_dsc for row in group.rows} == pytest.approx({"unet": unet, "unext": unext})
    # On the two other tasks U-Net is first.
    ranks = {row.method: row.mean_rank for row in group.rows}
    assert ranks == pytest.approx(
        {"unet": 1, "unext": 2} if chosen == TWO else {"unet": 4 / 3, "unext": 5 / 3}
    )


def test_a_table_is_named_by_its_protocol_too(runs: Path) -> None:
    shown = CliRunner().invoke(
        main, ["leaderboard", "--runs-dir", str(runs), "--format", "md", "--overall-table", "0123456789ab"]
    )
    assert shown.exit_code == 0, shown.output
    assert "Not counted" not in shown.output
    (group,) = build(runs, overall_tables=["0123456789ab"]).overall
    assert group.tables[0] == ONE


def test_a_wrong_or_double_choice_is_refused(runs: Path) -> None:
    with pytest.raises(
        UsbenchError, match=r"unknown table 'chaos'.* give the title or the protocol of a table"
    ):
        build(runs, overall_tables=["chaos"])
    with pytest.raises(UsbenchError, match=r"names 2 tables of chaos .* name one of them"):
        build(runs, overall_tables=[ONE, TWO])
