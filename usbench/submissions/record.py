"""The record of a verification: what usbench itself found of a submission, beside its archive."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.results.schema import MOST
from usbench.storage.files import digest_of, write_json
from usbench.storage.texts import read_json
from usbench.submissions.archive import LARGEST_TEXT

RECORD_VERSION = 3

# Every key of FILE.verified.json and what it says.
RECORD_SCHEMA: dict[str, Any] = {
    "schema": "version of this layout",
    "file": "name of the archive",
    "sha256": "SHA-256 of the archive; the record is of no other",
    "date": "day of the verification, UTC",
    "usbench": "version of usbench that verified it",
    "commit": "commit of that usbench, or null",
    "entry": "name of the entry",
    "method": "name of the method",
    "runs": "number of runs",
    "predictions": "number of masks that were scored anew",
    "largest_difference": "largest difference between a claimed and a recomputed number",
    "fingerprints": "SHA-256 over the content of all cases of the data used, by task and kind",
    "notes": "what does not keep it from being verified, a line each",
    "found": {
        "folder of a run in the archive": {
            "cases": "the text of its cases.csv as usbench computed it from the masks; this counts",
            "masks": "SHA-256 of the shape and the voxels of each mask, by case",
            "fingerprint": "SHA-256 over the content of all cases that the masks were scored against",
            "costs": "parameters and trainable, where usbench could build the network, else empty",
        }
    },
    "tracks": {
        "folder of a track in the archive": "the text of its cases.csv as usbench computed it; a "
        "track that is not here is a claim"
    },
    "digest": "digest of all the above",
}

_LARGEST = 2 * LARGEST_TEXT
_REMEDY = "write it anew with usbench verify --record"
_DAY = re.compile(r"20[0-9]{2}-[0-1][0-9]-[0-3][0-9]")


@dataclass(frozen=True)
class Found:
    """What usbench itself found of a submitted run.

    Attributes:
        cases: The text of the cases.csv that its masks give.
        masks: Digest of the voxels of each mask, by case.
        fingerprint: SHA-256 (hex) over the content of all cases that the masks were scored against.
        costs: "parameters" and "trainable" by our own count, empty where the network could not be built.
    """

    cases: str
    masks: Mapping[str, str]
    fingerprint: str
    costs: Mapping[str, int]


@dataclass(frozen=True)
class Training:
    """The masks of a row and a seed.

    Attributes:
        name: What it is called in a sentence.
        task: Of its runs, since patients of two tasks may share their ids.
        masks: Digest of the voxels of each mask that holds something, by patient.
    """

    name: str
    task: str
    masks: dict[str, str]


@dataclass(frozen=True)
class Verification:
    """A submission whose scores are those of its masks.

    Attributes:
        path: The archive.
        sha256: Of the archive, hex.
        entry: Name of the entry.
        method: Name of the method.
        runs: Number of runs.
        predictions: Number of masks that were scored anew.
        largest_difference: Largest difference between a claimed and a recomputed number.
        fingerprints: SHA-256 (hex) over the content of all cases of the data used, by task and kind.
        notes: What does not keep it from being verified, a line each.
        tracks: Folders in the archive of the tracks of which every mask was scored anew.
        not_rescored: Those of tracks whose data is not at hand; they count as claims.
        found: By folder in the archive, what usbench itself found of each run.
        found_tracks: By folder in the archive, the text of the cases.csv that the masks of a track give.
        trainings: Its masks by row and seed.
    """

    path: Path
    sha256: str
    entry: str
    method: str
    runs: int
    predictions: int
    largest_difference: float
    fingerprints: dict[str, str]
    notes: tuple[str, ...]
    tracks: tuple[str, ...] = ()
    not_rescored: tuple[str, ...] = ()
    found: Mapping[str, Found] = field(default_factory=dict, repr=False)
    found_tracks: Mapping[str, str] = field(default_factory=dict, repr=False)
    trainings: tuple[Training, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """These values as JSON-like ones, without what was found of each run."""
        lists = {name: list(getattr(self, name)) for name in ("notes", "tracks", "not_rescored")}
        said = {**asdict(self), "path": str(self.path), **lists}
        return {name: value for name, value in said.items() if name not in _NOT_SAID}


_NOT_SAID = ("found", "found_tracks", "trainings")


def record_path(path: Path) -> Path:
    """Where the record of a submission lies: FILE.verified.json beside FILE.zip."""
    return path.with_suffix(".verified.json")


def write_record(verification: Verification) -> Path:
    """Write the record of a verification beside its archive.

    Returns:
        The path of the record.

    Raises:
        UsbenchError: Where it cannot be written.
    """
    from usbench import __version__
    from usbench.runtime.machine import provenance

    said = verification.as_dict()
    record = {
        "schema": RECORD_VERSION,
        "file": verification.path.name,
        "sha256": said["sha256"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "usbench": __version__,
        "commit": provenance()["commit"],
        **{name: said[name] for name in RECORD_SCHEMA if name in said and name not in ("sha256", "tracks")},
        "found": {folder: asdict(one) for folder, one in verification.found.items()},
        "tracks": dict(verification.found_tracks),
    }
    target = record_path(verification.path)
    write_json(target, {**record, "digest": digest_of(record)})
    return target


def read_record(path: Path) -> dict[str, Any] | None:
    """The record beside an archive.

    Args:
        path: The archive.

    Returns:
        The record, with the keys of `RECORD_SCHEMA`; None where there is none.

    Raises:
        UsbenchError: Where it cannot be read, has other keys or was edited, and for one of an older version,
            which does not hold the scores that were recomputed.
    """
    file = record_path(path)
    if not file.exists():
        return None
    if not file.is_file():
        raise UsbenchError(f"{file}: is no plain file; remove it and {_REMEDY}")
    # It holds the tables of the archive once more, and a digest of each of its masks.
    if file.stat().st_size > min(_LARGEST, (1 << 20) + 2 * path.stat().st_size):
        raise UsbenchError(f"{file}: is too large for a record; {_REMEDY}")
    record = read_json(file, "the record of a verification", _REMEDY)
    if not isinstance(record, dict) or "schema" not in record:
        raise UsbenchError(f"{file}: is no record of a verification; {_REMEDY}")
    if record["schema"] in (1, 2) and not isinstance(record["schema"], bool):
        raise UsbenchError(
            f"{file}: is of an older usbench (schema {record['schema']}) and lacks the recomputed scores; "
            f"{_REMEDY}"
        )
    if record["schema"] != RECORD_VERSION:
        raise UsbenchError(f"{file}: has schema version {str(record['schema'])[:20]}; {_REMEDY}")
    if set(record) != set(RECORD_SCHEMA) or not _typed(record):
        raise UsbenchError(f"{file}: is no record of a verification; {_REMEDY}")
    try:
        digest = digest_of({name: value for name, value in record.items() if name != "digest"})
    except (ValueError, RecursionError) as error:
        raise UsbenchError(f"{file}: is no record of a verification ({error}); {_REMEDY}") from error
    if digest != record["digest"]:
        raise UsbenchError(f"{file}: was edited after the verification (its digest does not fit); {_REMEDY}")
    if not isinstance(record["date"], str) or not _DAY.fullmatch(record["date"]):
        raise UsbenchError(f"{file}: its record has no date; {_REMEDY}")
    return record


def found_of(record: Mapping[str, Any], folder: str) -> Found | None:
    """What a record says of a run; None where it says nothing of it."""
    one = record["found"].get(folder)
    return None if one is None else Found(one["cases"], one["masks"], one["fingerprint"], one["costs"])


def _typed(record: Mapping[str, Any]) -> bool:
    """Whether what leaderboards count has the types that `write_record` gives it."""

    def texts(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values())

    def run(one: Any) -> bool:
        return (
            isinstance(one, dict)
            and set(one) == {"cases", "masks", "fingerprint", "costs"}
            and isinstance(one["cases"], str)
            and texts(one["masks"])
            and isinstance(one["fingerprint"], str)
            and isinstance(one["costs"], dict)
            and set(one["costs"]) <= {"parameters", "trainable"}
            and all(type(value) is int and 0 <= value < MOST for value in one["costs"].values())
        )

    found = record["found"]
    return isinstance(found, dict) and all(map(run, found.values())) and texts(record["tracks"])
