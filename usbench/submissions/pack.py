"""`usbench submit`: finished runs and a card, checked and packed into one archive."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.results.io import load_result
from usbench.results.result import Result
from usbench.results.usable import named_runs
from usbench.runtime.console import say
from usbench.storage.files import os_errors
from usbench.submissions.archive import CARD, is_member_name, largest, member_name, set_problem, write_archive
from usbench.submissions.card import dump_card, hours_of, load_card
from usbench.submissions.checks import (
    Submitted,
    archive_folder,
    check_history,
    file_problems,
    result_problems,
    run_files,
    run_of,
    set_problems,
    weights_problem,
)
from usbench.submissions.tracks import pack_tracks, track_set_problems


class Incomplete(UsbenchError):
    """Runs or a card that cannot be submitted.

    Args:
        reasons: All that is missing or wrong, a line each, at least one; the message is the first of them.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = list(reasons)
        more = f" (and {len(self.reasons) - 1} more)" if len(self.reasons) > 1 else ""
        super().__init__(f"{self.reasons[0]}{more}")


def submit(runs: Sequence[str | Path], card: str | Path, out: str | Path, tracks: Sequence[str] = ()) -> Path:
    """Pack finished runs and their card into an archive.

    It holds result.json, cases.csv, history.csv and the predicted masks of each run, the card, and the
    SHA-256 of everything; of each track track.json, cases.csv and every mask. The same runs and card always
    make the same bytes.

    Args:
        runs: Run folders, or folders that hold them.
        card: The YAML file of the card.
        out: The .zip to write.
        tracks: "robustness" and "external", where every run is to bring its tracks of that kind.

    Returns:
        The path of the archive.

    Raises:
        Incomplete: A `UsbenchError` with all that is missing or wrong.
        UsbenchError: Where a file cannot be read or written.
    """
    out = Path(out)
    reasons: list[str] = []
    if out.suffix != ".zip":
        reasons.append(f"{out}: a submission is a .zip; name --out so")
    the_card, wrong = load_card(Path(card))
    reasons += wrong
    members: dict[str, bytes] = {}
    packed: list[Submitted] = []
    origins: dict[str, tuple[Path, bytes]] = {}
    for folder in named_runs(runs, reasons):
        try:
            result = load_result(folder)
        except UsbenchError as error:
            reasons.append(str(error))
            continue
        found = _pack(result, reasons, tracks)
        if found is None:
            continue
        one, files = found
        content = files[f"{one.folder}/result.json"]
        other = origins.setdefault(one.folder, (folder, content))
        if other[0] != folder and other[1] == content:
            continue  # The same run, named twice.
        packed.append(one)
        members.update(files)
    if packed:
        reasons += [*set_problems(packed), *track_set_problems(packed)]
        if the_card and not wrong and (problem := weights_problem(the_card, packed)):
            reasons.append(f"{card}: {problem}; say what they are")
    elif not reasons:
        reasons.append(f"{', '.join(map(str, runs)) or 'RUNS'}: no finished run in there; check the folder")
    if reasons or the_card is None:
        raise Incomplete(reasons)
    hours = hours_of([one.data for one in packed])
    if hours is not None and hours != the_card["hours"]:
        say(f"{card}: says {the_card['hours']:g} hours; in the archive it says {hours:g}, those of its runs")
        the_card = {**the_card, "hours": hours}
    members[CARD] = dump_card(the_card)
    if problem := set_problem({name: len(content) for name, content in members.items()}):
        raise Incomplete([f"{out}: {problem}; make several submissions of it"])
    write_archive(out, members)
    return out


def results_of(runs: Sequence[str | Path]) -> list[dict[str, Any]]:
    """The result.json of every finished run in some folders.

    Args:
        runs: Run folders, or folders that hold them.

    Raises:
        UsbenchError: Where no run is finished, or the result of one cannot be read.
    """
    reasons: list[str] = []
    folders = named_runs(runs, reasons) if runs else []
    if reasons and not folders:
        raise Incomplete(reasons)
    return [load_result(folder).data for folder in folders]


def _pack(
    result: Result, reasons: list[str], tracks: Sequence[str]
) -> tuple[Submitted, dict[str, bytes]] | None:
    """A run and its members by name in the archive; None, with the reasons added, where it cannot go."""
    data, path = result.data, result.path
    wrong = [f"{path}: result.json {problem}" for problem in result_problems(data)]
    if wrong:
        reasons += wrong
        return None
    folder = archive_folder(data)
    contents = {}
    for name in run_files(data):
        if (path / name).is_file():
            with os_errors(path / name, "read"):
                contents[name] = (path / name).read_bytes()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    wrong += [f"{path}: {problem}; compute the run again" for problem in file_problems(data, digests)]
    with os_errors(path / "result.json", "read"):
        contents["result.json"] = (path / "result.json").read_bytes()
    found, of_tracks = pack_tracks(result, folder, tracks, wrong)
    files = {f"{folder}/{name}": content for name, content in contents.items()} | of_tracks
    wrong += _size_problems(path, folder, files)
    if "history.csv" in contents:
        try:
            check_history(contents["history.csv"].decode("utf-8"))
        except (ValueError, csv.Error) as error:
            wrong.append(f"{path}: history.csv is no table of numbers ({error}); compute the run again")
    try:
        one = run_of(folder, data, result.rows, path)
    except UsbenchError as error:
        wrong.append(f"{path}: {error}")
    if wrong:
        reasons += wrong
        return None
    return replace(one, tracks=found), files


def _size_problems(path: Path, folder: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Files of a run that an archive does not take: names that are too long, content that is too large."""
    for name, content in files.items():
        member, inner = member_name(name), name.removeprefix(f"{folder}/")
        if not is_member_name(member):
            yield (
                f"{path}: {inner} has a name too long for a submission; use shorter names of tasks, methods "
                "and cases"
            )
        elif len(content) > largest(member):
            yield f"{path}: {inner} has {len(content):,} bytes, at most {largest(member):,} are taken"
