"""`usbench evaluate`: the networks of finished runs on a track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from usbench.contracts.names import TRACKS
from usbench.contracts.request import CACHE_GB
from usbench.errors import UsbenchError, unknown
from usbench.results.io import load_result
from usbench.results.network_file import NO_NETWORK, is_outside, network_state
from usbench.results.result import Result
from usbench.results.tracks import TrackResult
from usbench.results.usable import named_runs
from usbench.runtime.console import count, say
from usbench.tracks.data import Where

if TYPE_CHECKING:
    from usbench.datasets.store import Store


@dataclass
class Evaluation:
    """What became of some runs.

    Attributes:
        tracks: The finished tracks, in order of the runs.
        problems: For each run that could not be evaluated, a line.
    """

    tracks: list[TrackResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def evaluate(
    runs: str | Path | Sequence[str | Path],
    track: Literal["robustness", "external"] = "robustness",
    *,
    task: str | None = None,
    task_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    data: str = "auto",
    scanner: int = 1,
    labels: Mapping[str, str] | None = None,
    name: str | None = None,
    masks: bool = True,
    device: str = "auto",
    plugins: Sequence[str | Path] = (),
    cache_gb: float = CACHE_GB,
    overwrite: bool = False,
) -> list[TrackResult]:
    """Test the networks of finished runs on a track; a track that is finished is given back.

    Args:
        runs: Folders of runs, or folders that hold them.
        track: "robustness": the test fold with modalities missing, damaged and noisy. "external": another
            data set.
        task: For "robustness" the task of the runs where it is not built in; for "external" that of the data.
        task_dir: A folder in MSD layout, likewise.
        data_dir: The folder that holds the data sets.
        data: "auto", "real" or "phantom", for "external".
        scanner: Of a phantom, for "external".
        labels: For "external", the class of the data for each class of the run that has another name there.
        name: For "external", what the data is called.
        masks: Whether masks of "robustness" are kept, which a submission needs; those of "external" are.
        device: "auto", "cpu" or "cuda".
        plugins: Python files that bring methods, fusions or tasks.
        cache_gb: Bound on stored features of frozen parts, in GB.
        overwrite: Compute finished tracks again.

    Returns:
        The tracks, in order of the runs.

    Raises:
        UsbenchError: For the first run that cannot be evaluated, once all others are.
    """
    where = Where(
        task,
        None if task_dir is None else Path(task_dir),
        None if data_dir is None else Path(data_dir),
        data,
        scanner,
        tuple(Path(plugin) for plugin in plugins),
    )
    some = [runs] if isinstance(runs, str | Path) else list(runs)
    done = evaluate_runs(
        some,
        track,
        where,
        labels=labels or {},
        name=name,
        masks=masks,
        device=device,
        cache_gb=cache_gb,
        overwrite=overwrite,
    )
    if done.problems:
        raise UsbenchError(done.problems[0])
    return done.tracks


def evaluate_runs(
    runs: Sequence[str | Path],
    track: str,
    where: Where,
    *,
    labels: Mapping[str, str],
    name: str | None,
    masks: bool,
    device: str,
    cache_gb: float,
    overwrite: bool,
) -> Evaluation:
    """Evaluate every run that can be, and say of the others why not; the arguments are those of `evaluate`.

    Raises:
        UsbenchError: For an unknown track, options that it does not have, and folders without a run.
    """
    if track not in TRACKS:
        raise unknown("track", track, TRACKS)
    if track == "robustness":
        given = {"--labels": labels, "--name": name, "--scanner": where.scanner != 1}
        if odd := [flag for flag, value in given.items() if value]:
            raise UsbenchError(f"{odd[0]} is of --track external; leave it out, or ask for that track")
    found = Evaluation()
    for folder in named_runs(runs, found.problems):
        try:
            result = load_result(folder)
            one, new = evaluate_run(
                result,
                track,
                where,
                labels=labels,
                name=name,
                masks=masks,
                device=device,
                cache_gb=cache_gb,
                overwrite=overwrite,
            )
        except UsbenchError as error:
            found.problems.append(str(error))
            continue
        if not new:
            say(f"{one.path}: finished before, not computed again (--overwrite does)")
        found.tracks.append(one)
    return found


def evaluate_run(
    result: Result,
    track: str,
    where: Where,
    *,
    labels: Mapping[str, str] | None = None,
    name: str | None = None,
    masks: bool = True,
    device: str = "auto",
    cache_gb: float = CACHE_GB,
    overwrite: bool = False,
    store: Store | None = None,
) -> tuple[TrackResult, bool]:
    """Evaluate one run; the other arguments are those of `evaluate`.

    store: the prepared data of the run, where it is known.

    Returns:
        The finished track, and whether it was computed now.

    Raises:
        UsbenchError: For a run without a network, data that is not found or not that of the run.
    """
    from usbench.runs.network import load_network
    from usbench.tracks import external, robustness
    from usbench.tracks.data import own_store

    if track == "robustness" and not overwrite:
        done = robustness.folder_of(result.data, result.path, masks).finished()
        if done is not None and (not masks or any("/" in file for file in done.data["files"])):
            return done, False
    trained = load_network(result, device=device, plugins=where.plugins)
    if track == "robustness":
        store = store or own_store(trained, where)
        done = robustness.evaluate(trained, store, masks=masks, overwrite=overwrite, cache_gb=cache_gb)
        return done, True
    return external.evaluate(
        trained, where, labels=labels or {}, name=name, overwrite=overwrite, cache_gb=cache_gb
    )


def planned(runs: Sequence[str | Path], track: str, *, masks: bool, overwrite: bool) -> list[str]:
    """What `evaluate_runs` would do with some runs, a line each; nothing is computed or written.

    Raises:
        UsbenchError: For an unknown track, and folders without a run.
    """
    from usbench.scores.robustness import conditions_of
    from usbench.tracks import robustness

    if track not in TRACKS:
        raise unknown("track", track, TRACKS)
    lines: list[str] = []
    folders = named_runs(runs, lines)
    if not folders:
        raise UsbenchError(lines[0])
    for folder in folders:
        try:
            result = load_result(folder)
            if is_outside(result):
                lines.append(f"{folder}: this run {NO_NETWORK}; it is passed over")
                continue
            if (state := network_state(result)) != "kept":
                gone = "kept no trained network" if state == "never" else "no longer has its trained network"
                lines.append(f"{folder}: this run {gone}; run it again with --overwrite")
                continue
            if track == "external":
                lines.append(f"{folder}: its network would predict the cases of the other data")
                continue
            done = robustness.folder_of(result.data, folder, masks).finished()
        except UsbenchError as error:
            lines.append(str(error))
            continue
        if done is not None and not overwrite:
            lines.append(f"{folder}: robustness is finished")
            continue
        cases = result.data["split"]["test"]
        conditions = len(conditions_of(result.data["task"]["modalities"]))
        size = sum(file.stat().st_size for file in (folder / "predictions").glob("*.nii.gz")) * conditions
        kept = f", masks of about {size / 1e6:.1f} MB" if masks else ""
        lines.append(f"{folder}: {count(cases, 'case')} under {count(conditions, 'condition')}{kept}")
    return lines
