"""The data set as nnU-Net reads it, and its integrity check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .shared import DATASET, ENDING, Fault, write_json


def images_of(job: Mapping[str, Any], folder: str, case: str) -> list[str]:
    """The files of a case, one a modality. Raises `Fault` where one is missing."""
    files = [str(Path(job["raw"]) / folder / f"{case}_{k:04d}{ENDING}") for k in range(job["channels"])]
    for file in files:
        if not Path(file).is_file():
            raise Fault(f"{file}: not there; every case has a file for each modality")
    return files


def channel_name(modality: str) -> str:
    """What nnU-Net is told a modality is called, since it chooses the normalisation by the name.

    "CT" stays: HU are clipped and scaled by the foreground of all cases. All others are normalised image by
    image (z-score), whatever they are called.
    """
    return "CT" if modality.strip().casefold() == "ct" else f"modality {modality}"


def reader_of(files: list[str]) -> str:
    """nnU-Net's reader that can open all of them: ITK, which refuses a sheared grid, or else nibabel."""
    import SimpleITK

    for file in files:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(file)
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return "NibabelIO"
    return "SimpleITKIO"


def write_dataset(job: Mapping[str, Any]) -> Path:
    """nnU-Net's data set: a dataset.json that names the files where they lie.

    Cases get names of our own, since nnU-Net forgets one whose id ends in "_seg". Returns its folder.
    """
    given = json.loads((Path(job["raw"]) / "dataset.json").read_text())
    cases = {
        f"case{number:05d}": {
            "images": images_of(job, "imagesTr", case),
            "label": str(Path(job["raw"]) / "labelsTr" / f"{case}{ENDING}"),
        }
        for number, case in enumerate(job["train"])
    }
    tests = [file for case in job["test"] for file in images_of(job, "imagesTs", case)]
    content = {
        "channel_names": {key: channel_name(name) for key, name in given["channel_names"].items()},
        "labels": given["labels"],
        "numTraining": len(cases),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": reader_of(
            [file for case in cases.values() for file in case["images"]] + tests
        ),
        "dataset": cases,
    }
    if "regions_class_order" in given:
        content["regions_class_order"] = given["regions_class_order"]
    folder = Path(job["work"]) / "raw" / DATASET
    folder.mkdir(exist_ok=True)
    write_json(folder / "dataset.json", content)
    return folder


@contextmanager
def few_processes(module: Any, workers: int) -> Iterator[None]:
    """With one worker, threads in place of the processes that a module of nnU-Net starts.

    Each of those would import torch anew, which takes longer than what it is asked to do.
    """
    from multiprocessing.pool import ThreadPool

    kept = module.multiprocessing
    if workers == 1:
        module.multiprocessing = SimpleNamespace(get_context=lambda _: SimpleNamespace(Pool=ThreadPool))
    try:
        yield
    finally:
        module.multiprocessing = kept


def verify(folder: Path, dataset: Mapping[str, Any], workers: int) -> None:
    """nnU-Net's integrity check, and that anything is to be learned at all. Raises `Fault`."""
    import nnunetv2.experiment_planning.verify_dataset_integrity as integrity
    import SimpleITK

    try:
        with few_processes(integrity, workers):
            integrity.verify_dataset_integrity(str(folder), workers)
    except (AssertionError, FileNotFoundError, RuntimeError) as problem:
        raise Fault(f"nnU-Net's integrity check: {' '.join(str(problem).split())}") from problem
    labels = [case["label"] for case in dataset["dataset"].values()]
    if not any(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(label)).any() for label in labels):
        raise Fault("no training case has a foreground voxel; nnU-Net has nothing to plan on")
