"""Sound data, and ways to spoil it, with what the one line of the error must name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np

from kit.synthetic import cut, save_nifti, write_chaos_case, write_msd


def sound(folder: Path) -> SimpleNamespace:
    """Small sound data in both layouts, to be damaged."""
    write_msd(folder / "msd" / "Task05_Prostate", cases=("prostate_00", "prostate_01", "prostate_02"))
    for case_id in ("1", "2", "3"):
        write_chaos_case(folder / "chaos", case_id)
    msd = folder / "msd" / "Task05_Prostate"
    return SimpleNamespace(
        root=folder,
        msd=msd,
        image=msd / "imagesTr" / "prostate_01.nii.gz",
        label=msd / "labelsTr" / "prostate_01.nii.gz",
        listing=msd / "dataset.json",
        case=folder / "chaos" / "Train_Sets" / "MR" / "2",
        runs=folder / "runs",
    )


def on_prostate(place: SimpleNamespace, *more: object) -> tuple[object, ...]:
    words = ("run", "--task", "msd-prostate", "--data-dir", place.root / "msd", "--fusion", "early")
    return (*words, "--preset", "smoke", "--set", "train.epochs=1", "--runs-dir", place.runs, *more)


def on_chaos(place: SimpleNamespace, *more: object) -> tuple[object, ...]:
    words = ("run", "--task", "chaos", "--data-dir", place.root / "chaos", "--fusion", "early")
    return (*words, "--preset", "smoke", "--set", "train.epochs=1", "--runs-dir", place.runs, *more)


def rewrite(file: Path, change: Callable[[np.ndarray], Any]) -> None:
    """Change a NIfTI file's array in place."""
    image = nibabel.load(file)
    array = np.array(image.dataobj)
    changed = change(array)
    save_nifti(file, array if changed is None else changed, image.affine)


def listing(place: SimpleNamespace, **changes: Any) -> None:
    place.listing.write_text(json.dumps({**json.loads(place.listing.read_text()), **changes}))


def first(files: Iterable[Path]) -> Path:
    return sorted(files)[0]


# Each fault spoils sound data and returns the command and the words that its error must hold.
def truncated_nifti(p: SimpleNamespace) -> Any:
    cut(p.image, 0.5)
    return on_prostate(p), ("imagesTr/prostate_01.nii.gz",)


def truncated_mask(p: SimpleNamespace) -> Any:
    cut(p.label, 0.5)
    return on_prostate(p), ("labelsTr/prostate_01.nii.gz",)


def truncated_dicom(p: SimpleNamespace) -> Any:
    file = first((p.case / "T2SPIR" / "DICOM_anon").glob("*.dcm"))
    cut(file, 0.4)
    return on_chaos(p), (file.name,)


def not_a_dicom(p: SimpleNamespace) -> Any:
    file = first((p.case / "T1DUAL" / "DICOM_anon" / "InPhase").glob("*.dcm"))
    file.write_text("hello")
    return on_chaos(p), (file.name,)


def missing_slice(p: SimpleNamespace) -> Any:
    sorted((p.case / "T2SPIR" / "DICOM_anon").glob("*.dcm"))[4].unlink()
    return on_chaos(p), ("MR/2/T2SPIR",)


def missing_png(p: SimpleNamespace) -> Any:
    sorted((p.case / "T1DUAL" / "Ground").glob("*.png"))[3].unlink()
    return on_chaos(p), ("MR/2/T1DUAL/Ground",)


def missing_modality_chaos(p: SimpleNamespace) -> Any:
    shutil.rmtree(p.case / "T2SPIR")
    return on_chaos(p), ("t2-spir", "--modalities")


def missing_modality_msd(p: SimpleNamespace) -> Any:
    listing(p, modality={"0": "T2", "1": "DWI"})
    return on_prostate(p), ("dataset.json", "adc")


def mask_on_another_grid(p: SimpleNamespace) -> Any:
    rewrite(p.label, lambda a: a[:-1])
    return on_prostate(p), ("labelsTr/prostate_01.nii.gz", "grid")


def unknown_label(p: SimpleNamespace) -> Any:
    rewrite(p.label, lambda a: a.__setitem__((0, 0, 0), 7))
    return on_prostate(p), ("labelsTr/prostate_01.nii.gz", "7")


def unknown_grey_value(p: SimpleNamespace) -> Any:
    from PIL import Image

    file = first((p.case / "T1DUAL" / "Ground").glob("*.png"))
    array = np.array(Image.open(file))
    array[0, 0] = 99
    Image.fromarray(array).save(file)
    return on_chaos(p), (file.name, "99")


def nan_image(p: SimpleNamespace) -> Any:
    rewrite(
        p.image,
        lambda a: a.astype(np.float32) * np.where(np.arange(len(a)) == 0, np.nan, 1)[:, None, None, None],
    )
    return on_prostate(p), ("imagesTr/prostate_01.nii.gz", "NaN")


def constant_image(p: SimpleNamespace) -> Any:
    rewrite(p.image, lambda a: np.full_like(a, 3))
    return on_prostate(p), ("imagesTr/prostate_01.nii.gz", "3")


def empty_folder(p: SimpleNamespace) -> Any:
    (p.root / "empty").mkdir()
    return ("run", "--task", "chaos", "--data-dir", p.root / "empty"), (
        "empty",
        "usbench data download chaos",
    )


def wrong_layout(p: SimpleNamespace) -> Any:
    (p.root / "images").mkdir()
    return ("run", "--task-dir", p.root / "images"), ("images", "dataset.json")


def absent_folder(p: SimpleNamespace) -> Any:
    return ("run", "--task-dir", p.root / "nowhere"), ("nowhere",)


def malformed_listing(p: SimpleNamespace) -> Any:
    p.listing.write_text('{"modality": {"0": "T2"')
    return on_prostate(p), ("dataset.json", "JSON")


def listing_without_modalities(p: SimpleNamespace) -> Any:
    content = json.loads(p.listing.read_text())
    del content["modality"]
    p.listing.write_text(json.dumps(content))
    return on_prostate(p), ("dataset.json", "modality")


def listing_of_absent_files(p: SimpleNamespace) -> Any:
    p.image.unlink()
    return on_prostate(p), ("prostate_01.nii.gz",)
