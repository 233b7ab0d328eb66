"""The leaderboard as JSON-like values, and what every key says."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from usbench.leaderboards.costs import FRONTS_SCHEMA, fronts_plain
from usbench.leaderboards.flat import claims_dict, entry_dict, row_dict
from usbench.leaderboards.track_plain import track_dict
from usbench.scores.registry import all_scores

if TYPE_CHECKING:
    from usbench.contracts.score import Score
    from usbench.leaderboards.board import Leaderboard
    from usbench.leaderboards.table import Table
    from usbench.leaderboards.tracks import TrackTable

BOARD_SCHEMA_VERSION = 4

# Every key of leaderboard.json and what it says: of the whole, of a table, and of a row before and after its
# scores; lists are shown by one element. null stands for what is undefined or was not recorded.
_BOARD: dict[str, Any] = {
    "schema": "version of this layout",
    "usbench": "version of usbench",
    "empty": "who decides what a class scores that the truth does not have: truth (nothing) or brats",
    "overall": [
        {
            "kind": "kind of data",
            "preset": "preset of all runs",
            "size": "data.size of all runs",
            "train": "settings of training of all runs, but mirror, which follows the task",
            "tasks": "tasks with at least one complete row",
            "tables": "titles of the tables that the ranks are from, one a task",
            "rows": [
                {
                    "rank": "place by mean rank",
                    "method": "name of the method",
                    "label": "method, weights, and the settings in which rows differ",
                    "fusion": "early, hybrid, late, or one that a plugin brings",
                    "weights": "what the network started from",
                    "mean_rank": "mean over tasks of the rank among these rows, ties at their mean rank",
                    "rank_low": "lower end of its 95% interval, patients drawn again in each task, or null",
                    "rank_high": "upper end of it",
                    "mean_dsc": "mean over tasks of the mean DSC",
                    "dsc_low": "lower end of its 95% interval, for these tasks alone, or null",
                    "dsc_high": "upper end of it",
                    "ranks": "rank by task",
                    "dsc": "mean DSC by task",
                }
            ],
            "left_out": "rows that are complete on some of the tasks only",
            "open": "tasks that take no part since nobody chose one of their tables",
        }
    ],
    "reported": [
        {
            "title": "authors and name of a publication; usbench measured none of its figures",
            "reference": "in full",
            "address": "DOI or address, empty where it is not known",
            "second_hand": "where the figures were read, if not in the publication itself; else empty",
            "differs": "what its protocol does not share with ours, a sentence each",
            "lines": [
                {
                    "task": "name of the task in usbench",
                    "printed_task": "the task, as printed",
                    "part": "class or region that the figures are of, empty for the task as a whole",
                    "method": "the method, as printed",
                    "fusion": "the fusion, as printed; empty where none is",
                    "table": "where the line stands in the publication",
                    "parameters": "as printed, empty where none are",
                    "scores": "each figure as printed, text, by the name of the mean in our rows",
                    "units": "the unit of each, as printed",
                    "our_method": "name of the method here, empty where usbench has none",
                    "measured": [
                        {
                            "table": "title of the table of a row of ours of that task, method and fusion",
                            "label": "label of the row",
                            "fusion": "its fusion",
                            "status": "why it is not ranked, empty if it is",
                            "dsc": "its mean DSC, or null",
                            "scores": "its means by name, of the scores that are printed; never subtracted",
                        }
                    ],
                }
            ],
        }
    ],
    "problems": [{"path": "folder that was left out", "reason": "why"}],
}
_TABLE: dict[str, Any] = {
    "title": "name of the table, unlike every other's",
    "task": "name of the task",
    "data": "phantom, sample (less than the full data set, or a user's own) or real (all of it)",
    "preset": "the preset that the configuration started from",
    "config": "the settings of data and training that all rows share",
    "modalities": "the modalities used",
    "classes": "the foreground classes",
    "cases": "number of cases in the data set",
    "limit": "--limit, or null; rows of a limited table are never ranked",
    "folds": "number of folds",
    "split": "fixed (stored with usbench) or derived (from a hash of the case ids)",
    "fingerprint": "SHA-256 over the content of all cases",
    "protocol": "digest of all that rows must share to be compared",
    "tests": {
        "leader": "label and fusion of the best ranked row, or null",
        "test": "the paired test of two ranked rows",
        "correction": "how its p-values are corrected",
        "family": "number of pairs that the p-values are corrected for",
        "patients": "number of patients that all ranked rows share",
        "flips": "number of patterns of signs that were tried",
        "smallest_p": "smallest p that so many patients can give",
        "testable": "whether it is small enough to separate anything",
        "note": "what is exact, and whether so few patients can separate anything",
        "seeds": "what the claims say of other trainings",
    },
    "fusion_effects": [
        {
            "method": "label of the method and settings that the two rows share",
            "a": "fusion of the first row",
            "b": "fusion of the second row",
            "difference": "mean paired difference of DSC, a less b",
            "low": "lower end of its 95% interval, null below four patients and without spread",
            "high": "upper end of it",
            "n": "number of patients that both rows have",
            "p": "two-sided, corrected over all pairs of fusions of the table",
        }
    ],
    "split_half": {
        "agreement": "of the order of rows between two random halves of the patients, 1: the same; null "
        "below ten patients",
        "low": "lower end of the range (95%) that it has where all rows are equal",
        "high": "upper end of it",
    },
    "schemes": {
        "by_mean": "ranks of the ranked rows by mean DSC, in their order",
        "by_ranks": "by the mean over patients of the rank within a patient",
        "by_wins": "by the rows that a row is separated from and above, less those above it; null where few "
        "patients separate nothing",
        "agreement": "Kendall's tau-b between each two of the three",
    },
    "baseline": [
        {
            "a": "label and fusion of a ranked row",
            "b": "the row that --baseline names",
            "difference": "mean paired difference of DSC, a less b",
            "low": "lower end of its 95% interval, or null",
            "high": "upper end of it",
            "n": "number of patients that both rows have",
            "p": "two-sided, corrected over the rows that are held against b",
        }
    ],
    "cost_fronts": FRONTS_SCHEMA,
}
_BEFORE_SCORES: dict[str, Any] = {
    "rank": "place by DSC, null if not ranked; equal means share a rank",
    "standing": "leader, not separated (from the leader), below the leader, not testable (too few patients), "
    "or empty for a row that is not ranked or alone",
    "best": "whether it cannot be ruled out as the best row; null where that cannot be tested",
    "status": "why the row is not ranked, or empty",
    "method": "name of the method",
    "label": "method, weights, and the settings in which rows of the table differ",
    "fusion": "early, hybrid, late, or one that a plugin brings",
    "dsc": "mean DSC over patients; classes, then seeds are averaged within a patient first",
    "dsc_low": "lower end of its 95% interval, null below four patients and without spread",
    "dsc_high": "upper end of it",
    "seed_sd": "standard deviation (n - 1) of the mean DSC of the seeds, null with one",
    "interval_note": "why there is no interval, or that it is of few patients, else empty",
    "p_leader": "corrected p against the leader; null for the leader and rows not ranked",
    "rank_low": "first rank that it may have: 1 + the rows separated above it",
    "rank_high": "last rank that it may have: the ranked rows less those separated below it",
}
_AFTER_SCORES: dict[str, Any] = {
    "hd95_penalised": "patients whose HD95 counts the diagonal of a volume: nothing of a class was predicted",
    "hd95_found": "mean HD95 over the patients and classes where both masks hold something",
    "empty_cases": "patients with a class that the truth does not have; it is not scored for any row",
    "false_cases": "those of them in whom it was predicted",
    "parameters": "number of parameters, the largest of the runs",
    "trainable": "number of trained parameters, the largest of the runs",
    "frozen_elsewhere": "number of parameters of frozen parts that made features",
    "gflops": "forward GFLOPs of one slice, 2 x multiply-adds, median of the runs",
    "ms_per_slice": "forward milliseconds of one slice, median of the runs",
    "memory_mb": "peak memory in MB of the GPU, or of the process on a CPU, largest of the "
    "runs that do not count what was computed before them; or null",
    "train_seconds": "seconds of training of one run, median of the runs",
    "device": "names of the devices, separated by semicolons",
    "cases": "number of patients behind the mean DSC",
    "folds_done": "number of folds that have a run",
    "folds": "number of folds",
    "seeds": "number of seeds of a fold, or the fewest and the most",
    "weights": "what the network started from",
    "data": "kind of data, as in the table",
    "settings": "settings of method and fusion, version, code and number of devices",
    "patients": "DSC by case id, null where it is undefined",
    "runs": [
        {
            "path": "folder of the run",
            "hash": "digest of everything that changes its outcome",
            "commit": "commit of usbench that computed it, or null",
            "device": "name of its device",
            "fold": "test fold, from 0",
            "seed": "seed of every random draw",
            "fingerprint": "SHA-256 over the content of all cases",
        }
    ],
    "also": [
        {
            "name": "a row folded under it: a submission, a copy, or older code",
            "dsc": "its mean DSC",
            "why": "the same scores, or older code",
            "runs": "what is behind it, as in runs",
        }
    ],
}

# What a leaderboard with --submissions has besides: keys of each row, and a list beside the tables.
SUBMISSIONS_SCHEMA: dict[str, Any] = {
    "rows": {
        "claimed": "costs that are the submitter's word, by name with blanks between, and never compared; "
        "null for one's own runs",
        "entry": "name of the submission that the row comes from, null for one's own runs",
        "verified": "day on which every mask of the submission was scored anew, null for one's own runs; the "
        "scores of the row are those that were found then",
    },
    "claims": [
        {
            "entry": "name of a submission that is not verified, or of its file",
            "file": "its archive",
            "reason": "why it is not verified",
            "task": "name of the task, empty where the archive cannot be read",
            "data": "kind of data",
            "method": "name of the method",
            "fusion": "early, hybrid or late",
            "claimed_dsc": "mean DSC over patients by its own account; never ranked",
            "claimed_cases": "number of patients behind it",
        }
    ],
}

# What a table has besides where something must be said of it.
SAID_SCHEMA: dict[str, Any] = {
    "said": "sentences: rows or seeds that have the same masks, and tables that differ in nothing but the "
    "fingerprint of the data or in settings equal within rounding"
}

# What each table of a leaderboard with --pairs has besides; null for more than 60 ranked rows.
PAIRS_SCHEMA: dict[str, Any] = {
    "pairs": [
        {
            "a": "label and fusion of a ranked row",
            "b": "label and fusion of a ranked row below it",
            "difference": "mean paired difference of what ranks, a less b",
            "low": "lower end of its 95% interval, or null",
            "high": "upper end of it",
            "n": "number of patients that both rows have",
            "p": "two-sided, corrected over all pairs of ranked rows",
        }
    ]
}

# What a leaderboard with runs on few training patients has besides: keys of each table of them, and a list
# beside the tables.
FEW_PATIENTS_SCHEMA: dict[str, Any] = {
    "tables": {
        "share": "part of the training patients that was trained on, absent where a number was asked for",
        "train_cases": "number of training patients that was trained on, absent where a share was asked for",
    },
    "curves": [
        {
            "title": "title of the table of all training patients, or what it would be",
            "task": "name of the task",
            "data": "kind of data",
            "curves": [
                {
                    "method": "name of the method",
                    "label": "method, weights, and the settings in which curves differ",
                    "fusion": "early, hybrid, late, or one that a plugin brings",
                    "points": [
                        {
                            "trained_on": "30%, 5 patients, or all",
                            "least": "fewest patients that a run of the table was trained on",
                            "most": "most of them",
                            "dsc": "mean DSC of the row",
                            "low": "lower end of its 95% interval, or null",
                            "high": "upper end of it",
                            "cases": "number of test patients behind the mean",
                            "folds_done": "number of folds that have a run",
                            "folds": "number of folds",
                            "table": "title of the table that the row stands in",
                        }
                    ],
                }
            ],
        }
    ],
}


def board_schema() -> dict[str, Any]:
    """Every key of leaderboard.json and what it says; lists are shown by one element.

    A test holds real leaderboards against it. null stands for what is undefined or was not recorded.
    """
    scores = {score.mean_name: _meaning(score) for score in all_scores() if score.name != "dsc"}
    row = {**_BEFORE_SCORES, **scores, **_AFTER_SCORES}
    return {**_BOARD, "tables": [{**_TABLE, "rows": [row]}]}


def _meaning(score: Score) -> str:
    """What the mean of a score in a row says."""
    unit = f", {score.unit}" if score.unit else ""
    added = "; null where a run of the row lacks it" if score.added else ""
    return f"mean over classes, then over patients: {score.sentence}{unit}{added}"


def as_dict(board: Leaderboard) -> dict[str, Any]:
    """The leaderboard as JSON-like values, every number unrounded.

    `board_schema` explains each key; `SUBMISSIONS_SCHEMA`, `FEW_PATIENTS_SCHEMA`, `TRACK_SCHEMA`,
    `SAID_SCHEMA` and `PAIRS_SCHEMA` those that a leaderboard with submissions, with runs on few training
    patients, with tracks, with something that must be said of a table, or with --pairs has besides.
    """
    from usbench import __version__

    found = _as_dict(board, __version__)
    if board.tracks:
        found["tracks"] = [track_dict(table) for table in board.tracks]
    if board.curves:
        found["curves"] = [asdict(one) for one in board.curves]
    if board.with_pairs:
        every: list[Table | TrackTable] = [*board.tables, *board.tracks]
        for one, shown in zip(every, [*found["tables"], *found.get("tracks", ())], strict=True):
            shown["pairs"] = None if one.pairs is None else [asdict(pair) for pair in one.pairs]
    if board.claims is None:
        return found
    for table, shown in zip(board.tables, found["tables"], strict=True):
        for row, values in zip(table.rows, shown["rows"], strict=True):
            values |= entry_dict(row)
    return {**found, "claims": [asdict(claim) for claim in board.claims]}


def _as_dict(board: Leaderboard, version: str) -> dict[str, Any]:
    return {
        "schema": BOARD_SCHEMA_VERSION,
        "usbench": version,
        "empty": board.empty,
        "tables": [_table_dict(table) for table in board.tables],
        "overall": [asdict(group) for group in board.overall],
        "reported": [asdict(one) for one in board.reported],
        "problems": [{"path": str(problem.path), "reason": problem.reason} for problem in board.problems],
    }


def _table_dict(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "task": table.task,
        "data": table.kind,
        "preset": table.preset,
        "config": table.config,
        "modalities": list(table.modalities),
        "classes": list(table.classes),
        "cases": table.cases,
        "limit": table.limit,
        "folds": table.folds,
        "split": table.rule,
        "fingerprint": table.fingerprint,
        "protocol": table.protocol,
        **({} if table.few is None else table.few.facts),
        **({"said": list(table.notes)} if table.notes else {}),
        **claims_dict(table),
        "cost_fronts": fronts_plain(table),
        "rows": [row_dict(row) for row in table.rows],
    }
