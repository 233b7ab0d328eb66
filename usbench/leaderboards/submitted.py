"""Submissions for the leaderboard: verified ones as runs, all others as claims that are never ranked."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError, reason_of
from usbench.leaderboards.tracks import TrackRun
from usbench.results.io import parse_cases
from usbench.results.result import Result
from usbench.results.tracks import parse_tracks_csv, track_protocol
from usbench.results.usable import TRUTH, Entry, Run, checked, table_key

if TYPE_CHECKING:
    from usbench.submissions.checks import Submitted
    from usbench.submissions.content import Submission

_EXACT = 1e-9
"""How far a DSC may be from what its counts give: they are divided once, in float64."""

_ANEW = "write it anew with usbench verify --record"


@dataclass(frozen=True)
class Claim:
    """A row of a submission that is not verified, or a whole archive that cannot be read.

    Attributes:
        entry: The submission's name.
        file: Of the archive.
        reason: Why it is not verified.
        task: The task; this and what follows is "" or None for an archive that cannot be read.
        data: "real", "sample" or "phantom".
        method: The method.
        fusion: The fusion.
        claimed_dsc: Mean over patients by its own account, None where there is none.
        claimed_cases: The patients behind it.
    """

    entry: str
    file: str
    reason: str
    task: str = ""
    data: str = ""
    method: str = ""
    fusion: str = ""
    claimed_dsc: float | None = None
    claimed_cases: int | None = None


def collect_submissions(folder: Path, empty: str = TRUTH) -> tuple[list[Run], list[TrackRun], list[Claim]]:
    """The runs of the verified submissions below `folder`, their tracks, and what the others claim.

    A submission is verified if FILE.verified.json beside it is the record of an archive with its SHA-256;
    the masks are not scored again here. What counts is what the record holds: scores, counts and fingerprint
    as usbench found them, parameters where it could count them. What the archive claims is held against it,
    and takes no part. A track counts where the record has its scores. `empty` is one of
    `usbench.results.usable.EMPTY`.
    Raises `UsbenchError` where there is no such folder.
    """
    from usbench.submissions.archive import opened
    from usbench.submissions.content import read_submission
    from usbench.submissions.record import record_path

    if not folder.is_dir():
        raise UsbenchError(f"{folder}: no such folder of submissions; check --submissions")
    found: list[tuple[Submission, dict[str, Any] | None, str]] = []
    claims: list[Claim] = []
    seen: dict[str, Path] = {}
    # Of two copies the one with a record counts.
    for path in sorted(folder.rglob("*.zip"), key=lambda one: (not record_path(one).exists(), one)):
        try:
            with opened(path) as archive:
                submission = read_submission(archive)
        except Exception as error:
            reason = reason_of(error).removeprefix(f"{path}: ")
            claims.append(Claim(path.name, str(path), f"not readable: {reason}"))
            continue
        if submission.sha256 in seen:
            claims.append(Claim(path.name, str(path), f"the same archive as {seen[submission.sha256]}"))
            continue
        seen[submission.sha256] = path
        found.append((submission, *_state(submission)))
    names = Counter(submission.entry for submission, *_ in found)
    runs: list[Run] = []
    tracks: list[TrackRun] = []
    for submission, record, reason in found:
        name = submission.entry
        if names[name] > 1:
            name = f"{name} ({submission.path.relative_to(folder).as_posix()})"
        if record is not None:
            try:
                counted = [
                    _counted(one, record, Entry(name, record["date"]), empty) for one in submission.runs
                ]
                of_tracks = [
                    _counted_tracks(one, run, record)
                    for one, run in zip(submission.runs, counted, strict=True)
                ]
            except Exception as error:
                record, reason = None, reason_of(error)
            else:
                runs += counted
                tracks += [one for some in of_tracks for one in some]
        if record is None:
            try:
                own = [
                    replace(checked(Result(one.run.path, one.data, one.rows), empty), entry=Entry(name, ""))
                    for one in submission.runs
                ]
                claims += _claims(name, submission.path, reason, own)
            except Exception as error:
                text = f"{reason}; its runs are not readable: {reason_of(error)}"
                claims.append(Claim(name, str(submission.path), text))
    return runs, tracks, claims


def _state(submission: Submission) -> tuple[dict[str, Any] | None, str]:
    """The record of a submission, or None and why it is not verified."""
    from usbench.submissions.record import read_record

    try:
        record = read_record(submission.path)
    except Exception as error:
        return None, reason_of(error)
    if record is None:
        return None, "no record of a verification beside it"
    if record["sha256"] != submission.sha256:
        return None, "changed since it was verified: its record is of another archive"
    return record, ""


_CLAIMED = frozenset(
    ("parameters", "trainable", "frozen_elsewhere", "gflops", "ms_per_slice", "memory_mb", "train_seconds")
)
"""Costs of a row that only its submitter measured, unless a record has them."""


def _counted(one: Submitted, record: Mapping[str, Any], entry: Entry, empty: str) -> Run:
    """A run with the numbers that its verification found in place of those that it claims."""
    from usbench.submissions.record import found_of, record_path

    found = found_of(record, one.folder)
    where = record_path(Path(str(one.run.path).removesuffix(f"/{one.folder}")))
    if found is None:
        raise UsbenchError(f"{where}: holds no scores of {one.folder}; {_ANEW}")
    rows = parse_cases(found.cases, f"{where}: {one.folder}")
    _check_same(one.rows, rows, f"{where}: {one.folder}")
    data = {**one.data, "data": {**one.data["data"], "fingerprint": found.fingerprint}}
    data["cost"] = {**one.data["cost"], **found.costs}
    run = checked(Result(one.run.path, data, rows), empty)
    return replace(run, entry=entry, masks=found.masks, claimed=_CLAIMED - set(found.costs))


def _counted_tracks(one: Submitted, run: Run, record: Mapping[str, Any]) -> list[TrackRun]:
    """The tracks of a run that its verification scored anew, with the scores that it found."""
    from usbench.submissions.tracks import track_member

    tracks = []
    for track in one.tracks:
        member = track_member(one, track)
        if member not in record["tracks"]:
            continue
        rows = parse_tracks_csv(record["tracks"][member], member)
        _check_same(track.rows, rows, member)
        data = track.data
        if data["track"] == "robustness":
            # The phantom is the one here, whatever its fingerprint was elsewhere.
            fingerprint = run.data["data"]["fingerprint"]
            data = {**data, "protocol": track_protocol(run.data, "robustness", fingerprint)}
        tracks.append(TrackRun(run, replace(track, data=data, rows=rows)))
    return tracks


def _check_same(claimed: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], where: str) -> None:
    """Refuse recomputed scores that no verification of these claims can have found.

    Raises:
        UsbenchError: Where rows, words or counts differ, or a score by more than verification allows.
    """
    from usbench.submissions.score import TOLERANCE

    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row.get("condition", ""), row["case"], row["class"]

    for row in found:
        overlap = 2 * row["tp"] + row["fp"] + row["fn"]
        # A score that its own counts do not give was written by hand.
        if not row["edge"] and overlap and not abs(row["dsc"] - 2 * row["tp"] / overlap) <= _EXACT:
            raise UsbenchError(f"{where}: dsc of case {row['case']} is not what its counts give; {_ANEW}")
    by_key = {key(row): row for row in found}
    fits = len(by_key) == len(found) == len(claimed)
    for row in claimed:
        other = by_key.get(key(row))
        if not fits or other is None or set(row) != set(other):
            raise UsbenchError(f"{where}: does not have the rows of its archive; {_ANEW}")
        for name, value in row.items():
            if isinstance(value, float):
                both = math.isnan(value) and math.isnan(other[name])
                same = both or abs(value - other[name]) <= TOLERANCE
            else:
                same = value == other[name]
            if not same:
                raise UsbenchError(
                    f"{where}: {name} of case {row['case']} is not what its archive claims; {_ANEW}"
                )


def _claims(name: str, path: Path, reason: str, runs: Sequence[Run]) -> list[Claim]:
    from usbench.leaderboards.averaging import make_rows

    tables: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        tables[table_key(run.data)].append(run)
    return [
        Claim(
            entry=name,
            file=str(path),
            reason=reason,
            task=members[0].data["cell"]["task"],
            data=row.data,
            method=row.label.removeprefix(f"{name}: "),
            fusion=row.fusion,
            claimed_dsc=row.scores["dsc"],
            claimed_cases=row.cases,
        )
        for members in tables.values()
        for row in make_rows(members)
    ]
