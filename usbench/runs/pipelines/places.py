"""Where a pipeline works while its cell is computed, and what its files are called."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.storage.files import os_errors

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.runs.cell import Cell

FOLDER = ".pipeline"
"""In the folder of a cell, while it is computed: all that a pipeline is given and leaves. Its name begins with a
point, since it is no part of the result."""

LOG = "pipeline.log"
"""In the folder of a cell: what the pipeline's programs said."""


@dataclass(frozen=True)
class Call:
    """One call of a pipeline: of all modalities together, or of one.

    Attributes:
        task: With the modalities of the call.
        folder: Of this call alone.
    """

    task: Task
    folder: Path

    @property
    def raw(self) -> Path:
        """What the pipeline is given."""
        return self.folder / "raw"

    @property
    def work(self) -> Path:
        """The pipeline's own."""
        return self.folder / "work"

    @property
    def left(self) -> Path:
        """Where the pipeline leaves its masks."""
        return self.folder / "masks"

    @property
    def checked(self) -> Path:
        """The masks that were found right, with the values of `Case.mask`, under the ids of the cases."""
        return self.folder / "checked"

    @property
    def outcome(self) -> Path:
        """What the call ended with; with this file it is finished."""
        return self.folder / "outcome.json"


def calls_of(cell: Cell) -> list[Call]:
    """The calls of a cell: one under early fusion, one for each modality under late fusion."""
    folder = cell.folder / FOLDER
    if cell.fusion != "late":
        return [Call(cell.task, folder / "all")]
    names = cell.task.modality_names
    return [
        Call(cell.task.with_modalities([name]), folder / f"{number}-{name}")
        for number, name in enumerate(names, 1)
    ]


def file_names(case_ids: Sequence[str]) -> dict[str, str]:
    """By id what the files of a case are called: the id itself where every program can read it.

    That is letters, digits, hyphens and underscores, no end like that of a channel (_0000), and no other id
    that differs in case alone. Others are called case-001 and so on, by their place.

    Args:
        case_ids: In the order that numbers follow; each once.
    """
    folded = [case_id.casefold() for case_id in case_ids]
    taken, names = set(folded), {}
    for number, case_id in enumerate(case_ids, 1):
        sound = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", case_id) and not re.search(
            r"_\d{4}$", case_id
        )
        if sound and folded.count(case_id.casefold()) == 1:
            names[case_id] = case_id
            continue
        name = f"case-{number:03d}"
        while name in taken:
            name += "x"
        taken.add(name)
        names[case_id] = name
    return names


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, where it is there.

    Raises:
        UsbenchError: Where it cannot be removed.
    """
    if folder.exists():
        with os_errors(folder, "remove"):
            shutil.rmtree(folder)
