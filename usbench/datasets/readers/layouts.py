"""From a data folder to the reader of a task's data."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from usbench.contracts.data import Reader, Task
from usbench.datasets.readers.chaos import SERIES, ChaosReader
from usbench.datasets.readers.msd import MsdReader
from usbench.datasets.readers.own import OwnReader
from usbench.errors import UsbenchError

# Folders that people keep the data sets in, below their data folder.
_PARENTS = ("chaos", "CHAOS", "CHAOS_Train_Sets", "msd", "MSD")

_LAYOUTS = {
    "chaos": "a folder for each patient, with T1DUAL/DICOM_anon/{InPhase,OutPhase}, T1DUAL/Ground, "
    "T2SPIR/DICOM_anon and T2SPIR/Ground",
    "msd": "dataset.json beside imagesTr and labelsTr",
}


def locate(task: Task, data_dir: Path) -> Path | None:
    """The folder that holds the cases of `task`, in `data_dir` or below it; None if there is none."""
    return next((folder for folder in _candidates(task, Path(data_dir)) if _holds_layout(task, folder)), None)


def open_reader(task: Task, root: Path) -> Reader:
    """The reader of the data of `task` in the data folder `root`.

    Raises `UsbenchError` with the places looked at and the layout expected if nothing is there.
    """
    root = Path(root)
    if not root.is_dir():
        raise UsbenchError(
            f"{root}: there is no such folder; give the folder that holds the data (--data-dir)"
        )
    folder = locate(task, root)
    if folder is None:
        places = ", ".join(str(place) for place in _candidates(task, root))
        fetch = f", or fetch it with: {download_command(task, root)}" if task.download else ""
        layout = "what its own reader reads" if task.reader is not None else _LAYOUTS[task.layout]
        raise UsbenchError(
            f"{root}: no data of task {task.name} (looked in {places}); its folder {task.folder} "
            f"must hold {layout}{fetch}"
        )
    if task.reader is not None:
        return OwnReader(task, folder)
    return ChaosReader(task, folder) if task.layout == "chaos" else MsdReader(task, folder)


def download_command(task: Task, target: Path) -> str:
    """The command that downloads the data of `task` into the data folder `target`."""
    return f"usbench data download {task.name} --data-dir {shlex.quote(str(target))}"


def _candidates(task: Task, data_dir: Path) -> list[Path]:
    if task.folder == ".":
        return [data_dir]
    parents = [data_dir, *(data_dir / name for name in (task.name, *_PARENTS))]
    places = [
        place for parent in parents for place in (parent / task.folder, parent / Path(task.folder).name)
    ]
    # The folder of another Decathlon task may hold the same modalities: it is never taken for this one's.
    name = data_dir.resolve().name
    if task.reader is not None:
        # Any folder would do for a layout that usbench does not know: only the named one is taken.
        return list(dict.fromkeys([*places, *([data_dir] if name == Path(task.folder).name else [])]))
    if task.layout == "chaos" or name == Path(task.folder).name or not re.match(r"Task[0-9]+_", name):
        places.append(data_dir)
    return list(dict.fromkeys(places))


def _holds_layout(task: Task, folder: Path) -> bool:
    try:
        if task.reader is not None:
            return folder.is_dir()
        if task.layout == "msd":
            return (folder / "dataset.json").is_file()
        tops = {Path(images).parts[0] for images, _ in SERIES.values()}
        return folder.is_dir() and any((case / top).is_dir() for case in folder.iterdir() for top in tops)
    except OSError as error:
        raise UsbenchError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
