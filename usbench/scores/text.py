"""Scores as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from usbench.contracts.score import DIAGONAL, Score


def number(value: float | None, digits: int = 3, scale: float = 1.0) -> str:
    """A score for a table; "-" where it is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value * scale:.{digits}f}"


def definitions(scores: Sequence[Score]) -> str:
    """The table of definitions in `docs/metrics.md`.

    Args:
        scores: The entries, in order.

    Returns:
        A Markdown table, a line each score.
    """
    lines = [
        "| score | name in files | definition | unit | better | where the prediction is missing |",
        "|---|---|---|---|---|---|",
    ]
    for score in scores:
        mean = f" (mean: `{score.mean_name}`)" if score.mean else ""
        sentence = score.sentence.replace("|", "\\|")
        name, unit = f"`{score.name}`{mean}", score.unit or "-"
        cells = (score.label, name, sentence, unit, score.direction, _missing(score))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _missing(score: Score) -> str:
    if score.worst is None:
        return "as an empty one"
    return "image diagonal" if score.worst == DIAGONAL else f"{score.worst:g}"
