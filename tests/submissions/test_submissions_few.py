"""A submission of runs on few training patients: accepted as it is, refused where others were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit.tampering import change_result, put_together, taken_apart

from usbench.errors import UsbenchError
from usbench.submissions.verify import verify

pytestmark = pytest.mark.usefixtures("cache")


def first(data: dict[str, Any], count: int, seed: int = 0) -> list[str]:
    """The first training patients by the digest of "<seed>:<case>", in the order of the split."""
    train = data["split"]["train"]
    ranked = sorted(train, key=lambda case: hashlib.sha256(f"{seed}:{case}".encode()).digest())
    return [case for case in train if case in ranked[:count]]


def half(data: dict[str, Any]) -> None:
    """As a run with --train-share 0.5 says it."""
    patients = len(data["split"]["train"])
    data["split"] |= {"train": first(data, (patients + 1) // 2), "share": 0.5, "of": patients}


def others(data: dict[str, Any]) -> None:
    patients = len(data["split"]["train"])
    chosen = first(data, patients - (patients + 1) // 2)
    kept = [case for case in data["split"]["train"] if case not in chosen]
    data["split"] |= {"train": kept, "share": 0.5, "of": patients}


def more(data: dict[str, Any]) -> None:
    data["split"] |= {"share": 0.5, "of": len(data["split"]["train"])}


def smaller_fold(data: dict[str, Any]) -> None:
    count = len(data["split"]["train"]) // 2
    data["split"] |= {"train": first(data, count), "train_cases": count, "of": count + 1}


def hidden(data: dict[str, Any]) -> None:
    data["split"]["train"] = first(data, len(data["split"]["train"]) // 2)


def made(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    members = taken_apart()
    change_result(members, change, fold=None)
    return put_together(folder / "few.zip", members)


def test_nested_subsets_are_verified(tmp_path: Path) -> None:
    assert verify(made(tmp_path, half)).runs == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (others, "its train cases are not those of fold 0 of the task's split, 50% of the training patients"),
        (more, "patients, but 50% of the training patients are"),
        (smaller_fold, "training patients, not"),
        (hidden, "its train cases are not those of fold 0 of the task's split; they differ in"),
    ],
)
def test_others_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    with pytest.raises(UsbenchError, match=said):
        verify(made(tmp_path, change))


def test_a_share_that_is_taken_away_is_another_protocol(tmp_path: Path) -> None:
    """Few patients cannot be passed off as all of them, nor all as few: the protocol says which."""
    members = taken_apart()
    change_result(members, half, fold=None)
    change_result(members, lambda data: data["split"].update(share=0.51), fold=None, rehash=False)
    with pytest.raises(UsbenchError, match="its protocol is not the digest of its settings"):
        verify(put_together(tmp_path / "few.zip", members))
