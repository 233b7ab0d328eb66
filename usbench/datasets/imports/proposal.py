"""What is known of a data set before it becomes a task file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from usbench.contracts.files import ScanFiles
from usbench.contracts.names import safe_name
from usbench.datasets.readers.patterns import CASE, SUFFIXES
from usbench.datasets.readers.recognise import Kind
from usbench.errors import UsbenchError


@dataclass
class Part:
    """A class or region: its values in the masks, and words for it."""

    labels: tuple[int, ...]
    words: str = ""


@dataclass
class Proposal:
    """A data set as it was found.

    Attributes:
        kind: the layout.
        folder: of the data; names of files are relative to it.
        scans: the modalities in order.
        words: for modalities, by name.
        mask: pattern of the masks.
        reference: the modality whose grid the masks are on, "" where that is not known.
        cases: the files case by case, in place of patterns.
        classes: by name; empty where no names are known.
        regions: whether the classes may overlap.
        groups: by column, the value of each case.
        title, licence, citation, homepage: as the data set states them, or "".
        prefix: what is put before a pattern that names a file alone.
        unused: patterns that were seen and not taken, with the number of their cases.
        notes: lines for the user.
    """

    kind: Kind
    folder: Path
    scans: list[ScanFiles] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    mask: str = ""
    reference: str = ""
    cases: dict[str, dict[str, str]] = field(default_factory=dict)
    classes: dict[str, Part] = field(default_factory=dict)
    regions: bool = False
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    title: str = ""
    licence: str = ""
    citation: str = ""
    homepage: str = ""
    prefix: str = ""
    unused: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


_WORDS = {
    "flair": "T2-FLAIR MRI",
    "t1": "T1-weighted MRI",
    "t1w": "T1-weighted MRI",
    "t1n": "T1-weighted MRI",
    "t1ce": "contrast-enhanced T1-weighted MRI",
    "t1c": "contrast-enhanced T1-weighted MRI",
    "t1gd": "contrast-enhanced T1-weighted MRI",
    "t2": "T2-weighted MRI",
    "t2w": "T2-weighted MRI",
    "t2f": "T2-FLAIR MRI",
    "adc": "apparent diffusion coefficient map",
    "dwi": "diffusion-weighted MRI",
    "pd": "proton-density-weighted MRI",
    "pdw": "proton-density-weighted MRI",
    "swi": "susceptibility-weighted MRI",
    "ct": "CT",
    "pet": "PET",
}

_MASK_WORDS = {
    "seg", "segmentation", "segmentations", "mask", "masks", "label", "labels", "gt", "groundtruth", "truth",
    "annotation", "annotations", "dseg", "roi", "lesion", "lesions", "manual", "contour", "labelstr",
}  # fmt: skip


def words_for(name: str) -> str:
    """What a modality is called in prompts: the usual words for a usual name, else the name itself."""
    return _WORDS.get(name.lower(), name.replace("-", " "))


def is_mask_name(text: str) -> bool:
    """Whether a file or folder name speaks of a mask."""
    return any(word in _MASK_WORDS for word in re.split(r"[^a-z0-9]+", text.lower()))


def is_scan_name(text: str) -> bool:
    """Whether a file or folder name is the usual name of a modality."""
    return text.lower() in _WORDS


def safe_part(text: str, what: str) -> str:
    """`text` as the name of a modality or class. Raises `UsbenchError` where nothing of it is left."""
    name = safe_name(text)
    if not name:
        raise UsbenchError(f"{what} '{text}' cannot be made a name; use letters, digits and hyphens")
    return name


def stem_of(name: str) -> tuple[str, str]:
    """A file's name without and with its ending: ("p1_flair", ".nii.gz")."""
    suffix = next((s for s in SUFFIXES if name.endswith(s)), "")
    return name.removesuffix(suffix), suffix


def whole_pattern(pattern: str, prefix: str) -> str:
    """A pattern as a user gives it, made one that finds cases.

    "*_flair.nii.gz" is taken within the folder of each case where cases have folders (`prefix`); in a folder
    that holds all cases, its "*" is the name of the case.
    """
    if CASE in pattern or "/" in pattern:
        return pattern
    if prefix and CASE in prefix:
        return f"{prefix}{pattern}"
    return prefix + (pattern.replace("*", CASE, 1) if pattern.startswith("*") else pattern)
