"""From a `PipelineFolder` to masks by MIST: writes the job, runs the program, reads what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usbench import Pipeline, PipelineFolder, PipelineMasks, PipelineWatcher
from usbench.methods.mist.mist_program import main as program
from usbench.methods.mist.settings import check_settings, label
from usbench.tools import PipelineWords, interpreter, require_packages, run_program

VERSION = "2.3.0"
"""The version of mist-medical that the program was written for."""


def check(settings: Mapping[str, Any]) -> None:
    """Raises `UsbenchError` where a setting cannot work or MIST is not installed."""
    check_settings(settings)
    require_packages("mist", interpreter(settings), {"mist-medical": VERSION})


def job_of(folder: PipelineFolder, settings: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What the program is told.

    Modalities are MIST's "ct" where all of them are called CT: it then normalises by the intensities below
    the training masks; else "mr", each image by its own mean and deviation.
    """
    described = json.loads((folder.raw / "dataset.json").read_text())
    values = {0}
    for value in described["labels"].values():
        values.update(value if isinstance(value, list) else [value])
    return {
        "raw": str(folder.raw.resolve()),
        "masks": str(folder.masks.resolve()),
        "train": list(folder.train),
        "test": list(folder.test),
        "channels": len(folder.modalities),
        "labels": sorted(values),
        "modality": "ct" if all(name.strip().casefold() == "ct" for name in folder.modalities) else "mr",
        "mirror": folder.mirror,
        "seed": folder.seed,
        "device": device,
        **{key: value for key, value in settings.items() if key not in ("python", "silent_minutes")},
    }


def train_and_predict(
    folder: PipelineFolder, settings: Mapping[str, Any], device: str, watcher: PipelineWatcher
) -> PipelineMasks:
    """Trains MIST on all training cases of the folder and predicts its test cases.

    Args:
        folder: The fold; what an earlier start left in `folder.work` is gone on with.
        settings: Those of the method.
        device: "cpu" or "cuda".
        watcher: Is told of stages and epochs.

    Raises:
        UsbenchError: Where MIST refuses the data or fails; the line names the log.
    """
    folder.work.mkdir(parents=True, exist_ok=True)
    folder.masks.mkdir(parents=True, exist_ok=True)
    job = (folder.work / "job.json").resolve()
    job.write_text(json.dumps(job_of(folder, settings, device), indent=1))
    run_program(
        [interpreter(settings), str(Path(program.__file__).resolve()), str(job)],
        folder.log,
        PipelineWords("MIST", watcher, folder.log),
        folder=folder.work,
        silent_minutes=settings["silent_minutes"],
    )
    outcome = json.loads((folder.work / "outcome.json").read_text())
    keys = ("parameters", "trainable", "epochs", "train_seconds", "predict_seconds", "peak_memory_mb")
    return PipelineMasks(
        masks={case: folder.masks / f"{case}.nii.gz" for case in folder.test},
        remarks=tuple(remarks(outcome)),
        versions=outcome["versions"],
        **{key: outcome[key] for key in keys},
    )


def remarks(outcome: Mapping[str, Any]) -> list[str]:
    """What MIST made of the data, and what of it was not MIST's own choice."""
    patch, spacing = "x".join(map(str, outcome["patch"])), " x ".join(f"{mm:g}" for mm in outcome["spacing"])
    lines = [
        f"MIST: patches of {patch} at {spacing} mm; analysis and preparation took "
        f"{outcome['prepare_seconds'] or 0:.0f} s",
        "trained on all training cases; the weights of the last epoch predict, and the piece of a training "
        "case that MIST validates on chooses nothing",
        "mirrored along all axes in training" if outcome["mirrored"] else "nothing mirrored in training",
        "mirrored copies at test time" if outcome["tta"] else "no mirrored copies at test time",
    ]
    if outcome.get("lost"):
        lines.append(
            "times and memory of earlier starts are lost (their notes were damaged): they are too low"
        )
    if outcome["resumed"]:
        lines.append("gone on after a kill: MIST then draws its patches anew from the same seed")
    return lines


PIPELINE = Pipeline(train_and_predict, check=check, label=label)
