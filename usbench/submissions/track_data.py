"""Which data the tracks of a submission are scored against, those of other data too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError
from usbench.results.tracks import TrackResult
from usbench.submissions.archive import Archive, refused
from usbench.submissions.checks import Submitted
from usbench.submissions.score import Rescored
from usbench.submissions.track_score import TrackReference, external_reference, rescore_track
from usbench.submissions.tracks import track_member

if TYPE_CHECKING:
    from usbench.contracts.data import Task


def task_of_own(given: str | Path) -> tuple[Task, Path]:
    """The task of a folder in MSD layout, or of a task file, and the folder of its data."""
    from usbench.datasets.tasks import get_task, names_file, task_from_folder

    task = get_task(str(given)) if names_file(str(given)) else task_from_folder(Path(given))
    return task, task.files.folder if task.files else Path(given)


def rescored_track(
    archive: Archive, one: Submitted, track: TrackResult, reference: TrackReference, bar: Any, task: Any
) -> Rescored:
    """As `rescore_track`, of a track in an open archive; an error names the archive."""
    folder = track_member(one, track)
    try:
        return rescore_track(
            one,
            track,
            lambda name: archive.read(f"{folder}/{name}"),
            reference,
            lambda: bar.advance(task),
        )
    except UsbenchError as error:
        raise refused(archive.path, str(error), "not accepted") from error


def track_references(
    path: Path,
    references: Sequence[tuple[TrackReference, Sequence[Submitted]]],
    external_data: Sequence[str | Path],
    task_dirs: Sequence[str | Path],
    plugins: Sequence[str | Path],
) -> tuple[list[tuple[Submitted, TrackResult, TrackReference]], tuple[str, ...]]:
    """What each track is scored against, and the tracks whose data is not at hand.

    Args:
        path: The archive, for messages.
        references: For each group of runs the data that they were trained and tested on.
        external_data: Folders or task files of the data of external tracks.
        task_dirs: Folders in MSD layout or task files, for tasks that are not built in.
        plugins: Python files that bring tasks.

    Returns:
        Run, track and reference of each track that can be scored, and the folders of the others.

    Raises:
        UsbenchError: Where data is given and none of it is that of an external track.
    """
    found, left = [], []
    for reference, runs in references:
        for one, track in ((run, track) for run in runs for track in run.tracks):
            if track.data["track"] == "robustness":
                found.append((one, track, reference))
            elif not external_data:
                made = _of_phantom(one, track, plugins)
                found += [(one, track, made)] if made else []
                left += [] if made else [track_member(one, track)]
            else:
                try:
                    candidates = _candidates(track.data["data"]["task"], external_data, task_dirs, plugins)
                    found.append((one, track, external_reference(one, track, candidates)))
                except UsbenchError as error:
                    raise refused(path, str(error), "not accepted") from error
    return found, tuple(left)


def _of_phantom(one: Submitted, track: TrackResult, plugins: Sequence[str | Path]) -> TrackReference | None:
    """The reference of an external track on phantoms as usbench makes them; None for other data."""
    from usbench.datasets.phantom import scanner_of
    from usbench.datasets.resolve import find_data
    from usbench.datasets.tasks import get_task

    said = track.data["data"]
    if said["kind"] != "phantom":
        return None
    try:
        task = get_task(said["task"], plugins)
        root = find_data(task, None, "phantom", scanner=scanner_of(task, said["cases"])).root
        return external_reference(one, track, [(task, root)])
    except UsbenchError:
        return None  # A phantom that somebody made otherwise.


def _candidates(
    name: str,
    external_data: Sequence[str | Path],
    task_dirs: Sequence[str | Path],
    plugins: Sequence[str | Path],
) -> list[tuple[Task, Path]]:
    """Tasks called `name` that read the folders of the data of external tracks, with the folder of each."""
    from usbench.datasets.readers.layouts import locate
    from usbench.datasets.tasks import get_task, search_tasks, task_names

    found: list[tuple[Task, Path]] = []
    known = [get_task(name, plugins)] if name in (*task_names(), *search_tasks(plugins).found) else []
    for given in map(Path, external_data):
        own = [one for one in map(task_of_own, task_dirs) if one[0].name == name]
        if given.is_file() or not known:
            own += [task_of_own(given)]
        found += [(task, given if given.is_dir() else folder) for task, folder in own]
        found += [(task, locate(task, given) or given) for task in known if given.is_dir()]
    return found
