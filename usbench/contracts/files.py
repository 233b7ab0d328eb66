"""Where the files of a task lie that is described by a file (task.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MASK = "mask"
"""What the mask is called where the files of a case are named; no modality may have this name."""


@dataclass(frozen=True)
class ScanFiles:
    """The files of one modality.

    Attributes:
        name: of the modality.
        pattern: of its files, relative to the folder, with `{case}` for the name of the case and `*` for
            anything else within one name; "" where the files are named case by case.
        channel: the volume on the fourth axis (from 0); None for files of three axes.
    """

    name: str
    pattern: str = ""
    channel: int | None = None


@dataclass(frozen=True)
class Group:
    """What tells patients apart besides their images, such as the site or the scanner.

    Attributes:
        name: of the column.
        values: pairs of a case and its value.
    """

    name: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TaskFiles:
    """Which file of a folder is which scan or mask of which case.

    Attributes:
        folder: absolute; names of files are relative to it.
        scans: of every modality of the task, in order.
        mask: pattern of the masks; "" where the files are named case by case.
        cases: the files case by case, in place of patterns: pairs of a case and its pairs of a modality (or
            `MASK`) and a file.
        exclude: cases that are left out although files of them are there.
        reference: the modality whose grid the others are brought onto; its grid is that of the mask.
        resample: whether a scan on another grid is resampled; else it is refused.
        groups: columns by which patients may be told apart.
    """

    folder: Path
    scans: tuple[ScanFiles, ...]
    mask: str = ""
    cases: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    exclude: tuple[str, ...] = ()
    reference: str = ""
    resample: bool = True
    groups: tuple[Group, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All that decides which file goes where, as plain values; the folder itself does not."""
        return {
            "scans": [[one.name, one.pattern, one.channel] for one in self.scans],
            "mask": self.mask,
            "cases": {case: dict(files) for case, files in self.cases},
            "exclude": sorted(self.exclude),
            "reference": self.reference,
            "resample": self.resample,
        }

    def group(self, name: str) -> Mapping[str, str]:
        """The value of each case in the group called `name`; empty where there is none of that name."""
        return next((dict(one.values) for one in self.groups if one.name == name), {})
