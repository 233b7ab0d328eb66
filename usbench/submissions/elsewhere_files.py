"""Masks in somebody's folder: which file is of which case, and what its values mean."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.contracts.classes import value_of
from usbench.contracts.names import natural_key
from usbench.datasets.imports.nnunet import classes_of
from usbench.datasets.outside_masks import bit_values
from usbench.errors import UsbenchError, unknown
from usbench.storage.files import os_errors
from usbench.storage.texts import read_json

if TYPE_CHECKING:
    from usbench.contracts.data import Task

_FOLD = re.compile(r"fold_([0-9]+)")
_ENDINGS = (".nii.gz", ".nii")
DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class FoundMasks:
    """The masks of a folder.

    Attributes:
        folder: The folder.
        files: By case, its mask.
        strange: Masks of no case of the task.
        claimed: By case, the fold_K of nnU-Net that its mask lies in; empty for a plain folder.
    """

    folder: Path
    files: dict[str, Path]
    strange: tuple[Path, ...]
    claimed: dict[str, int]


def find_masks(folder: Path, case_ids: Sequence[str]) -> FoundMasks:
    """The masks in a folder: CASE.nii.gz or CASE.nii, or CASE_ANYTHING of one case alone.

    A folder of nnU-Net's results (fold_0/validation, fold_1/validation, ...) is read as it is.

    Args:
        folder: What a user names.
        case_ids: Of the task.

    Raises:
        UsbenchError: One line for a folder that is absent or holds no mask, and for a case with two.
    """
    if not folder.is_dir():
        raise UsbenchError(f"{folder}: no such folder of masks; check --predictions")
    with os_errors(folder, "read"):
        folds = {
            int(match[1]): place / "validation"
            for place in folder.iterdir()
            if (match := _FOLD.fullmatch(place.name)) and (place / "validation").is_dir()
        }
        files: list[tuple[int | None, Path]] = [(None, file) for file in _masks_in(folder)]
        files += [(k, file) for k, place in sorted(folds.items()) for file in _masks_in(place)]
    if not files:
        raise UsbenchError(
            f"{folder}: holds no mask; name a folder of CASE.nii.gz, or nnU-Net's results with "
            "fold_0/validation"
        )
    found: dict[str, list[tuple[int | None, Path]]] = defaultdict(list)
    strange = []
    for fold, file in files:
        case_id = _case_of(file, case_ids)
        if case_id is None:
            strange.append(file)
        else:
            found[case_id].append((fold, file))
    for case_id, several in found.items():
        if len(several) > 1:
            raise UsbenchError(
                f"{several[0][1]}: case {case_id} has a second mask, {several[1][1]}; keep one of the two"
            )
    if not found:
        some = ", ".join(case_ids[:3])
        raise UsbenchError(
            f"{strange[0]}: is of no case of the task ({some}, ...), nor is any other mask in there; "
            "name the files CASE.nii.gz"
        )
    claimed = {case_id: one[0][0] for case_id, one in found.items() if one[0][0] is not None}
    return FoundMasks(folder, {case_id: one[0][1] for case_id, one in found.items()}, tuple(strange), claimed)


def _masks_in(folder: Path) -> list[Path]:
    names = [f for f in folder.iterdir() if f.name.endswith(_ENDINGS) and not f.name.startswith(".")]
    return sorted((f for f in names if f.is_file()), key=lambda f: natural_key(f.name))


def _case_of(file: Path, case_ids: Sequence[str]) -> str | None:
    """The case that the name of a mask is of, None for none.

    Raises:
        UsbenchError: Where it may be of two.
    """
    stem = file.name[: -len(next(ending for ending in _ENDINGS if file.name.endswith(ending)))]
    if stem in case_ids:
        return stem
    fits = [case_id for case_id in case_ids if stem.startswith((f"{case_id}_", f"{case_id}-", f"{case_id}."))]
    if len(fits) > 1:
        raise UsbenchError(
            f"{file}: may be of case {fits[0]} or of {fits[1]}; name it CASE.nii.gz, without more words"
        )
    return fits[0] if fits else None


def values_of(task: Task, folder: Path, labels: Mapping[str, str]) -> tuple[dict[int, int], str]:
    """What the values in the masks of a folder mean.

    Args:
        task: With the classes of the run.
        folder: That of the masks; a dataset.json in there names its labels as nnU-Net's does.
        labels: By class of the task, its values ("2" or "1+2"), or its name in dataset.json.

    Returns:
        By value in the files, that of `Case.mask`, and in words where it is from.

    Raises:
        UsbenchError: One line for an unknown class, a value that is none, or one of two classes.
    """
    file = folder / DESCRIPTION
    named = _named(file) if file.is_file() else None
    if not labels and named is None:
        how = "sums of bits, 1 for the first region" if task.regions else "1 to K in the task's order"
        return bit_values(task), f"values: {how}"
    classes = list(task.class_names)
    for name in labels:
        if name not in classes:
            raise unknown("class in --labels", name, classes)
    parts: dict[str, tuple[int, ...]] = {}
    for name in classes:
        if name in labels:
            parts[name] = _given(name, labels[name], named)
        elif named is None:
            raise UsbenchError(f"--labels names no value of class {name}; write {name}=VALUE too")
        elif name in named:
            parts[name] = named[name]
        else:
            raise UsbenchError(
                f"{file}: names no class {name} of task {task.name} (it has {', '.join(named)}); say which "
                f"it is with --labels {name}=VALUE"
            )
    values: dict[int, int] = defaultdict(int)
    for index, (name, own) in enumerate(parts.items()):
        for value in own:
            if value in values and not task.regions:
                raise UsbenchError(f"value {value} is of class {name} and of another one; give each its own")
            values[value] += value_of(index, task.regions)
    source = "--labels" if labels else DESCRIPTION
    return dict(values), f"values: as {source} says"


def _named(file: Path) -> dict[str, tuple[int, ...]]:
    data = read_json(file, "a description of labels", "mend it, or move it away", undecoded="replace")
    if not isinstance(data, dict):
        raise UsbenchError(f"{file}: is no description of labels; mend it, or move it away")
    found, _ = classes_of(file, data)
    return {name: part.labels for name, part in found.items()}


def _given(name: str, text: str, named: Mapping[str, tuple[int, ...]] | None) -> tuple[int, ...]:
    if named is not None and text in named:
        return named[text]
    try:
        values = tuple(int(part) for part in text.split("+"))
    except ValueError:
        values = ()
    # Python reads the digits of every script.
    if not values or min(values) < 1 or not text.isascii():
        names = f", or one of {', '.join(named)}" if named else ""
        raise UsbenchError(f"--labels {name}={text}: is no value of a mask; write 2, or 1+2{names}")
    return values
