"""Names: which are sound, and the order in which people expect them."""

from __future__ import annotations

import re
from typing import Literal, get_args

# Beside `contract.FUSIONS`, which comes with torch.
PROTOCOLS = ("early", "hybrid", "late")

DataKind = Literal["real", "sample", "phantom"]
"""What a score on data is worth: the full data set, less of it or a user's own, or simulated patients."""

DATA_KINDS: tuple[DataKind, ...] = get_args(DataKind)

DATA_MODES = ("auto", "real", "phantom")
"""The data that a user may ask for; "auto" takes what is there."""


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which 'case2' comes before 'case10'."""
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part
    )


def safe_name(text: str) -> str:
    """`text` in lower case, its words joined by hyphens: safe on a command line and as a file name."""
    return re.sub(r"[^\w.+]+|_+", "-", text.strip().lower()).strip("-.+")


def is_name(text: object) -> bool:
    """Whether `text` is a sound name for a command line and a folder: letters, digits and hyphens."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text) is not None
