"""A submission as it lies in its archive, with every check that needs no data."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.results.io import check_result, parse_cases
from usbench.results.tracks import FOLDER
from usbench.submissions.archive import CARD, Archive, read_json, refused
from usbench.submissions.card import hours_of, parse_card
from usbench.submissions.checks import (
    Submitted,
    archive_folder,
    check_history,
    file_problems,
    folder_of,
    result_problems,
    run_files,
    run_of,
    set_problems,
    weights_problem,
)
from usbench.submissions.numbers import check_table
from usbench.submissions.tracks import read_tracks, track_set_problems

_HOURS = 0.01
"""So much more or less than its runs is no other number of hours."""


@dataclass(frozen=True)
class Submission:
    """What an archive holds.

    Attributes:
        path: Of the archive.
        sha256: Of the archive, hex.
        card: By the keys of `Card`.
        runs: In order of folder.
    """

    path: Path
    sha256: str
    card: dict[str, Any]
    runs: tuple[Submitted, ...]

    @property
    def entry(self) -> str:
        """The name on the leaderboard."""
        return str(self.card["entry"])

    @property
    def method(self) -> str:
        """The name of the method of its runs."""
        return str(self.runs[0].data["cell"]["method"])


def read_submission(archive: Archive) -> Submission:
    """The card and the runs of an open archive.

    Raises:
        UsbenchError: One line for the first thing that is wrong: the card, the schema, a digest, a hash that
            is not that of the settings, rows of cases.csv, absent folds.
    """
    path = archive.path
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for name in archive.names:
        if name != CARD:
            folder, inner = folder_of(name)
            folders[folder][inner] = archive.digest(name)
    if not folders:
        raise refused(path, "holds no run")
    try:
        card, problems = parse_card(archive.read(CARD), f"{path}: {CARD}")
        if problems:
            raise UsbenchError(problems[0])
        runs = tuple(_run(archive, folder, digests) for folder, digests in sorted(folders.items()))
    except RecursionError as error:
        raise refused(path, "holds values nested too deeply") from error
    for problem in (*set_problems(runs), *track_set_problems(runs)):
        raise refused(path, problem)
    if problem := weights_problem(card, runs):
        raise refused(path, problem)
    return Submission(path, archive.sha256, card, runs)


def _run(archive: Archive, folder: str, digests: dict[str, str]) -> Submitted:
    path = archive.path
    where = f"{path}: {folder}"
    if "result.json" not in digests:
        raise refused(path, f"{folder} holds no result.json")
    data = read_json(archive.read(f"{folder}/result.json"), path, f"{folder}/result.json")
    check_result(data, f"{where}/result.json", "make the submission anew from finished runs")
    for problem in result_problems(data):
        raise refused(path, f"{folder}/result.json {problem}")
    if folder != archive_folder(data):
        raise refused(path, f"{folder} is not the folder of its cell, which is {archive_folder(data)}")
    digests.pop("result.json")
    tracks = {name: digests.pop(name) for name in list(digests) if name.startswith(f"{FOLDER}/")}
    for problem in file_problems(data, digests):
        raise refused(path, f"{folder}: {problem}")
    cases = _text(archive, f"{folder}/cases.csv")
    try:
        check_table(cases)
    except (ValueError, csv.Error) as error:
        raise refused(path, f"{folder}/cases.csv: {error}") from error
    rows = parse_cases(cases, f"{where}/cases.csv")
    try:
        if "history.csv" in run_files(data):
            check_history(_text(archive, f"{folder}/history.csv"))
    except (ValueError, csv.Error) as error:
        raise refused(path, f"{folder}/history.csv is no table of numbers ({error})") from error
    try:
        one = run_of(folder, data, rows, path / folder)
    except UsbenchError as error:
        raise refused(path, f"{folder}: {str(error).rpartition(';')[0] or error}") from error
    try:
        found = read_tracks(
            one,
            tracks,
            lambda name: archive.read(f"{folder}/{name}"),
            lambda content, name: read_json(content, path, name.removeprefix(f"{path}/")),
        )
    except UsbenchError as error:
        text = str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")
        raise refused(path, text.rpartition(";")[0] or text) from error
    return replace(one, tracks=found)


def _text(archive: Archive, name: str) -> str:
    try:
        return archive.read(name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(archive.path, f"{name} is not UTF-8 text") from error


def method_notes(submission: Submission) -> list[str]:
    """Hold the name of the method against the methods that are built in.

    Returns:
        What is no reason to refuse it, a line each.

    Raises:
        UsbenchError: Where a built-in name is another method's, or another name says that it is built in.
    """
    from usbench.methods.registry import BUILT_IN, get_method, source_hash

    claims = [(one.folder, one.data.get("outside", {}).get("claims", ())) for one in submission.runs]
    notes = [f"{folder}: only claimed: {'; '.join(said)}" for folder, said in claims if said]
    hours = hours_of([one.data for one in submission.runs])
    if hours is not None and abs(hours - submission.card["hours"]) > _HOURS:
        notes.append(
            f"the card says {submission.card['hours']:g} hours, its runs took {hours:g} by their account"
        )
    for said in {tuple(sorted(one.data["method"].items())) for one in submission.runs}:
        method: Mapping[str, str] = dict(said)
        name, built_in = method["name"], method["origin"] == "built in"
        if built_in != (name in BUILT_IN):
            what = "is not built into usbench" if built_in else "is that of a method built into usbench"
            raise refused(
                submission.path,
                f"its method is called '{name}' and comes from '{method['origin']}', but that name {what}",
                "not accepted",
            )
        if built_in:
            ours, _ = get_method(name)
            if ours.paper != method["paper"]:
                raise refused(
                    submission.path,
                    f"its method is called '{name}', but the paper it names is not that method's",
                    "not accepted",
                )
            if source_hash(ours) != method["source_hash"]:
                notes.append(f"{name}: was computed with other code of this method than usbench has here")
    return notes
