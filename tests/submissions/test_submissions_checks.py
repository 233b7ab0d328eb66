"""What is checked of a submission's result, card and names, one value at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.tampering import folder_of_fold, put_together, taken_apart

from usbench.errors import UsbenchError
from usbench.submissions.archive import is_member_name, opened
from usbench.submissions.card import dump_card
from usbench.submissions.checks import result_problems
from usbench.submissions.content import read_submission


@pytest.mark.parametrize("version", [2, 3])
def test_a_fusion_that_nobody_brings_is_said(version: int) -> None:
    members = taken_apart()
    data = json.loads(members[f"{folder_of_fold(members)}/result.json"])
    data["protocol_version"] = version
    data["cell"]["fusion"] = "middling"
    assert any(problem.startswith("unknown fusion 'middling'") for problem in result_problems(data))


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("epochs", 4, True),
        ("epochs", 4.0, False),
        ("epochs", "4", False),
        ("lr", 1, True),
        ("lr", True, False),
        ("mirror", 1, False),
    ],
)
def test_settings_have_the_types_of_their_defaults(name: str, value: Any, fits: bool) -> None:
    """A whole number may stand for a float, as in a file of settings; nothing else for anything."""
    members = taken_apart()
    data = json.loads(members[f"{folder_of_fold(members)}/result.json"])
    data["config"]["train"][name] = value
    words = f"has a setting train.{name} of another type than"
    assert any(words in problem for problem in result_problems(data)) != fits


def test_verify_says_the_first_thing_that_a_card_lacks(tmp_path: Path) -> None:
    members = taken_apart()
    found = yaml.safe_load(members["card.yaml"])
    members["card.yaml"] = dump_card({**found, "entry": "x" * 61, "hours": -1})
    path = put_together(tmp_path / "entry.zip", members)
    with opened(path) as archive, pytest.raises(UsbenchError, match="'entry' is longer than 60"):
        read_submission(archive)


@pytest.mark.parametrize(("length", "known"), [(999, True), (1000, False)])
def test_names_of_members_have_up_to_999_characters(length: int, known: bool) -> None:
    # No part of it is longer than 240.
    parts = ["runs", "a" * 200, "b" * 200, "c" * 200, "tracks", "t", "predictions", "d" * 200]
    folder = "/".join(parts)
    case = "p" * (length - len(f"{folder}/.nii.gz"))
    assert is_member_name(f"{folder}/{case}.nii.gz") == known
