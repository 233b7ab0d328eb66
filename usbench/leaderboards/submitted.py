"""Submissions for the leaderboard: verified ones as runs, all others as claims that are never ranked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import FOREIGN, UsbenchError, reason_of
from usbench.leaderboards.tracks import TrackRun
from usbench.results.result import Result
from usbench.results.usable import TRUTH, Entry, Run, checked, table_key

if TYPE_CHECKING:
    from usbench.submissions.content import Submission


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

    A track counts where the record says that every mask of it was scored anew.

    A submission is verified if FILE.verified.json beside it is the record of an archive with its SHA-256;
    the masks are not scored again here. `empty` is one of `usbench.results.usable.EMPTY`.
    Raises `UsbenchError` where there is no such folder.
    """
    from usbench.submissions.archive import opened
    from usbench.submissions.content import read_submission
    from usbench.submissions.tracks import track_member
    from usbench.submissions.verify import record_path

    if not folder.is_dir():
        raise UsbenchError(f"{folder}: no such folder of submissions; check --submissions")
    found: list[tuple[Submission, str, str, frozenset[str]]] = []
    claims: list[Claim] = []
    seen: dict[str, Path] = {}
    # Of two copies the one with a record counts.
    for path in sorted(folder.rglob("*.zip"), key=lambda one: (not record_path(one).exists(), one)):
        try:
            with opened(path) as archive:
                submission = read_submission(archive)
        except FOREIGN as error:
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
    for submission, date, reason, rescored in found:
        name = submission.entry
        if names[name] > 1:
            name = f"{name} ({submission.path.relative_to(folder).as_posix()})"
        own = [
            replace(checked(Result(one.run.path, one.data, one.rows), empty), entry=Entry(name, date))
            for one in submission.runs
        ]
        if date:
            runs += own
            tracks += [
                TrackRun(run, track)
                for one, run in zip(submission.runs, own, strict=True)
                for track in one.tracks
                if track_member(one, track) in rescored
            ]
        else:
            claims += _claims(name, submission.path, reason, own)
    return runs, tracks, claims


def _state(submission: Submission) -> tuple[str, str, frozenset[str]]:
    """The day on which a submission was verified, or "" and why it was not; and its tracks that were."""
    none: frozenset[str] = frozenset()
    from usbench.submissions.verify import read_record

    try:
        record = read_record(submission.path)
    except UsbenchError as error:
        return "", str(error), none
    if record is None:
        return "", "no record of a verification beside it", none
    if record["sha256"] != submission.sha256:
        return "", "changed since it was verified: its record is of another archive", none
    date = record["date"]
    if not isinstance(date, str) or not re.fullmatch(r"20[0-9]{2}-[0-1][0-9]-[0-3][0-9]", date):
        return "", "its record has no date", none
    return date, "", frozenset(record.get("tracks", []))


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
