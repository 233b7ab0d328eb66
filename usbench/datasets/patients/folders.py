"""Patients in folders, or in numbered files: which file is which modality is read off the names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from usbench.contracts.data import Modality, Task
from usbench.contracts.names import natural_key
from usbench.datasets.readers.dicom import slice_files
from usbench.datasets.readers.patterns import SUFFIXES
from usbench.errors import UsbenchError
from usbench.storage.files import os_errors
from usbench.storage.texts import read_description

Named = Mapping[str, Path]
"""By modality, its file or the folder of its series."""

_NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii(\.gz)?")
_MASKS = {"seg", "mask", "masks", "label", "labels", "segmentation", "groundtruth", "gt"}
_DEEPEST = 2  # folders between that of a patient and a series


def words_of(name: str) -> list[str]:
    """The words of a file's name, in lower case: what stands between signs that are no letters or digits."""
    return [word for word in re.split(r"[^0-9a-z]+", re.sub(r"\.nii(\.gz)?$", "", name.lower())) if word]


def modality_of(name: str, modalities: tuple[Modality, ...]) -> list[str]:
    """The modalities that a name may mean: those of which a name or alias is the longest run of its words."""
    words, best, found = words_of(name), 0, list[str]()
    for modality in modalities:
        longest = 0
        for called in (modality.name, *modality.aliases):
            wanted = words_of(called)
            runs = (words[i : i + len(wanted)] for i in range(len(words) - len(wanted) + 1))
            if wanted and wanted in runs:
                longest = max(longest, len("".join(wanted)))
        if longest > best:
            best, found = longest, [modality.name]
        elif longest and longest == best:
            found.append(modality.name)
    return found


def find_in_folder(task: Task, folder: Path) -> dict[str, Named]:
    """The patients of a folder that holds the files of one patient, or a folder for each.

    Args:
        task: Whose modalities are looked for.
        folder: Of one patient, or of the folders of several.

    Returns:
        By patient, which file or DICOM folder is which modality; empty where no name fits a modality.

    Raises:
        UsbenchError: Where two files of a patient fit one modality, or a file fits two.
    """
    with os_errors(folder, "look through"):
        alone = _scans_of(task, folder, depth=0)
        if alone:
            return {folder.resolve().name: alone}
        inner = sorted(
            (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
            key=lambda p: natural_key(p.name),
        )
        # Folders that are called as modalities are the series of one patient.
        if any(modality_of(p.name, task.modalities) for p in inner):
            whole = _scans_of(task, folder, depth=1)
            return {folder.resolve().name: whole} if whole else {}
        found = {p.name: _scans_of(task, p, depth=_DEEPEST) for p in inner}
    return {name: scans for name, scans in found.items() if scans}


def _scans_of(task: Task, folder: Path, depth: int) -> dict[str, Path]:
    fits: dict[str, list[Path]] = {}
    for place in _places(folder, depth):
        meant = modality_of(place.name, task.modalities)
        if set(words_of(place.name)) & _MASKS or not meant:
            continue
        if len(meant) > 1:
            raise UsbenchError(
                f"{place}: its name fits the modalities {' and '.join(meant)}; rename it, or name the files "
                "with --images"
            )
        fits.setdefault(meant[0], []).append(place)
    for name, places in fits.items():
        if len(places) > 1:
            listed = " and ".join(str(place.relative_to(folder)) for place in places[:3])
            raise UsbenchError(
                f"{folder}: {len(places)} files fit modality {name} ({listed}); keep one there, or name "
                "the files with --images"
            )
    return {name: places[0] for name, places in fits.items()}


def _places(folder: Path, depth: int) -> list[Path]:
    """NIfTI files and folders of DICOM slices, sorted, down to so many folders below."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if slice_files(entry, ".dcm"):
                found.append(entry)
            elif depth:
                found += _places(entry, depth - 1)
        elif entry.name.endswith(SUFFIXES):
            found.append(entry)
    return found


def find_numbered(task: Task, folder: Path) -> dict[str, Named]:
    """The patients of a folder with nnU-Net's names, CASE_0000.nii.gz for the first channel.

    Channels are those of dataset.json in the folder or beside it; without one they are the modalities of the
    task in their order.

    Args:
        task: Whose modalities are looked for.
        folder: Such as imagesTs.

    Returns:
        By patient, the file of each modality; empty where no file has such a name.

    Raises:
        UsbenchError: Where the channels do not have the modalities of the task.
    """
    with os_errors(folder, "look through"):
        names = sorted((p.name for p in folder.iterdir() if not p.name.startswith(".")), key=natural_key)
    found: dict[str, dict[int, Path]] = {}
    for name in names:
        if fit := _NUMBERED.fullmatch(name):
            found.setdefault(fit["case"], {})[int(fit["channel"])] = folder / name
    if not found:
        return {}
    channels = _channels(task, folder, max(max(files) for files in found.values()) + 1)
    return {
        case: {name: files[number] for name, number in channels.items() if number in files}
        for case, files in found.items()
    }


def _channels(task: Task, folder: Path, count: int) -> dict[str, int]:
    """By modality of the task, the number of its channel."""
    for file in (folder / "dataset.json", folder.parent / "dataset.json"):
        if not file.is_file():
            continue
        data = read_description(file, "the description of the data set", "correct or remove it")
        listed = (data.get("channel_names") or data.get("modality")) if isinstance(data, dict) else None
        if not isinstance(listed, dict) or not all(str(number).isdigit() for number in listed):
            raise UsbenchError(f'{file}: names no channels; write "channel_names": {{"0": "T2"}}')
        channels: dict[str, int] = {}
        for modality in task.modalities:
            fits = [int(number) for number, name in listed.items() if _is_called(modality, str(name))]
            if len(fits) != 1:
                shown = ", ".join(map(str, listed.values()))
                what = f"{len(fits) or 'no'} channels are called {modality.name} ({shown})"
                raise UsbenchError(f"{file}: {what}; name each modality of the network once, as the run does")
            channels[modality.name] = fits[0]
        return channels
    if count != len(task.modalities):
        raise UsbenchError(
            f"{folder}: its files have {count} channels, the network takes {len(task.modalities)} "
            f"({', '.join(task.modality_names)}); put the dataset.json that names them beside it"
        )
    return {name: number for number, name in enumerate(task.modality_names)}


def _is_called(modality: Modality, name: str) -> bool:
    return modality.is_called(name) or words_of(name) == words_of(modality.name)
