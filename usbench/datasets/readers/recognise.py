"""By the names in a folder alone, in which of the common layouts its data lies."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from usbench.datasets.case_table import TABLES
from usbench.datasets.readers.patterns import SUFFIXES
from usbench.storage.files import os_errors
from usbench.storage.regular import read_text

Kind = Literal["nnunet", "msd", "bids", "csv", "folders"]

KINDS: dict[Kind, str] = {
    "nnunet": "nnU-Net raw data",
    "msd": "a data set of the Medical Segmentation Decathlon",
    "bids": "a BIDS data set",
    "csv": "a table with a row a case",
    "folders": "folders of NIfTI files",
}
"""The layouts that `usbench data import` knows, in words."""

_DEEPEST = 3


def recognise(place: Path) -> Kind | None:
    """The layout of a folder or a table; None where it holds no NIfTI file that one of them would have.

    Raises:
        UsbenchError: where the folder cannot be read.
    """
    if place.is_file():
        return "csv" if place.suffix.lower() in TABLES else None
    with os_errors(place, "look through"):
        if (place / "imagesTr").is_dir() and (place / "dataset.json").is_file():
            numbered = any(_stem(f.name).endswith("_0000") for f in (place / "imagesTr").iterdir())
            return "nnunet" if numbered else "msd"
        if (place / "dataset.json").is_file() and '"file_ending"' in _text(place / "dataset.json"):
            return "nnunet"
        for subject in sorted(place.glob("sub-*")):
            if (subject / "anat").is_dir() or any(subject.glob("ses-*/anat")):
                return "bids"
        return "folders" if nifti_files(place, one=True) else None


def advice(place: Path) -> str:
    """How a folder that is not of the Decathlon becomes a task, or "" where nothing is known of it."""
    kind = recognise(place) if place.exists() else None
    if kind in (None, "msd"):
        return ""
    assert kind is not None
    words = shlex.join(["usbench", "data", "import", str(place)])
    return f"it looks like {KINDS[kind]}, of which '{words}' makes a task"


def nifti_files(folder: Path, one: bool = False) -> list[Path]:
    """The NIfTI files of a folder and of three levels below it, sorted; hidden ones are passed over.

    one: whether the first one is enough.
    """
    found: list[Path] = []
    level = [folder]
    for _ in range(_DEEPEST + 1):
        inner: list[Path] = []
        for place in level:
            for entry in sorted(place.iterdir()):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    inner.append(entry)
                elif entry.name.endswith(SUFFIXES):
                    found.append(entry)
                    if one:
                        return found
        level = inner
    return found


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _text(file: Path) -> str:
    return read_text(file, undecoded="replace")
