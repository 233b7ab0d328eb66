"""`usbench verify`: every claim about scores of a submission, held against masks scored anew."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from usbench.contracts.few import few_of
from usbench.errors import UsbenchError
from usbench.storage.files import read_json, write_json
from usbench.submissions.archive import opened, refused
from usbench.submissions.checks import Submitted
from usbench.submissions.content import method_notes, read_submission
from usbench.submissions.track_data import rescored_track, task_of_own, track_references
from usbench.submissions.track_score import TrackReference, clean_note
from usbench.submissions.tracks import mask_names, track_member

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.resolve import TaskData
    from usbench.datasets.splits import Split
    from usbench.datasets.store import Store

RECORD_VERSION = 1

# Every key of FILE.verified.json and what it says.
RECORD_SCHEMA = {
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
}
TRACKS_VERSION = 2
"""Of the record of a submission with tracks, which has the key below besides."""

TRACKS_SCHEMA = {
    "tracks": "folders in the archive of the tracks of which every mask was scored anew; others are claims"
}


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

    def as_dict(self) -> dict[str, Any]:
        """These values as JSON-like ones."""
        lists = {name: list(getattr(self, name)) for name in ("notes", "tracks", "not_rescored")}
        return {**asdict(self), "path": str(self.path), **lists}


@dataclass(frozen=True)
class _Reference:
    """The masks that a group of runs is scored against."""

    task: Task
    task_data: TaskData
    store: Store
    split: Split


def verify(
    path: str | Path,
    data_dir: str | Path | None = None,
    task_dirs: Sequence[str | Path] = (),
    plugins: Sequence[str | Path] = (),
    external_data: Sequence[str | Path] = (),
) -> Verification:
    """Verify a submission: its archive, digests, cells, splits and geometry, and every score by its mask.

    Nothing of the submission is executed, unpickled or written to disk. Phantoms are made where they are
    absent. External tracks whose data is not given are not scored anew, and named.

    Args:
        path: The archive.
        data_dir: Where the data sets are (default: USBENCH_DATA).
        task_dirs: Folders in MSD layout, for tasks that are not built in.
        plugins: Your own Python files that bring tasks.
        external_data: Folders or task files of the data of external tracks.

    Returns:
        What was verified.

    Raises:
        UsbenchError: One line with the first reason to refuse the submission, or with the data that is
            missing here.
    """
    with opened(path) as archive:
        submission = read_submission(archive)
        groups: dict[tuple[Any, ...], list[Submitted]] = defaultdict(list)
        for one in submission.runs:
            groups[one.reference].append(one)
        notes = method_notes(submission)
        # All data is found before any of it is read.
        located = [
            _located(submission.path, runs[0], data_dir, task_dirs, plugins) for runs in groups.values()
        ]
        references = []
        for (the_task, task_data), runs in zip(located, groups.values(), strict=True):
            reference = _reference(the_task, task_data)
            for one in runs:
                notes += _check_data(submission.path, one, reference)
            references.append((reference, runs))
        held = [(TrackReference(one.task, one.store), runs) for one, runs in references]
        of_tracks, left = track_references(submission.path, held, external_data, task_dirs, plugins)
        count, largest = 0, 0.0
        from usbench.runtime.console import progress

        with progress() as bar:
            total = sum(len(one.data["split"]["test"]) for one in submission.runs)
            total += sum(len(mask_names(track.data)) for _, track, _ in of_tracks)
            task = bar.add_task(f"{submission.path.name}: scoring masks", total=total)
            for reference, runs in references:
                for one in runs:
                    scored, difference = _rescored(archive.read, submission.path, one, reference, bar, task)
                    count, largest = count + scored, max(largest, difference)
            for one, track, against in of_tracks:
                scored, difference = rescored_track(archive, one, track, against, bar, task)
                count, largest = count + scored, max(largest, difference)
                notes += [note] if (note := clean_note(one, track)) else []
    return Verification(
        path=submission.path,
        sha256=submission.sha256,
        entry=submission.entry,
        method=submission.method,
        runs=len(submission.runs),
        predictions=count,
        largest_difference=largest,
        fingerprints={
            f"{reference.task.name} ({reference.task_data.kind})": reference.store.fingerprint
            for reference, _ in references
        },
        notes=tuple(dict.fromkeys(notes)),
        tracks=tuple(track_member(one, track) for one, track, _ in of_tracks),
        not_rescored=left,
    )


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
        **{name: said[name] for name in RECORD_SCHEMA if name in said and name != "sha256"},
    }
    if verification.tracks or verification.not_rescored:
        record |= {"schema": TRACKS_VERSION, "tracks": said["tracks"]}
    target = record_path(verification.path)
    write_json(target, record)
    return target


def read_record(path: Path) -> dict[str, Any] | None:
    """The record beside an archive.

    Args:
        path: The archive.

    Returns:
        The record, with the keys of `RECORD_SCHEMA` and, of a submission with tracks, of `TRACKS_SCHEMA`;
        None where there is none.

    Raises:
        UsbenchError: Where it cannot be read or has other keys.
    """
    file = record_path(path)
    if not file.exists():
        return None
    remedy = "write it anew with usbench verify --record"
    if file.stat().st_size > 1 << 20:
        raise UsbenchError(f"{file}: is too large for a record; {remedy}")
    record = read_json(file, "the record of a verification", remedy)
    if not isinstance(record, dict) or set(record) - set(TRACKS_SCHEMA) != set(RECORD_SCHEMA):
        raise UsbenchError(f"{file}: is no record of a verification; {remedy}")
    if record["schema"] != (TRACKS_VERSION if "tracks" in record else RECORD_VERSION):
        raise UsbenchError(f"{file}: has schema version {record['schema']}; {remedy}")
    tracks = record.get("tracks", [])
    if not isinstance(tracks, list) or not all(isinstance(one, str) for one in tracks):
        raise UsbenchError(f"{file}: does not say which tracks were scored anew; {remedy}")
    return record


def _rescored(
    read: Any, path: Path, one: Submitted, reference: _Reference, bar: Any, task: Any
) -> tuple[int, float]:
    from usbench.submissions.score import rescore

    try:
        return rescore(
            one,
            lambda name: cast(bytes, read(f"{one.folder}/{name}")),
            reference.task,
            reference.store,
            lambda: bar.advance(task),
        )
    except UsbenchError as error:
        raise refused(path, str(error), "not accepted") from error


def _reference(task: Task, task_data: TaskData) -> _Reference:
    """The masks of a task's data and its splits."""
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.splits import make_split
    from usbench.datasets.store import prepare

    # The smallest slices there are: only the masks and the digests of the cases are used.
    store = prepare(task, task_data.root, DataSettings(size=16))
    return _Reference(task, task_data, store, make_split(task, store.case_ids))


def _located(
    path: Path,
    one: Submitted,
    data_dir: str | Path | None,
    task_dirs: Sequence[str | Path],
    plugins: Sequence[str | Path],
) -> tuple[Task, TaskData]:
    """The task of a run and where its data is here."""
    from usbench.datasets.tasks import get_task, search_tasks, task_names

    said, kind = one.data["task"], one.data["data"]["kind"]
    own = {task.name: (task, folder) for task, folder in map(task_of_own, task_dirs)}
    folder = None
    if said["name"] in (*task_names(), *search_tasks(plugins).found):
        task = get_task(said["name"], plugins)
    elif said["name"] in own:
        task, folder = own[said["name"]]
    else:
        raise refused(
            path,
            f"is on task '{said['name']}', which is not built in",
            "give the folder of its data or its task file with --task-dir, or your plugin that brings it "
            "with --plugin",
        )
    try:
        task = task.with_modalities(said["modalities"]).merged(said["merge_labels"])
    except UsbenchError as error:
        raise refused(path, f"{one.folder}: {error}", "not accepted") from error
    for name, found in (("modalities", task.modality_names), ("classes", task.class_names)):
        if tuple(said[name]) != found:
            raise refused(
                path,
                f"{one.folder}: its {name} are {', '.join(said[name])}, those of the task {', '.join(found)}",
                "not accepted",
            )
    if said.get("regions") != task.thresholds:
        raise refused(
            path,
            f"{one.folder}: whether its classes are regions, or their thresholds, is not as in the task",
            "not accepted",
        )
    if said.get("definition") != task.definition:
        raise refused(
            path,
            f"{one.folder}: the values of its classes, their thresholds or its grid differ from the file",
            "not accepted",
        )
    if task.found is not None and said.get("words") != task.words:
        raise refused(path, f"{one.folder}: its words for prompts are not those of the task", "not accepted")
    cases = (*one.data["split"]["train"], *one.data["split"]["test"])
    task_data = _task_data(path, task, kind, data_dir, folder, cases)
    if task_data.kind != kind:
        raise refused(
            path,
            f"{one.folder}: was computed on {kind} data of {task.name}, {task_data.root} holds "
            f"{task_data.kind}",
            "give --data-dir with the data of the runs",
        )
    return task, task_data


def _task_data(
    path: Path,
    task: Task,
    kind: str,
    data_dir: str | Path | None,
    folder: Path | None,
    cases: Sequence[str],
) -> TaskData:
    from usbench.datasets.phantom import scanner_of
    from usbench.datasets.readers.layouts import locate
    from usbench.datasets.resolve import data_folder, find_data

    directory = data_folder(data_dir) if data_dir is not None else None
    if folder is not None:
        return find_data(task, None, "auto", folder)
    if kind != "phantom":
        try:
            return find_data(task, directory, "real")
        except UsbenchError as error:
            raise UsbenchError(f"{path}: cannot be verified without its data: {error}") from error
    if directory is not None and directory.is_dir() and locate(task, directory) is not None:
        found = find_data(task, directory, "auto")
        if found.kind == "phantom":
            return found
    return find_data(task, None, "phantom", scanner=scanner_of(task, cases))


def _check_data(path: Path, one: Submitted, reference: _Reference) -> list[str]:
    """Hold the cases, the folds and the fingerprint of a run against the data here; notes come back."""
    from usbench.datasets.splits import subset_of

    data, split, where = one.data, reference.split, one.folder
    fold, count = data["cell"]["fold"], len(split.folds)

    def no(why: str) -> UsbenchError:
        return refused(path, f"{where}: {why}", "not accepted")

    if data["data"]["cases"] != len(reference.store.case_ids):
        raise no(f"its data has {data['data']['cases']} cases, the data here {len(reference.store.case_ids)}")
    if data["split"]["folds"] != count or fold >= count:
        raise no(f"its split has {data['split']['folds']} folds, the task's has {count}")
    train, few = split.train(fold), few_of(data["split"])
    if few is not None:
        if data["split"]["of"] != len(train):
            raise no(f"fold {fold} has {len(train)} training patients, not {data['split']['of']}")
        train = subset_of(train, few.of(len(train)), data["cell"]["seed"])
    for part, wanted in (("test", split.test(fold)), ("train", train)):
        found = data["split"][part]
        if tuple(found) != wanted:
            odd = sorted(set(found) ^ set(wanted))
            which = f"they differ in {', '.join(odd[:3])}" if odd else "they differ in order or number"
            some = f", {few}" if few is not None and part == "train" else ""
            raise no(f"its {part} cases are not those of fold {fold} of the task's split{some}; {which}")
    if data["split"]["digest"] != split.digest or data["split"]["rule"] != split.rule:
        raise no("the digest or the rule of its split is not that of the task's split")
    if data["data"]["fingerprint"] == reference.store.fingerprint:
        return []
    if reference.task_data.kind != "phantom":
        raise no(
            f"its data has fingerprint {data['data']['fingerprint'][:10]}, that in "
            f"{reference.task_data.root} has {reference.store.fingerprint[:10]}: other data"
        )
    return [
        f"{data['task']['name']}: its phantom has another fingerprint than the one made here, as happens "
        "where another processor rounds otherwise; masks and geometry were compared all the same"
    ]
