"""Tables of tracks as JSON-like values and as flat rows, and what every key says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from usbench.leaderboards.flat import claims_dict, entry_dict, row_dict
from usbench.leaderboards.rows import Row
from usbench.leaderboards.tracks import TrackRow, TrackTable

# Every key of an element of "tracks" of leaderboard.json and what it says.
TRACK_SCHEMA: dict[str, Any] = {
    "title": "name of the table, unlike every other's",
    "track": "robustness or external",
    "other_data": "what the other data of an external track is called, empty for the run's own test folds",
    "task": "name of the task that the networks were trained on",
    "data": "kind of data: phantom, sample or real",
    "preset": "the preset that the configuration started from",
    "modalities": "the modalities used",
    "classes": "the foreground classes",
    "cases": "number of patients that were predicted",
    "folds": "number of folds of the training data",
    "fingerprint": "SHA-256 over the content of the data that was predicted",
    "protocol": "digest of all that rows must share to be compared",
    "ranked_by": "name of the mean that ranks",
    "ranked_as": "what tables call it",
    "tests": "as in the clean tables, of what ranks",
    "fusion_effects": "as in the clean tables, of what ranks",
    "split_half": "as in the clean tables, of what ranks",
    "schemes": "as in the clean tables, of what ranks",
    "baseline": "as in the clean tables, of what ranks",
    "rows": [
        {
            "rank": "place by what ranks, null if not ranked",
            "standing": "as in the clean tables",
            "best": "as in the clean tables",
            "status": "why the row is not ranked, or empty",
            "method": "name of the method",
            "label": "method, weights, and the settings in which rows of the table differ",
            "fusion": "early, hybrid, late, or one that a plugin brings",
            "told": "whether the network was told which modalities are there",
            "seed_sd": "standard deviation of what ranks over seeds, null with one",
            "p_leader": "corrected p against the leader",
            "rank_low": "first rank that it may have",
            "rank_high": "last rank that it may have",
            "means": {
                "NAME": {
                    "value": "mean over patients; usbench.leaderboards.tracks.values_of explains the names",
                    "low": "lower end of its 95% interval over patients, null without one",
                    "high": "upper end of it",
                    "cases": "number of patients behind it",
                }
            },
            "cases": "number of patients behind what ranks",
            "folds_done": "number of folds that have the track",
            "folds": "number of folds",
            "seeds": "number of seeds of a fold, or the fewest and the most",
            "weights": "what the network started from",
            "data": "kind of data that it was trained on",
            "settings": "settings of method and fusion, version, code and number of devices",
            "patients": "what ranks by case id, null where it is undefined",
            "runs": "the runs, as in the clean tables",
            "also": "rows folded under it, as in the clean tables",
            "claimed": "costs that are the submitter's word, as in the clean tables",
            "entry": "the submission that the row comes from, null for one's own runs",
            "verified": "day on which every mask of the submission was scored anew, or null",
        }
    ],
}

_KEPT = (
    "rank", "standing", "best", "status", "method", "label", "fusion", "seed_sd", "p_leader", "rank_low",
    "rank_high", "cases", "folds_done", "folds", "seeds", "weights", "data", "settings", "patients", "runs",
    "also",
)  # fmt: skip


def track_dict(table: TrackTable) -> dict[str, Any]:
    """A table of a track as JSON-like values, with the keys of `TRACK_SCHEMA`; every number unrounded."""
    return {
        "title": table.title,
        "track": table.track,
        "other_data": table.data,
        "task": table.task,
        "data": table.kind,
        "preset": table.preset,
        "modalities": list(table.modalities),
        "classes": list(table.classes),
        "cases": table.cases,
        "folds": table.folds,
        "fingerprint": table.fingerprint,
        "protocol": table.protocol,
        "ranked_by": table.ranked_by,
        "ranked_as": table.ranked_as,
        **claims_dict(table),
        "rows": [_row(row) for row in table.rows],
    }


def _row(row: TrackRow) -> dict[str, Any]:
    means = {name: asdict(mean) for name, mean in row.means.items()}
    return {**_standing(row.standing), "told": row.told, "means": means, **entry_dict(row.standing)}


def _standing(row: Row) -> dict[str, Any]:
    values = row_dict(row)
    return {name: values[name] for name in _KEPT}


def flat_track_rows(tables: Sequence[TrackTable]) -> list[dict[str, Any]]:
    """Every row of some tables of one track, each with what tells its table from the others.

    Args:
        tables: Of the same track.

    Returns:
        A mapping a row, all with the same keys: each mean with the ends of its interval, None where a table
        has other modalities.
    """
    names = list(dict.fromkeys(name for table in tables for row in table.rows for name in row.means))
    rows = []
    for table in tables:
        facts = {
            "table": table.title,
            "track": table.track,
            "other_data": table.data,
            "task": table.task,
            "preset": table.preset,
            "modalities": " ".join(table.modalities),
            "classes": " ".join(table.classes),
            "fingerprint": table.fingerprint,
            "protocol": table.protocol,
            "ranked_by": table.ranked_by,
        }
        for row in table.rows:
            values = _row(row)
            means = values.pop("means")
            del values["patients"]
            values["settings"] = " ".join(f"{name}={value}" for name, value in values["settings"].items())
            values["runs"] = ";".join(run["path"] for run in values["runs"])
            values["also"] = "; ".join(f"{one['name']} ({one['why']})" for one in values["also"])
            for name in names:
                mean = means.get(name, {})
                values[name] = mean.get("value")
                values |= {f"{name}_{end}": mean.get(end) for end in ("low", "high", "cases")}
            rows.append({**facts, **values})
    return rows
