"""`usbench verify`: every claim about scores of a submission, held against masks scored anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from usbench.errors import UsbenchError
from usbench.submissions.archive import opened, refused
from usbench.submissions.checks import Submitted
from usbench.submissions.content import method_notes, read_submission
from usbench.submissions.parameters import own_count
from usbench.submissions.record import (
    RECORD_SCHEMA,
    Found,
    Training,
    Verification,
    read_record,
    record_path,
    write_record,
)
from usbench.submissions.reference import Reference, check_data, located, reference_of
from usbench.submissions.track_data import rescored_track, track_references
from usbench.submissions.track_score import TrackReference, clean_note
from usbench.submissions.tracks import mask_names, track_member
from usbench.submissions.twins import notes_of_twins, own_trainings, trainings_of

if TYPE_CHECKING:
    from usbench.submissions.score import Rescored

__all__ = ["RECORD_SCHEMA", "Verification", "read_record", "record_path", "verify", "write_record"]


def verify(
    path: str | Path,
    data_dir: str | Path | None = None,
    task_dirs: Sequence[str | Path] = (),
    plugins: Sequence[str | Path] = (),
    external_data: Sequence[str | Path] = (),
    runs_dir: str | Path | None = None,
    beside: Sequence[Training] = (),
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
        runs_dir: A folder of runs of one's own, whose masks are held against those of the submission.
        beside: `Verification.trainings` of other submissions, for the same.

    Returns:
        What was verified, with what usbench itself found: scores, parameters where the network can be built
        again, and digests of the masks. Leaderboards count these, and none of the claims.

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
        places = [located(submission.path, runs[0], data_dir, task_dirs, plugins) for runs in groups.values()]
        references = []
        for (the_task, task_data), runs in zip(places, groups.values(), strict=True):
            reference = reference_of(the_task, task_data)
            for one in runs:
                notes += check_data(submission.path, one, reference)
            references.append((reference, runs))
        held = [(TrackReference(one.task, one.store), runs) for one, runs in references]
        of_tracks, left = track_references(submission.path, held, external_data, task_dirs, plugins)
        from usbench.runtime.console import progress

        scored: dict[str, Rescored] = {}
        found: dict[str, Found] = {}
        with progress() as bar:
            total = sum(len(one.data["split"]["test"]) for one in submission.runs)
            total += sum(len(mask_names(track.data)) for _, track, _ in of_tracks)
            task = bar.add_task(f"{submission.path.name}: scoring masks", total=total)
            for reference, runs in references:
                for one in runs:
                    made = _rescored(archive.read, submission.path, one, reference, bar, task)
                    scored[one.folder] = made
                    costs = own_count(one.data, reference.task) or {}
                    notes += _count_notes(one, costs)
                    found[one.folder] = Found(made.cases, made.masks, reference.store.fingerprint, costs)
            for one, track, against in of_tracks:
                scored[track_member(one, track)] = rescored_track(archive, one, track, against, bar, task)
                notes += [note] if (note := clean_note(one, track)) else []
    trainings = trainings_of(submission, found)
    own = own_trainings(Path(runs_dir), submission) if runs_dir is not None else []
    notes += notes_of_twins(trainings, [*own, *beside])
    members = [track_member(one, track) for one, track, _ in of_tracks]
    return Verification(
        path=submission.path,
        sha256=submission.sha256,
        entry=submission.entry,
        method=submission.method,
        runs=len(submission.runs),
        predictions=sum(one.count for one in scored.values()),
        largest_difference=max((one.largest for one in scored.values()), default=0.0),
        fingerprints={
            f"{reference.task.name} ({reference.task_data.kind})": reference.store.fingerprint
            for reference, _ in references
        },
        notes=tuple(dict.fromkeys(notes)),
        tracks=tuple(members),
        not_rescored=left,
        found=found,
        found_tracks={member: scored[member].cases for member in members},
        trainings=tuple(trainings),
    )


def _count_notes(one: Submitted, costs: Mapping[str, int]) -> list[str]:
    """What is said where a network has another number of parameters than its result claims."""
    claimed = one.data["cost"]["parameters"]
    if not costs or costs["parameters"] == claimed:
        return []
    name = one.data["cell"]["method"]
    return [
        f"{name}, {one.data['cell']['fusion']}: claims {claimed} parameters, the network that usbench builds "
        f"of its settings has {costs['parameters']}, which counts"
    ]


def _rescored(read: Any, path: Path, one: Submitted, reference: Reference, bar: Any, task: Any) -> Rescored:
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
