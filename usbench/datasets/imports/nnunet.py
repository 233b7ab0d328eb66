"""nnU-Net raw data, version 1 and 2: dataset.json, imagesTr with a file a channel, labelsTr."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from usbench.contracts.files import MASK, ScanFiles
from usbench.datasets.imports.proposal import Part, Proposal, safe_part, words_for
from usbench.datasets.readers.patterns import CASE, SUFFIXES
from usbench.errors import UsbenchError
from usbench.storage.texts import read_description


def propose(folder: Path) -> Proposal:
    """What dataset.json says of channels, labels and cases.

    Raises:
        UsbenchError: naming the key that is wrong or that usbench cannot follow.
    """
    file = folder / "dataset.json"
    data = read_description(file, "the description of the data set", "write it as nnU-Net does")
    if not isinstance(data, dict):
        raise UsbenchError(f"{file}: holds a {type(data).__name__}; an object with keys is expected")
    ending = _ending(file, data, folder)
    proposal = Proposal("nnunet", folder, title=_text(data, "description") or _text(data, "name"))
    for number, channel in enumerate(channels_of(file, data)):
        name = safe_part(channel, f"{file}: channel")
        proposal.scans.append(ScanFiles(name, f"imagesTr/{CASE}_{number:04d}{ending}"))
        proposal.words[name] = words_for(channel)
    proposal.mask = f"labelsTr/{CASE}{ending}"
    proposal.prefix = "imagesTr/"
    proposal.classes, proposal.regions = classes_of(file, data)
    proposal.licence = _text(data, "licence") or _text(data, "license")
    proposal.citation = _text(data, "reference")
    listed = _listed(file, data, proposal)
    if listed:
        proposal.cases = listed
        proposal.mask = ""
        proposal.scans = [ScanFiles(scan.name) for scan in proposal.scans]
    count = data.get("numTraining")
    labels = list((folder / "labelsTr").glob(f"[!.]*{ending}")) if not listed else list(listed)
    if isinstance(count, int) and count != len(labels):
        proposal.notes.append(
            f"dataset.json says {count} training cases (numTraining), {len(labels)} are here"
        )
    return proposal


def _ending(file: Path, data: dict[str, Any], folder: Path) -> str:
    """How the files end: what version 2 says, else that of the first image."""
    ending = data.get("file_ending")
    if ending is None:
        names = [f.name for f in sorted((folder / "imagesTr").glob("*_0000.*"))]
        ending = next((name.partition("_0000")[2] for name in names if not name.startswith(".")), ".nii.gz")
    if ending not in SUFFIXES:
        raise UsbenchError(
            f"{file}: its files end in {ending}; usbench reads .nii.gz and .nii, so convert them first"
        )
    return str(ending)


def channels_of(file: Path, data: dict[str, Any]) -> list[str]:
    """The channels that dataset.json names, in order ("channel_names", or "modality" in version 1)."""
    key = "channel_names" if "channel_names" in data else "modality"
    value = data.get(key)
    if not isinstance(value, dict) or sorted(value) != sorted(str(k) for k in range(len(value))) or not value:
        raise UsbenchError(
            f'{file}: "{key}" is {value!r}; number the channels from 0, {{"0": "T2", "1": "ADC"}}'
        )
    names = [value[str(number)] for number in range(len(value))]
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise UsbenchError(f'{file}: "{key}" names a channel {name!r}; write a word')
    safe = [safe_part(name, "channel") for name in names]
    if twice := next((name for name in safe if safe.count(name) > 1), ""):
        raise UsbenchError(f'{file}: "{key}" has two channels called {twice}; give each its own name')
    return names


def classes_of(file: Path, data: dict[str, Any]) -> tuple[dict[str, Part], bool]:
    """The classes of "labels", and whether they are regions that may overlap.

    {"liver": 1} of version 2 and {"1": "liver"} of version 1 are read, regions as {"whole": [1, 2]}.
    """
    value = data.get("labels")
    if not isinstance(value, dict) or not value:
        raise UsbenchError(f'{file}: "labels" is missing; write {{"background": 0, "liver": 1}}')
    numbered = [_is_number(key) for key in value]
    if any(numbered) and not all(numbered):
        raise UsbenchError(f'{file}: "labels" mixes names and numbers; write {{"background": 0, "liver": 1}}')
    pairs = [(str(name), key) for key, name in value.items()] if all(numbered) else list(value.items())
    classes: dict[str, Part] = {}
    for name, given in pairs:
        labels = tuple(_label(file, name, one) for one in (given if isinstance(given, list) else [given]))
        if labels == (0,):
            continue
        if name.strip().lower() == "ignore":
            raise UsbenchError(
                f'{file}: "labels" has "ignore" ({given}), which usbench does not take; give those voxels a '
                "class in a copy of the masks"
            )
        key = safe_part(name, f"{file}: class")
        if key in classes:
            raise UsbenchError(f'{file}: "labels" has two classes called {key}; give each its own name')
        classes[key] = Part(labels, name.strip().replace("_", " "))
    if not classes:
        raise UsbenchError(f'{file}: "labels" names no class besides the background; name one')
    several = [label for part in classes.values() for label in part.labels]
    regions = "regions_class_order" in data or len(set(several)) < len(several)
    return (classes if regions else dict(sorted(classes.items(), key=lambda p: p[1].labels))), regions


def _label(file: Path, name: str, value: object) -> int:
    if isinstance(value, str) and _is_number(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise UsbenchError(f'{file}: "labels" gives {name} the value {value!r}; write a whole number from 0')
    return value


def _is_number(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"\s*[0-9]+\s*", text) is not None


def _listed(file: Path, data: dict[str, Any], proposal: Proposal) -> dict[str, dict[str, str]]:
    """The cases that dataset.json names one by one; empty where the folder alone says which there are."""
    cases: dict[str, dict[str, str]] = {}
    if isinstance(data.get("dataset"), dict):
        for case, entry in data["dataset"].items():
            images, label = (
                (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
            )
            if (
                not isinstance(images, list)
                or len(images) != len(proposal.scans)
                or not isinstance(label, str)
            ):
                raise UsbenchError(
                    f'{file}: "dataset" has no {len(proposal.scans)} images and label for {case}; complete it'
                )
            cases[case] = {**dict(zip(_names(proposal), map(str, images), strict=True)), MASK: label}
        return cases
    listed = data.get("training")
    if not isinstance(listed, list):
        return {}
    here = {f.name for f in (proposal.folder / "labelsTr").glob("[!.]*") if f.name.endswith(SUFFIXES)}
    names = {Path(str(entry.get("label"))).name for entry in listed if isinstance(entry, dict)}
    if names == here:
        return {}
    for name in sorted(names):
        case = re.sub(r"\.nii(\.gz)?$", "", name)
        images = {scan.name: scan.pattern.replace(CASE, case) for scan in proposal.scans}
        cases[case] = {**images, MASK: proposal.mask.replace(CASE, case)}
    if over := sorted(here - names):
        proposal.notes.append(f"not listed in dataset.json and left out: {', '.join(over[:8])}")
    return cases


def _names(proposal: Proposal) -> list[str]:
    return [scan.name for scan in proposal.scans]


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return " ".join(value.split()) if isinstance(value, str) else ""
