"""Scores as text."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3, scale: float = 1.0) -> str:
    """A score for a table; "-" where it is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value * scale:.{digits}f}"
