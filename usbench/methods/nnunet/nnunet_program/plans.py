"""Plans of nnU-Net and images prepared after them, each once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .data import few_processes, images_of, verify
from .shared import DATASET, Fault, digests_of, read_sealed, say, write_json, write_sealed

PREPARED = (".b2nd", "_seg.b2nd", ".pkl")
"""The ends of the files of a prepared case: images, mask, properties."""


def see_test_images(job: Mapping[str, Any], dataset: Mapping[str, Any], fingerprint: Path) -> None:
    """The grids of the test images enter the fingerprint, as where nnU-Net plans on all folds at once."""
    import numpy as np
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

    reader = recursive_find_reader_writer_by_name(dataset["overwrite_image_reader_writer"])()
    content = json.loads(fingerprint.read_text())
    content.update(spacings=[], shapes_after_crop=[])
    shares = []
    files = [case["images"] for case in dataset["dataset"].values()]
    for images in [*files, *(images_of(job, "imagesTs", case) for case in job["test"])]:
        data, properties = reader.read_images(images)
        cropped, _, _ = crop_to_nonzero(data, None)
        content["spacings"].append([float(mm) for mm in properties["spacing"]])
        content["shapes_after_crop"].append([int(size) for size in cropped.shape[1:]])
        shares.append(float(np.prod(cropped.shape[1:]) / np.prod(data.shape[1:])))
    content["median_relative_size_after_cropping"] = float(np.median(shares))
    write_json(fingerprint, content)


def planner_of(job: Mapping[str, Any]) -> Any:
    """nnU-Net's planner, to which an image is no larger than `patch` where that is given."""
    import numpy as np
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners

    base = {
        "default": ExperimentPlanner,
        "resenc-m": residual_encoder_unet_planners.nnUNetPlannerResEncM,
        "resenc-l": residual_encoder_unet_planners.nnUNetPlannerResEncL,
    }[job["planner"]]

    class Planner(base):  # type: ignore[misc, valid-type]
        """The chosen planner, with a smaller patch or another batch."""

        def get_plans_for_configuration(
            self,
            spacing: Any,
            median_shape: Any,
            data_identifier: Any,
            approximate_n_voxels_dataset: Any,
            _cache: Any,
        ) -> Any:
            """As nnU-Net's; patch, stages and batch follow from the size of images that it is told."""
            seen = np.minimum(median_shape, job["patch"]) if job["patch"] else median_shape
            plan = super().get_plans_for_configuration(
                spacing, seen, data_identifier, approximate_n_voxels_dataset, _cache
            )
            plan["median_image_size_in_voxels"] = median_shape
            if job["batch"]:
                plan["batch_size"] = job["batch"]
            return plan

    planner = Planner(DATASET)
    if job["plan_on"] == "all":
        planner.dataset_json["numTraining"] += len(job["test"])
    return planner


def make_plans(job: Mapping[str, Any], folder: Path, workers: int) -> dict[str, Any]:
    """The plans: those of an earlier start where they are whole.

    nnU-Net 2.7.0 plans on what dataset.json lists and on nothing else, that is on the training cases; images
    in `imagesTs` are never seen. Who trains its five folds lists all cases, and so plans on all.
    """
    import nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor as extractor

    done = Path(job["work"]) / "planned.json"
    if (kept := read_sealed(done, "nnU-Net plans again")) is not None:
        return dict(kept)
    say("stage", text="nnU-Net checks the data and plans")
    dataset = json.loads((folder / "dataset.json").read_text())
    verify(folder, dataset, workers)
    with few_processes(extractor, workers):
        extractor.DatasetFingerprintExtractor(DATASET, workers).run(overwrite_existing=True)
    fingerprint = Path(job["work"]) / "preprocessed" / DATASET / "dataset_fingerprint.json"
    if job["plan_on"] == "all":
        see_test_images(job, dataset, fingerprint)
    planner = planner_of(job)
    plans = planner.plan_experiment()
    if job["configuration"] not in plans["configurations"]:
        raise Fault(
            f"nnU-Net plans no {job['configuration']} for this data, whose images are one slice deep; "
            f"it has {', '.join(plans['configurations'])}: --set method.configuration=2d"
        )
    # Read back, as training does: numbers of JSON.
    plans = json.loads((fingerprint.parent / f"{planner.plans_identifier}.json").read_text())
    write_sealed(done, plans)
    return dict(plans)


def pieces(values: Any, patch: Any) -> tuple[list[int], list[int]]:
    """How Blosc2 is to cut an array [C, Z, Y, X] for patches: (chunks, blocks), as nnU-Net says.

    Of small patches nnU-Net makes blocks larger than their chunks, which Blosc2 refuses.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    blocks, chunks = nnUNetDatasetBlosc2.comp_blosc2_params(values.shape, tuple(patch), values.itemsize)
    return [int(c) for c in chunks], [int(min(b, c)) for b, c in zip(blocks, chunks)]  # noqa: B905


def prepare_case(work: str, plans: dict[str, Any], configuration: str, case: str) -> str:
    """A training case, cropped, normalised and resampled by nnU-Net; gives its name. A worker may call it."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    chosen = manager.get_configuration(configuration)
    folder = Path(work) / "preprocessed" / DATASET / chosen.data_identifier
    partial = Path(work) / "preprocessed" / "partial" / case
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    dataset = json.loads((Path(work) / "raw" / DATASET / "dataset.json").read_text())
    files = dataset["dataset"][case]
    data, seg, properties = DefaultPreprocessor(verbose=False).run_case(
        files["images"], files["label"], manager, chosen, dataset
    )
    data, seg = data.astype("float32", copy=False), seg.astype("int16", copy=False)
    chunks, blocks = pieces(data, chosen.patch_size)
    chunks_seg, blocks_seg = pieces(seg, chosen.patch_size)
    nnUNetDatasetBlosc2.save_case(
        data,
        seg,
        properties,
        str(partial / case),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{case}{ending}" for ending in PREPARED]
    digests = digests_of([partial / file.name for file in files])
    for file in files:
        os.replace(partial / file.name, file)
    partial.rmdir()
    # This comes last: with it the case is whole.
    notes = notes_of(folder, case)
    notes.parent.mkdir(exist_ok=True)
    write_sealed(notes, digests)
    return case


def notes_of(folder: Path, case: str) -> Path:
    """Where the digests of a prepared case are: beside its folder, where nnU-Net suffers no other files."""
    return folder.with_name(f"{folder.name}_digests") / f"{case}.json"


def is_prepared(folder: Path, case: str) -> bool:
    """Whether an earlier start prepared a case, and its files are still what was written."""
    again = "the case is prepared again"
    if (wanted := read_sealed(notes_of(folder, case), again)) is None:
        return False
    if digests_of([folder / f"{case}{ending}" for ending in PREPARED]) == wanted:
        return True
    say("stage", text=f"what was prepared of {case} is damaged (its digest does not fit): {again}")
    return False


def prepare(job: Mapping[str, Any], plans: dict[str, Any], workers: int) -> None:
    """Every training case that no earlier start has prepared."""
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial
    from multiprocessing import get_context

    identifier = plans["configurations"][job["configuration"]]["data_identifier"]
    folder = Path(job["work"]) / "preprocessed" / DATASET / identifier
    cases = [f"case{number:05d}" for number in range(len(job["train"]))]
    waiting = [case for case in cases if not is_prepared(folder, case)]
    one = partial(prepare_case, job["work"], plans, job["configuration"])
    if workers == 1:
        done: Iterator[str] = map(one, waiting)
        for number, _ in enumerate(done, len(cases) - len(waiting) + 1):
            say("case", text="nnU-Net prepares training cases", number=number, total=len(cases))
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for number, _ in enumerate(pool.map(one, waiting), len(cases) - len(waiting) + 1):
            say("case", text="nnU-Net prepares training cases", number=number, total=len(cases))
