"""dataset.json: what the layout of the Medical Segmentation Decathlon says of a data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from usbench.contracts.names import case_id_fault, natural_key, safe_name, twins
from usbench.contracts.problem import DataError, DataProblem
from usbench.storage.texts import read_description

_AGAIN = "extract or download the data set again"
# The names that people give to what is no class.
_BACKGROUND = re.compile(
    r"(back[ _-]?ground|bg|clear label|unlabel?led|nothing|none|void|air)", re.IGNORECASE
)
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
    data = read_description(file, "the description of the data set", _AGAIN)
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


def load_tests(root: Path) -> dict[str, Path]:
    """The images without a mask that `root/dataset.json` lists under "test", by case.

    Raises:
        UsbenchError: Naming the entry that is wrong.
    """
    file = root / "dataset.json"
    data = read_description(file, "the description of the data set", _AGAIN)
    value = data.get("test") or []
    if not isinstance(value, list):
        return {}  # some write how many there are
    found = {}
    for number, item in enumerate(value):
        entry = item if isinstance(item, dict) else {"image": item}
        image = _listed(file, number, entry, "image", "test")
        if image.name.startswith("._"):
            continue
        if fault := case_id_fault(_stem(image)):
            what = f'entry {number} of "test" has the image {entry["image"]!r}, whose case {fault}'
            raise wrong(file, what, "rename the image file and the entry")
        found[_stem(image)] = image
    return {case_id: found[case_id] for case_id in sorted(found, key=natural_key)}


def wrong(file: Path, what: str, remedy: str = _REMEDY) -> DataError:
    """The error that names dataset.json, what is wrong in it, and the remedy."""
    return DataError(DataProblem(None, file, what, remedy))


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return value.strip() if isinstance(value, str) else ""


def _channels(file: Path, data: dict[str, Any]) -> tuple[str, ...]:
    key = "modality" if "modality" in data else "channel_names"
    value = data.get(key)
    if key == "modality" and value != data.get("channel_names", value):
        raise wrong(file, '"modality" and "channel_names" do not say the same', "keep one of the two")
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
    pairs = _named_labels(file, value)
    labels: dict[str, tuple[int, ...]] = {}
    seen: dict[int, str] = {}
    for name, numbers in pairs:
        values = tuple(
            _label_value(file, name, v) for v in (numbers if isinstance(numbers, list) else [numbers])
        )
        if _BACKGROUND.fullmatch(name.strip()) and values != (0,):
            what = f'"labels" gives the background ("{name}") the value {", ".join(map(str, values))}, not 0'
            raise wrong(file, what, "give it the value 0 in the masks and in dataset.json")
        if values == (0,):
            if not _BACKGROUND.fullmatch(name.strip()):
                what = f'"labels" gives the class "{name}" the value 0, which is that of the background'
                raise wrong(file, what, 'give it another value in the masks, or call it "background"')
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


def _named_labels(file: Path, value: dict[str, Any]) -> list[tuple[str, Any]]:
    """The pairs of "labels" as (name, value or values), whichever way round they are written."""
    numbered = all(_is_number(key) for key in value) and all(isinstance(v, str) for v in value.values())
    named = not any(_is_number(key) for key in value)
    if numbered and not all(_is_number(v) for v in value.values()):
        return [(name, key) for key, name in value.items()]
    if named:
        return list(value.items())
    raise wrong(
        file,
        '"labels" mixes names and numbers, so that nobody knows which is which',
        'write {"0": "background", "1": "liver"} or {"background": 0, "liver": 1}',
    )


def _is_number(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"\s*[+-]?[0-9.]+\s*", text) is not None


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
    if "training" not in data and "file_ending" in data:
        what = 'this is the layout of nnU-Net: key "training" is missing'
        raise wrong(file, what, "make a task file of it with: usbench data import")
    if not isinstance(value, list) or not value:
        raise wrong(
            file, 'key "training" is missing or empty, expected a list of {"image": file, "label": file}'
        )
    entries: dict[str, ListedCase] = {}
    masks: dict[Path, str] = {}
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise wrong(
                file, f'entry {number} of "training" is {item!r}, expected {{"image": file, "label": file}}'
            )
        image, label = (_listed(file, number, item, key) for key in ("image", "label"))
        if image.name.startswith("._"):
            continue
        case_id = _stem(image)
        if fault := case_id_fault(case_id):
            named = f'has the image {item["image"]!r}, whose case "{case_id}" {fault}'
            what = f'entry {number} of "training" {named}'
            raise wrong(file, what, "rename the image file and the entry")
        if case_id in entries:
            raise wrong(file, f'"training" lists case {case_id} twice', "list every case once")
        if image == label:
            raise wrong(
                file, f'"training" lists {item["image"]} as image and as mask', "name the mask's file"
            )
        if label in masks:
            twice = f"for case {masks[label]} and for case {case_id}"
            what = f'"training" lists the mask {item["label"]} {twice}'
            raise wrong(file, what, "give each case its own mask")
        masks[label] = case_id
        entries[case_id] = ListedCase(case_id, image, label)
    _refuse_mixed_up(file, entries)
    return tuple(sorted(entries.values(), key=lambda e: natural_key(e.case_id)))


def _refuse_mixed_up(file: Path, entries: dict[str, ListedCase]) -> None:
    """Refuse names that are one on some systems, and masks that are named after another case."""
    if alike := twins(entries):
        what = f'"training" lists the cases "{alike[0]}" and "{alike[1]}", which some systems take for one'
        raise wrong(file, what, "rename one of the two")
    for entry in entries.values():
        owner = _stem(entry.label)
        if owner != entry.case_id and owner in entries:
            what = f'"training" lists the mask of case {owner}, {entry.label.name}, for case {entry.case_id}'
            raise wrong(file, what, "put the entry right, or rename the masks")


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name)


def _listed(file: Path, number: int, item: dict[str, Any], key: str, where: str = "training") -> Path:
    value = item.get(key)
    if not isinstance(value, str) or not re.search(r"\.nii(\.gz)?$", value):
        raise wrong(
            file, f'entry {number} of "{where}" has {key} {value!r}, expected the name of a .nii.gz file'
        )
    if "\\" in value:
        what = f'entry {number} of "{where}" has {key} {value!r} with a backslash'
        raise wrong(file, what, "write / between folders")
    name = PurePosixPath(value)
    if name.is_absolute() or ".." in name.parts:
        raise wrong(
            file, f'entry {number} of "{where}" has {key} {value!r} outside the folder', "use relative names"
        )
    return file.parent / name
