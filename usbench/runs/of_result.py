"""What a result says of its run, given back: the task, the settings and the plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from usbench.config import Config
from usbench.contracts.data import Modality, Structure, Task
from usbench.contracts.settings import DataSettings, TrainSettings, VolumeSettings
from usbench.errors import UsbenchError
from usbench.results.digests import DEFAULTS
from usbench.results.io import PROTOCOL_VERSION
from usbench.results.result import Result

RUN_AGAIN = "run it again with --overwrite, which keeps it"


def plugin_files(data: Mapping[str, Any]) -> list[Path]:
    """The plugin files that a run used, as its result names them.

    Args:
        data: A result.json.

    Raises:
        UsbenchError: Where one of them is not there.
    """
    from usbench.datasets.tasks import names_file

    files = []
    for kind in ("method", "fusion", "task"):
        origin = data.get(kind, {}).get("origin", "")
        if names_file(origin):
            continue  # A task file brings no code, and the result states what a network needs of it.
        if origin.startswith("file ") and (path := Path(origin.removeprefix("file "))) not in files:
            if not path.is_file():
                name = data["cell"][kind]
                raise UsbenchError(
                    f"{path}: the plugin of {kind} '{name}' is not there; name it in plugins=[...]"
                )
            files.append(path)
    return files


def task_of(data: Mapping[str, Any], plugins: Sequence[Path] = ()) -> Task:
    """The task of a result; how its data is read is known only of tasks that are found here.

    Args:
        data: A result.json.
        plugins: Files that may bring the task: Python, or task files.
    """
    from usbench.datasets.tasks import get_task, names_file

    said = data["task"]
    words = said.get("words") or {"modalities": said["modalities"], "classes": said["classes"]}
    thresholds = said.get("regions")
    task = Task(
        name=said["name"],
        title=said["title"],
        modalities=tuple(map(Modality, said["modalities"], words["modalities"])),
        classes=tuple(
            Structure(name, word, threshold=thresholds[name] if thresholds else 0.5)
            for name, word in zip(said["classes"], words["classes"], strict=True)
        ),
        regions=thresholds is not None,
        nsd_tolerance_mm=said.get("nsd_tolerance_mm") or 0.0,
        licence="not stated",
        citation="not stated",
    )
    try:
        described = [get_task(str(file)) for file in plugins if names_file(str(file))]
        code = [file for file in plugins if not names_file(str(file))]
        found = next((one for one in described if one.name == said["name"]), None)
        if found is None and names_file(said["name"]):
            return task  # A name is no path: another's submission has no file of one's own read.
        found = found or get_task(said["name"], code)
        known = found.with_modalities(said["modalities"]).merged(said["merge_labels"])
    except UsbenchError:
        return task  # of a folder, or of a plugin that is not here
    if known.modality_names != task.modality_names or known.class_names != task.class_names:
        return task
    if known.regions != task.regions:
        return task
    if "words" not in said:
        return known
    return replace(
        known,
        nsd_tolerance_mm=said["nsd_tolerance_mm"],
        modalities=tuple(
            replace(one, words=then.words)
            for one, then in zip(known.modalities, task.modalities, strict=True)
        ),
        classes=tuple(
            replace(one, words=then.words, threshold=then.threshold)
            for one, then in zip(known.classes, task.classes, strict=True)
        ),
    )


def config_of(result: Result) -> Config:
    """The effective settings of a result.

    Raises:
        UsbenchError: Where it has settings that this usbench does not know.
    """
    said, usual = result.data["config"], DEFAULTS[PROTOCOL_VERSION]
    try:  # What an older result does not state was as it is by the defaults of the protocol.
        return Config(
            preset=result.data["preset"],
            data=DataSettings(**{**usual["data"], **said["data"]}),
            train=TrainSettings(**{**usual["train"], **said["train"]}),
            fusion=dict(said["fusion"]),
            method=dict(said["method"]),
            volume=VolumeSettings(**said["volume"]) if "volume" in said else None,
        )
    except TypeError as error:
        raise UsbenchError(
            f"{result.path}: its settings are not those of this usbench ({error}); "
            f"use the version that wrote it ({result.data['usbench']}), or {RUN_AGAIN}"
        ) from error
