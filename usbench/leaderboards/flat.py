"""Rows of a leaderboard as plain values, and all of them as one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from usbench.leaderboards.rows import Row
from usbench.leaderboards.table import Table
from usbench.scores.registry import beside_dsc

if TYPE_CHECKING:
    from pandas import DataFrame

    from usbench.leaderboards.tracks import TrackTable


def row_dict(row: Row) -> dict[str, Any]:
    """One row as JSON-like values."""
    low, high = row.interval or (None, None)
    rank_low, rank_high = row.rank_set or (None, None)
    scores = dict(row.scores)
    return {
        "rank": row.rank,
        "standing": row.standing,
        "best": row.best,
        "status": row.status,
        "method": row.method,
        "label": row.label,
        "fusion": row.fusion,
        "dsc": scores.pop("dsc"),
        "dsc_low": low,
        "dsc_high": high,
        "seed_sd": row.seed_sd,
        "interval_note": row.interval_note,
        "p_leader": row.p_leader,
        "rank_low": rank_low,
        "rank_high": rank_high,
        **scores,
        "hd95_penalised": row.hd95_penalised,
        "hd95_found": row.hd95_found,
        "empty_cases": row.empty_cases,
        "false_cases": row.false_cases,
        "parameters": row.parameters,
        "trainable": row.trainable,
        "frozen_elsewhere": row.frozen_elsewhere,
        "gflops": row.gflops,
        "ms_per_slice": row.ms_per_slice,
        "memory_mb": row.memory_mb,
        "train_seconds": row.train_seconds,
        "device": row.device,
        "cases": row.cases,
        "folds_done": row.folds_done,
        "folds": row.folds,
        "seeds": seeds(row),
        "weights": row.weights,
        "data": row.data,
        "settings": row.settings,
        "patients": {case: _defined(scores["dsc"]) for case, scores in row.patients.items()},
        "runs": list(row.runs),
        "also": [asdict(one) for one in row.also],
    }


def claims_dict(table: Table | TrackTable) -> dict[str, Any]:
    """What a table says of the differences between its rows, as JSON-like values."""
    return {
        "tests": asdict(table.tests),
        "fusion_effects": [asdict(effect) for effect in table.fusion_effects],
        "split_half": None if table.split_half is None else asdict(table.split_half),
        "schemes": None if table.schemes is None else asdict(table.schemes),
        "baseline": [asdict(one) for one in table.baseline],
    }


def pairs_list(table: Table | TrackTable) -> list[list[float | None]] | None:
    """Every pair of ranked rows as [difference, low, high, p], in order; None where there are too many."""
    if table.pairs is None:
        return None
    return [[one.difference, one.low, one.high, one.p] for one in table.pairs]


def seeds(row: Row) -> str:
    """The number of seeds of a fold, or the fewest and the most."""
    few, many = row.seeds
    return str(many) if few == many else f"{few} to {many}"


def entry_dict(row: Row) -> dict[str, Any]:
    """The submission of a row, null for one's own runs."""
    entry = row.entry
    claimed = None if entry is None else " ".join(sorted(row.claimed))
    return {
        "claimed": claimed,
        "entry": entry.name if entry else None,
        "verified": entry.verified if entry else None,
    }


def flat_rows(tables: Sequence[Table], with_entries: bool = False) -> list[dict[str, Any]]:
    """Every row of every table, each with what tells its table from the others.

    Args:
        tables: Of a leaderboard.
        with_entries: Whether a row says the submission that it comes from.

    Returns:
        A mapping a row: plain values, settings as text, the folders of the runs with semicolons between.
    """
    rows = []
    for table in tables:
        facts = {
            "table": table.title,
            "task": table.task,
            "preset": table.preset,
            "modalities": " ".join(table.modalities),
            "classes": " ".join(table.classes),
            "fingerprint": table.fingerprint,
            "protocol": table.protocol,
        }
        for row in table.rows:
            values = row_dict(row)
            # One patient or run a line would be another table: JSON has them in full.
            del values["patients"]
            values["settings"] = " ".join(f"{name}={value}" for name, value in row.settings.items())
            values["runs"] = ";".join(run["path"] for run in row.runs)
            values["also"] = "; ".join(f"{one.name} ({one.why})" for one in row.also)
            if with_entries:
                values |= entry_dict(row)
            rows.append({**facts, **values})
    return rows


def frame(tables: Sequence[Table], with_entries: bool) -> DataFrame:
    """What `flat_rows` gives as a data frame; NaN for what is undefined or was not recorded.

    Args:
        tables: Of a leaderboard.
        with_entries: As for `flat_rows`.

    Returns:
        A row for each row of each table, the columns those of leaderboard.csv.
    """
    from pandas import DataFrame

    return DataFrame(flat_rows(tables, with_entries))


def html_of(tables: Sequence[Table]) -> str:
    """The tables as short HTML for a notebook: rank, name, scores and size of each row.

    Args:
        tables: Of a leaderboard.

    Returns:
        A heading and a table for each of them.
    """
    from pandas import DataFrame

    parts = []
    for table in tables:
        rows = [
            {
                "rank": "-" if row.rank is None else str(row.rank),
                "method": row.label,
                "fusion": row.fusion,
                "DSC": _shown(row.scores["dsc"], 3),
                "95% CI": "-" if row.interval is None else "{:.3f} to {:.3f}".format(*row.interval),
                **{
                    score.mean_heading: _shown(row.scores[score.mean_name], score.digits)
                    for score in beside_dsc()
                },
                "parameters": "-" if row.parameters is None else f"{row.parameters:,}",
                "cases": row.cases,
                "status": row.status,
            }
            for row in table.rows
        ]
        parts.append(f"<h4>{escape(table.title)}</h4>{DataFrame(rows).to_html(index=False)}")
    return "".join(parts)


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
