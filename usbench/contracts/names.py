"""Names: which are sound, and the order in which people expect them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, get_args

# Beside `contract.FUSIONS`, which comes with torch.
PROTOCOLS = ("early", "hybrid", "late")

DataKind = Literal["real", "sample", "phantom"]
"""What a score on data is worth: the full data set, less of it or a user's own, or simulated patients."""

OutsideKind = Literal["pipeline", "masks"]
"""Where masks come from that usbench did not predict: a program that it ran, or somebody."""

DATA_KINDS: tuple[DataKind, ...] = get_args(DataKind)

TRACKS = ("robustness", "external")
"""What a finished network is tested on beside its clean test fold, see `usbench.results.tracks`."""

DATA_MODES = ("auto", "real", "phantom")
"""The data that a user may ask for; "auto" takes what is there."""


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which 'case2' comes before 'case10'."""
    # Python's `isdigit` is also true for characters that are no number to `int`, such as a superscript 2.
    return tuple(
        (0, int(part), "") if part[0] in "0123456789" else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    )


_FORBIDDEN = '<>:"/\\|?*'
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
# Each byte takes up to three characters in a submission, and names of files have at most 255.
_LONGEST = 80


def case_id_fault(case_id: object) -> str:
    """What keeps a text from being the name of a case, which names files on every system, or "".

    Args:
        case_id: as a data set has it. Any alphabet and spaces within are fine.

    Returns:
        The end of a sentence that begins with the name.
    """
    if not isinstance(case_id, str) or not case_id.strip():
        return "is empty"
    if case_id != case_id.strip() or case_id.strip(".") != case_id:
        return "begins or ends with a space or a dot"
    if bad := next((c for c in case_id if c in _FORBIDDEN), ""):
        return f"has the character {bad}, which names of files may not have everywhere"
    if not all(c.isprintable() for c in case_id):
        return "has a character that cannot be shown"
    if len(case_id.encode()) > _LONGEST:
        return f"takes {len(case_id.encode())} bytes, at most {_LONGEST} are taken"
    if case_id.split(".")[0].upper() in _DEVICES:
        return "is the name of a device on Windows"
    return ""


def twins(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that are one file on some systems; None where there are none.

    Such are names that differ in upper and lower case alone, or in how accents are encoded (Unicode NFC).
    """
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def safe_name(text: str) -> str:
    """`text` in lower case, its words joined by hyphens: safe on a command line and as a file name."""
    return re.sub(r"[^\w.+]+|_+", "-", text.strip().lower()).strip("-.+")


def is_name(text: object) -> bool:
    """Whether `text` is a sound name for a command line and a folder: letters, digits and hyphens."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text) is not None
