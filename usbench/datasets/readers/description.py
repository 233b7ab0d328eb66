"""dataset.json: what the layout of the Medical Segmentation Decathlon says of a data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from usbench.contracts.names import natural_key, safe_name
from usbench.contracts.problem import DataError, DataProblem
from usbench.storage.files import read_json

_AGAIN = "extract or download the data set again"
_REMEDY = "correct dataset.json (see the layout of the Medical Segmentation Decathlon)"


@dataclass(frozen=True)
class ListedCase:
    """A training case that dataset.json names."""

    case_id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Description:
    """What dataset.json says. `channels` in the order of the images; `labels` without background."""

    title: str
    licence: str
    reference: str
    channels: tuple[str, ...]
    labels: dict[str, tuple[int, ...]]
    entries: tuple[ListedCase, ...]


def load_description(root: Path) -> Description:
    """Read `root/dataset.json`.

    `labels` may be written as the Decathlon does ({"1": "liver"}) or as nnU-Net does ({"liver": 1}),
    and `channel_names` stands for `modality`.

    Raises:
        UsbenchError: Naming the key or the value that is wrong.
    """
    file = root / "dataset.json"
    data = read_json(file, "the description of the data set", _AGAIN)
    if not isinstance(data, dict):
        raise wrong(file, f"holds a {type(data).__name__}, an object with keys is expected")
    return Description(
        title=_text(data, "description") or _text(data, "name"),
        licence=_text(data, "licence") or _text(data, "license"),
        reference=_text(data, "reference"),
        channels=_channels(file, data),
        labels=_labels(file, data),
        entries=_listed_cases(file, data),
    )


def wrong(file: Path, what: str, remedy: str = _REMEDY) -> DataError:
    """The error that names dataset.json, what is wrong in it, and the remedy."""
    return DataError(DataProblem(None, file, what, remedy))


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return value.strip() if isinstance(value, str) else ""


def _channels(file: Path, data: dict[str, Any]) -> tuple[str, ...]:
    key = "modality" if "modality" in data else "channel_names"
    value = data.get(key)
    if not isinstance(value, dict) or not value:
        raise wrong(file, 'key "modality" is missing or empty, expected {"0": "T2", "1": "ADC"}')
    if sorted(value) != sorted(str(k) for k in range(len(value))):
        raise wrong(
            file, f'"{key}" is numbered {", ".join(value)}, expected 0 to {len(value) - 1} without gaps'
        )
    channels = [value[str(k)] for k in range(len(value))]
    for name in channels:
        if not isinstance(name, str) or not safe_name(name):
            raise wrong(file, f'"{key}" names a modality {name!r}, a word is expected')
    _refuse_same(file, key, [safe_name(name) for name in channels])
    return tuple(name.strip() for name in channels)


def _labels(file: Path, data: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    value = data.get("labels")
    if not isinstance(value, dict) or not value:
        raise wrong(file, 'key "labels" is missing or empty, expected {"0": "background", "1": "liver"}')
    decathlon = all(isinstance(name, str) for name in value.values())
    pairs = [(name, key) if decathlon else (key, name) for key, name in value.items()]
    labels: dict[str, tuple[int, ...]] = {}
    seen: dict[int, str] = {}
    for name, numbers in pairs:
        values = tuple(
            _label_value(file, name, v) for v in (numbers if isinstance(numbers, list) else [numbers])
        )
        if values == (0,):
            continue
        if name.strip().lower() == "ignore":
            raise wrong(
                file, '"labels" has a class "ignore", which usbench does not support', "remove those voxels"
            )
        if not safe_name(name):
            raise wrong(file, f'"labels" names a class {name!r}, a word is expected')
        for v in values:
            if v in seen:
                raise wrong(
                    file,
                    f'"labels" gives the value {v} to both "{seen[v]}" and "{name}"',
                    "make them disjoint",
                )
            seen[v] = name
        labels[name.strip()] = values
    if not labels:
        raise wrong(file, '"labels" names no class besides the background')
    _refuse_same(file, "labels", [safe_name(name) for name in labels])
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def _label_value(file: Path, name: str, value: object) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]+", value.strip()) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
        raise wrong(file, f'"labels" gives class "{name}" the value {value!r}, an integer from 0 is expected')
    return number


def _refuse_same(file: Path, key: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise wrong(file, f'"{key}" has the name "{name}" twice', "give each its own name")


def _listed_cases(file: Path, data: dict[str, Any]) -> tuple[ListedCase, ...]:
    value = data.get("training")
    if not isinstance(value, list) or not value:
        raise wrong(
            file, 'key "training" is missing or empty, expected a list of {"image": file, "label": file}'
        )
    entries: dict[str, ListedCase] = {}
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise wrong(
                file, f'entry {number} of "training" is {item!r}, expected {{"image": file, "label": file}}'
            )
        image, label = (_listed(file, number, item, key) for key in ("image", "label"))
        if image.name.startswith("._"):
            continue
        case_id = re.sub(r"\.nii(\.gz)?$", "", image.name)
        if case_id in entries:
            raise wrong(file, f'"training" lists case {case_id} twice', "list every case once")
        entries[case_id] = ListedCase(case_id, image, label)
    return tuple(sorted(entries.values(), key=lambda e: natural_key(e.case_id)))


def _listed(file: Path, number: int, item: dict[str, Any], key: str) -> Path:
    value = item.get(key)
    if not isinstance(value, str) or not re.search(r"\.nii(\.gz)?$", value):
        raise wrong(
            file, f'entry {number} of "training" has {key} {value!r}, expected the name of a .nii.gz file'
        )
    name = PurePosixPath(value)
    if name.is_absolute() or ".." in name.parts:
        raise wrong(
            file, f'entry {number} of "training" has {key} {value!r} outside the folder', "use relative names"
        )
    return file.parent / name
