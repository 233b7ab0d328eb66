"""The made-up patients of `own_task` as people keep them: folders of patients, nnU-Net, BIDS, a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kit.own_task import CASES, save, volumes

TASK = """
name: own
folder: patients
modalities:
  t1: "{case}/{case}_t1.nii.gz"
  t2: "{case}/{case}_t2.nii.gz"
mask: "{case}/{case}_seg.nii.gz"
classes: {liver: 1, lesion: 2}
"""


def patients(folder: Path, cases: Iterable[str] = CASES, form: str = "{case}/{case}_{part}") -> Path:
    """A file a scan; `form` is its path without the ending, the mask's part is "seg"."""
    for number, case in enumerate(cases):
        arrays, affine = volumes(number)
        for name, array in arrays.items():
            part = form.format(case=case, part="seg" if name == "mask" else name)
            save(folder / f"{part}.nii.gz", array, affine)
    return folder


def task_file(folder: Path, text: str = TASK, *pairs: tuple[str, str], name: str = "own.yaml") -> Path:
    """A task file with some of its text replaced."""
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def nnunet(folder: Path, cases: Iterable[str] = CASES, **said: Any) -> Path:
    """nnU-Net raw data of version 2, or with what dataset.json is `said` to hold."""
    cases = list(cases)
    for number, case in enumerate(cases):
        arrays, affine = volumes(number)
        save(folder / f"imagesTr/{case}_0000.nii.gz", arrays["t1"], affine)
        save(folder / f"imagesTr/{case}_0001.nii.gz", arrays["t2"], affine)
        save(folder / f"labelsTr/{case}.nii.gz", arrays["mask"], affine)
    usual = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1, "lesion": 2},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(said or usual))
    return folder


def bids(folder: Path, session: str = "") -> Path:
    """A BIDS data set of sub-01 to sub-10, masks among the derivatives, with a column of sites."""
    lines = ["participant_id\tsite\tage"]
    for number, case in enumerate(CASES):
        arrays, affine = volumes(number)
        subject = f"sub-{case.removeprefix('patient-')}"
        inner, label = (f"{session}/anat", f"_{session}") if session else ("anat", "")
        for name, suffix in (("t1", "T1w"), ("t2", "T2w")):
            save(folder / subject / inner / f"{subject}{label}_{suffix}.nii.gz", arrays[name], affine)
        at = folder / "derivatives/manual" / subject / inner
        save(at / f"{subject}{label}_dseg.nii.gz", arrays["mask"], affine)
        lines.append(f"{subject}\t{'A' if number % 2 else 'B'}\tn/a")
    (folder / "dataset_description.json").write_text(
        json.dumps({"Name": "Made up", "License": "CC0", "BIDSVersion": "1.8.0"})
    )
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return folder


def table(folder: Path) -> Path:
    """A CSV file whose files have names that no pattern fits."""
    rows = []
    for number, case in enumerate(CASES):
        arrays, affine = volumes(number)
        row = {"case": case}
        for name, array in arrays.items():
            row[name] = f"{name}-files/{97 * (number + 1)}.nii.gz"
            save(folder / row[name], array, affine)
        rows.append({**row, "site": "AB"[number % 2]})
    with open(folder / "cases.csv", "w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "cases.csv"
