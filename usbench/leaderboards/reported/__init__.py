"""Figures that publications report, one file each: shown beside our rows, never ranked or subtracted."""

from __future__ import annotations

from usbench.leaderboards.reported.beside import (
    AUTO,
    CHOICES,
    SMALL,
    Line,
    Measured,
    Reported,
    beside_reported,
    is_small,
)
from usbench.leaderboards.reported.publications import Publication, load_publication, publications

__all__ = [
    "AUTO",
    "CHOICES",
    "SMALL",
    "Line",
    "Measured",
    "Publication",
    "Reported",
    "beside_reported",
    "is_small",
    "load_publication",
    "publications",
]
