"""dataset.json is read strictly: what is ambiguous, doubled, unsafe or mixed up is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from usbench.contracts.problem import DataError
from usbench.datasets.readers.description import load_description
from usbench.errors import UsbenchError


def description(**changes: Any) -> dict[str, Any]:
    sound = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [
            {"image": f"./imagesTr/p_{k}.nii.gz", "label": f"./labelsTr/p_{k}.nii.gz"} for k in range(3)
        ],
    }
    return {**sound, **changes}


def entry(image: str, label: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{image}.nii.gz", "label": f"./labelsTr/{label}.nii.gz"}


def load(folder: Path, data: Any) -> Any:
    (folder / "dataset.json").write_text(
        data if isinstance(data, str) else json.dumps(data), encoding="utf-8"
    )
    return load_description(folder)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "PZ", "2": "TZ"},
        {"background": 0, "PZ": 1, "TZ": 2},
        {"background": "0", "PZ": "1", "TZ": "2"},
        {"1": "PZ", "2": "TZ"},
        {"2": "TZ", "0": "Background", "1": "PZ"},
        {"0": "Clear Label", "1": "PZ", "2": "TZ"},
    ],
)
def test_both_ways_of_writing_labels(tmp_path: Path, labels: dict[str, Any]) -> None:
    assert load(tmp_path, description(labels=labels)).labels == {"PZ": (1,), "TZ": (2,)}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 1, "lesion": 2}, 'gives the background ("background") the value 1, not 0'),
        ({"1": "Background", "2": "lesion"}, 'gives the background ("Background") the value 1, not 0'),
        ({"background": [0, 3], "lesion": 1}, "the value 0, 3, not 0"),
        ({"0": "lesion", "1": "other"}, 'gives the class "lesion" the value 0'),
        ({"lesion": 0, "other": 1}, 'gives the class "lesion" the value 0'),
        ({"0": "1", "1": "2"}, "mixes names and numbers"),
        ({"0": "background", "PZ": 1}, "mixes names and numbers"),
        ({"0": "background", "1": 2}, "mixes names and numbers"),
        ({"1": "PZ", "01": "TZ"}, "gives the value 1 to both"),
        ({"PZ": 1.5}, "the value 1.5, an integer from 0 is expected"),
        ({"PZ": -1}, "the value -1, an integer"),
        ({"PZ": True}, "the value True, an integer"),
        ({"-1": "PZ"}, "the value '-1', an integer"),
        ({"0": "background"}, "names no class besides the background"),
    ],
)
def test_labels_that_could_be_misread(tmp_path: Path, labels: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path, description(labels=labels))
    assert said in str(error.value)


def test_half_of_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match=r"dataset\.json: .*it has half of a surrogate pair"):
        load(tmp_path, description(training=[entry("a\udc80", "a")]))


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ([entry("a", "a"), entry("b", "a")], "lists the mask ./labelsTr/a.nii.gz for case a and for case b"),
        ([entry("a", "b"), entry("b", "a")], "lists the mask of case b, b.nii.gz, for case a"),
        ([entry("a", "a"), entry("A", "A")], 'lists the cases "a" and "A"'),
        ([entry("M\u00fc", "1"), entry("Mu\u0308", "2")], "which some systems take for one"),
        ([entry("..", "a")], 'whose case ".." begins or ends with a space or a dot'),
        ([entry("", "a")], 'whose case "" is empty'),
        ([entry("a\u200f", "a")], "has a character that cannot be shown"),
        ([entry("con", "a")], "is the name of a device"),
        ([{"image": "x.nii.gz", "label": "./x.nii.gz"}], "as image and as mask"),
        ([{"image": "imagesTr\\a.nii.gz", "label": "labelsTr\\a.nii.gz"}], "with a backslash"),
        ([{"image": "../a.nii.gz", "label": "a.nii.gz"}], "outside the folder"),
        ([{"image": "/a.nii.gz", "label": "b.nii.gz"}], "outside the folder"),
    ],
)
def test_cases_that_could_be_mixed_up(tmp_path: Path, training: list[dict[str, str]], said: str) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path, description(training=training))
    assert said in str(error.value)


def test_masks_may_have_names_of_their_own(tmp_path: Path) -> None:
    found = load(tmp_path, description(training=[entry("a_0000", "a_seg"), entry("b_0000", "b_seg")]))
    assert [(e.case_id, e.label.name) for e in found.entries] == [
        ("a_0000", "a_seg.nii.gz"),
        ("b_0000", "b_seg.nii.gz"),
    ]


def test_two_names_of_the_channels_must_agree(tmp_path: Path) -> None:
    both = description(channel_names={"0": "T2", "1": "ADC"})
    assert load(tmp_path, both).channels == ("T2", "ADC")
    with pytest.raises(DataError, match='"modality" and "channel_names" do not say the same'):
        load(tmp_path, description(channel_names={"0": "ADC", "1": "T2"}))


def test_the_layout_of_nnunet_is_told_how_it_comes_in(tmp_path: Path) -> None:
    raw = {"channel_names": {"0": "T2"}, "labels": {"background": 0, "PZ": 1}, "file_ending": ".nii.gz"}
    with pytest.raises(DataError, match="usbench data import"):
        load(tmp_path, raw)
