"""The published table beside our rows: reported by the paper, not measured here, and never ranked.

`reported.csv` is Table 2 of Dai et al., "Zeus: Zero-shot LLM Instruction for Union Segmentation in
Multimodal Medical Imaging", as printed: DSC and mIoU in percent, parameters in millions.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError
from usbench.leaderboards.rows import Row
from usbench.leaderboards.table import Table

if TYPE_CHECKING:
    from usbench.contracts.data import Task

SOURCE = "Dai et al., Zeus, Table 2"

_FILE = Path(__file__).with_name("reported.csv")
_METHODS = {
    "U-Net": "unet",
    "AttUNet": "attunet",
    "ResUNet": "resunet",
    "UNeXt": "unext",
    "UNet++": "unetpp",
    "TransUNet": "transunet",
    "MISSFormer": "missformer",
    "Zeus": "zeus",
}


@dataclass(frozen=True)
class Reported:
    """A printed score, and one of our rows of the same task, method and fusion where there is one.

    Attributes:
        task: Name of the task.
        method: The method, as printed.
        fusion: The fusion, as printed.
        source: Where it is printed.
        reported_dsc: DSC in percent.
        reported_miou: mIoU in percent.
        reported_parameters: In millions.
        our_method: The method's name in usbench.
        our_label: Of our row; this and what follows is None without one.
        our_table: Title of the table of our row.
        our_dsc: DSC of our row in percent.
        difference: Ours less reported, in percentage points; only for full real data with all modalities and
            classes.
        note: What else the two do not share.
    """

    task: str
    method: str
    fusion: str
    source: str
    reported_dsc: float
    reported_miou: float
    reported_parameters: float
    our_method: str
    our_label: str | None
    our_table: str | None
    our_dsc: float | None
    difference: float | None
    note: str


def beside_reported(tables: Sequence[Table], plugins: Sequence[str | Path] = ()) -> tuple[Reported, ...]:
    """The published scores of the tasks that have a table, each beside every row of ours that fits it.

    Args:
        tables: The tables of a leaderboard.
        plugins: Python files with tasks. A task's `published` is the name under which the table lists it.

    Returns:
        One entry for each fitting row of ours, and one for a published score without any.
    """
    found = []
    for task in _published_tasks({table.task for table in tables}, plugins):
        of_task = [table for table in tables if table.task == task.name and table.few is None]
        for printed in printed_rows():
            method = _METHODS[printed["method"]]
            ours = [
                (table, row)
                for table in of_task
                for row in table.rows
                if (row.method, row.fusion) == (method, printed["fusion"])
                and row.scores["dsc"] is not None
                and row.entry is None
            ]
            found += [_beside(task, printed, method, table, row) for table, row in ours]
            if not ours:
                found.append(_beside(task, printed, method, None, None))
    return tuple(found)


def _published_tasks(names: set[str], plugins: Sequence[str | Path]) -> list[Task]:
    """The tasks of these names that the published table lists, built-in ones first."""
    from usbench.datasets.tasks import get_task, task_names

    order = [name for name in task_names() if name in names]
    tasks = []
    for name in (*order, *sorted(names - set(order))):
        # The task of a user's folder, or of a plugin that is not here, is not in the table.
        with contextlib.suppress(UsbenchError):
            tasks.append(get_task(name, plugins))
    return [task for task in tasks if f"{task.published}_dsc" in printed_rows()[0]]


@cache
def printed_rows() -> tuple[dict[str, str], ...]:
    """The rows of `reported.csv` as text, by its own column names."""
    with open(_FILE, newline="", encoding="utf-8") as stream:
        return tuple(csv.DictReader(stream))


def _beside(
    task: Task, printed: dict[str, str], method: str, table: Table | None, row: Row | None
) -> Reported:
    column = task.published
    dsc, miou = float(printed[f"{column}_dsc"]), float(printed[f"{column}_miou"])
    ours = None if row is None or row.scores["dsc"] is None else 100 * row.scores["dsc"]
    difference, note = None, "not run here"
    if table is not None and row is not None and ours is not None:
        note = _why_not(task, table, row)
        if not note:
            difference = ours - dsc
            note = f"preset {table.preset}, weights {row.weights}; splits and averaging of the paper unknown"
    return Reported(
        task.name,
        printed["method"],
        printed["fusion"],
        SOURCE,
        dsc,
        miou,
        float(printed["params_m"]),
        method,
        row.label if row else None,
        table.title if table else None,
        ours,
        difference,
        note,
    )


def _why_not(task: Task, table: Table, row: Row) -> str:
    """Why a row of ours has no difference to the printed one; "" if it may have."""
    if table.kind != "real":
        return f"{table.kind} data, not the paper's: no difference"
    if set(table.modalities) != set(task.modality_names) or set(table.classes) != set(task.class_names):
        return "other modalities or classes: no difference"
    return f"{row.status}: no difference" if row.status else ""
