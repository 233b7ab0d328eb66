"""Tracks in a submission: which files they are, and what must hold of them whatever the data."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from usbench.errors import UsbenchError, unknown
from usbench.results.result import Result
from usbench.results.track_scores import check_rows
from usbench.results.tracks import (
    CASES,
    FILE,
    FOLDER,
    MASKS,
    Track,
    TrackResult,
    check_track,
    load_track,
    parse_tracks_csv,
    track_folders,
)
from usbench.results.usable import row_key, table_key
from usbench.storage.files import os_errors
from usbench.submissions.checks import Submitted, text_problems
from usbench.submissions.numbers import check_table

TRACKS: tuple[str, ...] = get_args(Track)


def asked_tracks(words: str) -> tuple[str, ...]:
    """The tracks that `--tracks A,B` names.

    Raises:
        UsbenchError: For a name that is none.
    """
    names = tuple(dict.fromkeys(name.strip() for name in words.split(",") if name.strip()))
    for name in names:
        if name not in TRACKS:
            raise unknown("track", name, TRACKS)
    return names


def mask_name(condition: str, case: str) -> str:
    """The name of the mask of a case under a condition, within the folder of its track."""
    return f"{MASKS}/{condition}/{case}.nii.gz"


def mask_names(data: Mapping[str, Any]) -> list[str]:
    """The masks of a track, by its track.json: every case under every condition, in that order."""
    return [mask_name(one["name"], case) for one in data["conditions"] for case in data["data"]["cases"]]


def track_file_problems(data: Mapping[str, Any], digests: Mapping[str, str]) -> Iterator[str]:
    """What of a track's files is absent, changed or too much.

    Args:
        data: Its track.json.
        digests: SHA-256 (hex) of the files besides track.json, by name relative to the folder of the track.

    Yields:
        A line for each problem.
    """
    wanted = [CASES, *mask_names(data)]
    for name in wanted:
        what = f"the mask {name}" if name.endswith(".nii.gz") else name
        if name not in digests:
            yield f"{what} is absent"
        elif data["files"].get(name) != digests[name]:
            yield f"{what} is not what the evaluation wrote (its digest does not fit)"
    for name in sorted(set(digests) - set(wanted)):
        yield f"{name} is no file of this track"


def pack_tracks(
    result: Result, folder: str, names: Sequence[str], reasons: list[str]
) -> tuple[tuple[TrackResult, ...], dict[str, bytes]]:
    """The tracks of a run that are to go into a submission.

    Args:
        result: Of the run.
        folder: The run's name in the archive.
        names: Which tracks, "robustness" or "external" (all that the run has of that kind).
        reasons: Gets a line for each that is absent, cannot be read or has no masks.

    Returns:
        The tracks, and their files by name in the archive.
    """
    found: list[TrackResult] = []
    files: dict[str, bytes] = {}
    for place in track_folders(result.path) if names else ():
        try:
            track = load_track(place, result.data["digest"])
            if track.data["track"] not in names:
                continue
            check_rows(track, result.data)
            content = _content(track)
        except UsbenchError as error:
            reasons.append(str(error))
            continue
        problems = _problems(track, place.name)
        if wrong := [f"{place}: {problem}" for problem in problems]:
            reasons += wrong
            continue
        found.append(track)
        files |= {f"{folder}/{FOLDER}/{place.name}/{name}": data for name, data in content.items()}
    there = {track.data["track"] for track in found}
    if not reasons:
        reasons += [
            f"{result.path}: has no finished {name} track; make it with: "
            f"usbench evaluate {result.path} --track {name}"
            for name in names
            if name not in there
        ]
    return tuple(found), files


def _problems(track: TrackResult, name: str) -> list[str]:
    if track.data["name"] != name:
        return [f"is called {track.data['name']}, its folder {name}; give the folder its name again"]
    return [f"{FILE} {problem}" for problem in text_problems(track.data)]


def _content(track: TrackResult) -> dict[str, bytes]:
    """The files of a track that a submission holds.

    Raises:
        UsbenchError: In one line, where masks were not kept or were changed.
    """
    masks = mask_names(track.data)
    absent = [name for name in masks if not (track.path / name).is_file()]
    again = f"usbench evaluate {track.path.parent.parent} --track {track.data['track']} --overwrite"
    if absent:
        raise UsbenchError(
            f"{track.path}: {len(absent)} of its {len(masks)} masks were not kept, so nobody could score "
            f"them anew; make them with: {again}"
        )
    content = {}
    for name in (FILE, CASES, *masks):
        with os_errors(track.path / name, "read"):
            content[name] = (track.path / name).read_bytes()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items() if name != FILE}
    for problem in track_file_problems(track.data, digests):
        raise UsbenchError(f"{track.path}: {problem}; make it anew with: {again}")
    return content


def read_tracks(
    one: Submitted,
    digests: Mapping[str, str],
    read: Callable[[str], bytes],
    read_json: Callable[[bytes, str], Any],
) -> tuple[TrackResult, ...]:
    """The tracks of a run in an archive.

    Args:
        one: The run.
        digests: SHA-256 (hex) of its files below "tracks", by name relative to the folder of the run.
        read: Gives the content of one of them.
        read_json: Parses the content of a file, whose name comes second.

    Raises:
        UsbenchError: For the first thing that is wrong, which its text names.
    """
    by_track: dict[str, dict[str, str]] = defaultdict(dict)
    for name, digest in digests.items():
        _, track, inner = name.split("/", 2)
        by_track[track][inner] = digest
    found = []
    for track, files in sorted(by_track.items()):
        path = one.run.path / FOLDER / track
        if FILE not in files:
            raise UsbenchError(f"{path}: holds no {FILE}")
        data = read_json(read(f"{FOLDER}/{track}/{FILE}"), f"{path}/{FILE}")
        check_track(data, str(path / FILE))
        files.pop(FILE)
        problems = [f"{FILE} {problem}" for problem in text_problems(data)]
        if data["name"] != track:
            problems.append(f"is called {data['name']} in its {FILE}")
        for problem in problems or track_file_problems(data, files):
            raise UsbenchError(f"{path}: {problem}")
        try:
            text = read(f"{FOLDER}/{track}/{CASES}").decode("utf-8")
            check_table(text)
        except UnicodeDecodeError as error:
            raise UsbenchError(f"{path / CASES}: is not UTF-8 text") from error
        except (ValueError, csv.Error) as error:
            raise UsbenchError(f"{path / CASES}: {error}") from error
        result = TrackResult(path, data, parse_tracks_csv(text, str(path / CASES)))
        check_rows(result, one.data)
        found.append(result)
    return tuple(found)


def track_set_problems(runs: Sequence[Submitted]) -> Iterator[str]:
    """Where some runs of a row have a track and others lack it, a line each."""
    rows: dict[tuple[Any, ...], list[Submitted]] = defaultdict(list)
    for one in runs:
        rows[*table_key(one.data), *row_key(one.data)].append(one)
    for members in rows.values():
        named = {one.folder: {track_key(track.data) for track in one.tracks} for one in members}
        for key in sorted(set.union(*named.values())):
            lacking = sorted(folder for folder, keys in named.items() if key not in keys)
            if lacking:
                which = f"{key[0]} track{f' on {key[1]}' if key[1] else ''}"
                yield f"{lacking[0]}: lacks the {which}, which other runs of its row have; submit it for all"


def track_key(data: Mapping[str, Any]) -> tuple[str, str]:
    """The track and, of an external one, what its data is called."""
    return data["track"], data["data"]["name"] if data["track"] == "external" else ""


def track_member(one: Submitted, track: TrackResult) -> str:
    """The folder of a track in the archive."""
    return f"{one.folder}/{FOLDER}/{Path(track.path).name}"
