"""Tracks: what a trained network was tested on beside its clean test fold, below the folder of its run.

A track is a folder `tracks/NAME` of a run: `track.json`, `cases.csv` and, below `predictions`, the masks, a
folder for each condition. `track.json` is written last; with it, the track is finished. It names the result
that it belongs to by its digest, and so does not outlive it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from usbench.contracts.names import DataKind
from usbench.errors import UsbenchError
from usbench.results.schema import Block, CellBlock, Cost, Count, Names, Provenance
from usbench.results.wrong import what_is_wrong
from usbench.storage.files import digest_of, flush_folder, sha256_file, write_json, write_text
from usbench.storage.regular import read_bounded
from usbench.storage.tables import MOST_TABLE, counts, numbers, parse_table
from usbench.storage.texts import read_json

TRACK_SCHEMA = 1
TRACK_VERSION = 1
"""Raised whenever the same network and data would give other numbers on a track."""

FILE, CASES, MASKS = "track.json", "cases.csv", "predictions"
FOLDER = "tracks"
"""The folder of the tracks, in that of the run."""

COUNTS = ("tp", "fp", "fn", "tn")
OVERLAPS = ("dsc", "iou")
"""The scores of the robustness track; the external one has all."""

Track = Literal["robustness", "external"]
_REMEDY = "evaluate the run again with --overwrite"


class ConditionBlock(Block):
    """One condition under which every case was predicted."""

    name: str = Field(description="its name in cases.csv and of its folder of masks")
    kind: str = Field(description="clean, missing, random, gaussian or salt-pepper")
    modalities: list[str] = Field(description="the damaged modalities, in the task's order")
    level: float | None = Field(description="share of voxels, or sigma in deviations of the foreground")


class TrackData(Block):
    """The cases that were predicted."""

    kind: DataKind = Field(description="phantom, sample or real")
    fingerprint: str = Field(description="SHA-256 over the content of all of them")
    cases: Names = Field(description="their ids")
    name: str = Field(description="what the data is called; empty for the run's own test fold")
    task: str = Field(description="name of the task by which it was read")
    labels: dict[str, str] = Field(
        description="class of the run -> class of the data, where they have other names"
    )


class TrackCost(Block):
    """What it cost."""

    seconds: Cost = Field(description="seconds of predicting and scoring")
    forward_seconds: Cost = Field(description="seconds of the network's forward passes alone")
    device: str = Field(description="name of the device")


class TrackFile(Block):
    """The content of a track.json."""

    model_config = ConfigDict(title="track.json")

    schema_version: int = Field(
        alias="schema", ge=TRACK_SCHEMA, le=TRACK_SCHEMA, description="version of this layout"
    )
    version: Count = Field(description="version of the track's definition")
    usbench: str = Field(description="version of usbench")
    track: Track = Field(description="robustness or external")
    name: str = Field(description="name of its folder")
    of: str = Field(description="digest of the result.json that it belongs to")
    cell: CellBlock = Field(description="which cell of the benchmark was tested")
    protocol: str = Field(description="digest of all that two rows of a table of tracks must share")
    modalities: Names = Field(description="the modalities, in the task's order")
    classes: Names = Field(description="the foreground classes, in order")
    conditions: list[ConditionBlock] = Field(description="in order; the first is clean")
    told: bool = Field(description="whether the network was told which modalities are there")
    data: TrackData = Field(description="the cases")
    scores: dict[str, float | None] = Field(
        description="means over cases: for robustness the averages of the track, of DSC and, with "
        "iou_ before their names, of IoU; for external the mean of every score"
    )
    cost: TrackCost = Field(description="what it cost")
    provenance: Provenance = Field(description="when, where and with what it was computed")
    files: dict[str, str] = Field(description="SHA-256 of each file beside this one")
    digest: str = Field(description="digest of all the above")


@dataclass(frozen=True, repr=False)
class TrackResult:
    """A finished track of a run.

    Attributes:
        path: Its folder.
        data: Its track.json, as `TrackFile` says.
        rows: The rows of its cases.csv: a mapping for each condition, case and class with the scores and the
            counts of voxels; NaN where a score is undefined.
    """

    path: Path
    data: dict[str, Any]
    rows: list[dict[str, Any]]

    def __repr__(self) -> str:
        cell = self.data["cell"]
        return f"<Track {self.data['name']} of {cell['method']}, {cell['fusion']}, fold {cell['fold']}>"


def tracks_csv(rows: Iterable[Mapping[str, Any]], scores: Sequence[str]) -> str:
    """The text of a cases.csv of a track.

    Args:
        rows: For each condition, case and class "condition", "case", "class", the scores by name, "tp", "fp",
            "fn", "tn" and "edge".
        scores: The names of the scores, in order.
    """
    out = io.StringIO()
    names = ["condition", "case", "class", *scores, *COUNTS, "edge"]
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = {name: row[name] for name in names}
        for name in scores:
            values[name] = "" if math.isnan(row[name]) else row[name]
        writer.writerow(values)
    return out.getvalue()


def parse_tracks_csv(text: str, where: str) -> list[dict[str, Any]]:
    """The rows of the text of a cases.csv of a track; NaN where a score is undefined.

    Raises:
        UsbenchError: Where the text is no such table.
    """
    try:
        names, rows = parse_table(text)
        if lacking := {"condition", "case", "class", *OVERLAPS, *COUNTS, "edge"} - set(names):
            raise ValueError(f"it lacks the column {min(lacking)}")
        columns = [_values(name, texts) for name, texts in zip(names, zip(*rows, strict=True), strict=False)]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    except ValueError as error:
        raise UsbenchError(f"{where}: cannot read the scores of the track ({error}); {_REMEDY}") from error


def _values(name: str, texts: Sequence[str]) -> Sequence[Any]:
    if name in ("condition", "case", "class", "edge"):
        return texts
    return counts(texts) if name in COUNTS else numbers(texts)


def write_track(
    folder: Path, data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], scores: Sequence[str]
) -> TrackResult:
    """Write cases.csv and then track.json, the last file of a track.

    Args:
        folder: Of the track; its masks are there already.
        data: All that `TrackFile` says but "files" and "digest".
        rows: As `tracks_csv` takes them.
        scores: The names of the scores of a row.

    Returns:
        The track, read back.

    Raises:
        UsbenchError: Where `data` does not fit, or a file cannot be written.
    """
    write_text(folder / CASES, tracks_csv(rows, scores), durable=False)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    whole = json.loads(json.dumps(dict(data)))
    whole["files"] = {
        name: sha256_file(folder / name)
        for name in names
        if name != FILE and not any(part.startswith(".") for part in Path(name).parts)
    }
    whole["digest"] = digest_of(whole)
    check_track(whole, str(folder / FILE))
    flush_folder(folder, above=2)
    write_json(folder / FILE, whole)
    return load_track(folder)


def check_track(data: Any, where: str) -> None:
    """Hold the content of a track.json against its version, its digest and `TrackFile`.

    Raises:
        UsbenchError: Naming the file and the first thing that is wrong.
    """
    if not isinstance(data, dict) or "schema" not in data or "track" not in data:
        raise UsbenchError(f"{where}: is not a track of usbench; {_REMEDY}")
    if data["schema"] != TRACK_SCHEMA:
        raise UsbenchError(
            f"{where}: has schema version {data['schema']}, this usbench reads {TRACK_SCHEMA}; {_REMEDY}"
        )
    if data.get("digest") != digest_of({k: v for k, v in data.items() if k != "digest"}):
        raise UsbenchError(f"{where}: was edited after the evaluation (its digest does not fit); {_REMEDY}")
    try:
        TrackFile.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsbenchError(f"{where}: {what_is_wrong(first)}; {_REMEDY}") from error


def load_track(folder: str | Path, of: str | None = None) -> TrackResult:
    """Read a finished track, and check that nobody changed it.

    Args:
        folder: Of the track.
        of: The digest of the result.json of its run, where that is known; another one is refused.

    Returns:
        The track.

    Raises:
        UsbenchError: Where a file is absent or was edited, and where the run was computed again since.
    """
    folder = Path(folder)
    data = read_json(folder / FILE, "a track", _REMEDY)
    check_track(data, str(folder / FILE))
    if of is not None and data["of"] != of:
        raise UsbenchError(f"{folder / FILE}: is of another result than the run beside it; {_REMEDY}")
    cases = folder / CASES
    if not cases.is_file():
        raise UsbenchError(f"{cases}: missing beside its track; {_REMEDY}")
    try:
        content = read_bounded(cases, MOST_TABLE)
        if hashlib.sha256(content).hexdigest() != data["files"].get(CASES):
            what = "was edited after the evaluation (its digest does not fit)"
            raise UsbenchError(f"{cases}: {what}; {_REMEDY}")
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsbenchError(f"{cases}: cannot read the scores of the track ({why}); {_REMEDY}") from error
    return TrackResult(folder, data, parse_tracks_csv(text, str(cases)))


def track_folders(run: str | Path) -> list[Path]:
    """The folders of the finished tracks of a run, sorted by name."""
    return sorted(file.parent for file in (Path(run) / FOLDER).glob(f"*/{FILE}"))


def track_protocol(result: Mapping[str, Any], track: Track, fingerprint: str) -> str:
    """Digest of all that two rows of a table of tracks must share.

    Args:
        result: The result.json of the run.
        track: Which track.
        fingerprint: Of the data that was predicted: for the robustness track that of the run's whole data.

    Returns:
        Twelve hexadecimal digits.
    """
    shared = {
        "protocol": result["protocol"],
        "trained on": result["data"]["fingerprint"],
        "track": track,
        "version": TRACK_VERSION,
        "data": fingerprint,
    }
    return digest_of(shared)[:12]
