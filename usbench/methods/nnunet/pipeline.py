"""From a `PipelineFolder` to masks by nnU-Net: writes the job, runs the program, reads what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usbench import Pipeline, PipelineFolder, PipelineMasks, PipelineWatcher, UsbenchError
from usbench.methods.nnunet.nnunet_program import main as program
from usbench.methods.nnunet.settings import check_settings, label
from usbench.tools import PipelineWords, interpreter, read_json, require_packages, run_program

ARGUMENTS = (
    "-c",
    "import sys; sys.path[:] = [place for place in sys.path if place] + [sys.argv.pop(1)]; "
    "from nnunet_program.main import main; main()",
    str(Path(program.__file__).parents[1]),
)
"""Of the interpreter that runs the program; the file of the job comes last."""

VERSIONS = {"nnunetv2": "2.7.0", "dynamic-network-architectures": "0.4.2"}
"""Those that the program was written for."""


def check(settings: Mapping[str, Any]) -> None:
    """Raises `UsbenchError` where a setting cannot work or nnU-Net is not installed."""
    check_settings(settings)
    python = interpreter(settings)
    # The interpreter that runs usbench gets them by its extra.
    require_packages("nnunet", python, VERSIONS, "" if settings["python"] else "'usbench[nnunet]'")


def job_of(folder: PipelineFolder, settings: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What the program is told."""
    mirror = {"task": folder.mirror, "all": True, "none": False}[settings["mirror"]]
    return {
        "raw": str(folder.raw.resolve()),
        "work": str(folder.work.resolve()),
        "masks": str(folder.masks.resolve()),
        "train": list(folder.train),
        "test": list(folder.test),
        "channels": len(folder.modalities),
        "seed": folder.seed,
        "device": device,
        **{key: value for key, value in settings.items() if key not in ("python", "silent_minutes")},
        "mirror": mirror,
    }


def train_and_predict(
    folder: PipelineFolder, settings: Mapping[str, Any], device: str, watcher: PipelineWatcher
) -> PipelineMasks:
    """Trains nnU-Net on all training cases of the folder and predicts its test cases.

    Args:
        folder: The fold; what an earlier start left in `folder.work` is gone on with.
        settings: Those of the method.
        device: "cpu" or "cuda".
        watcher: Is told of stages and epochs.

    Raises:
        UsbenchError: Where nnU-Net refuses the data or fails; the line names the log.
    """
    folder.work.mkdir(parents=True, exist_ok=True)
    folder.masks.mkdir(parents=True, exist_ok=True)
    job = folder.work / "job.json"
    job.write_text(json.dumps(job_of(folder, settings, device), indent=1))
    run_program(
        [interpreter(settings), *ARGUMENTS, job.resolve()],
        log=folder.log,
        on_line=PipelineWords("nnU-Net", watcher),
        folder=folder.work,
        silent_minutes=settings["silent_minutes"],
    )
    outcome = folder.work / "outcome.json"
    return _masks(
        folder, settings, read_json(outcome, "what nnU-Net left", "remove that folder and run again")
    )


def _masks(folder: PipelineFolder, settings: Mapping[str, Any], outcome: Mapping[str, Any]) -> PipelineMasks:
    missing = [case for case in folder.test if not (folder.masks / f"{case}.nii.gz").exists()]
    if missing:
        raise UsbenchError(f"nnU-Net left no mask of {', '.join(missing)}; see {folder.log}")
    keys = ("parameters", "trainable", "epochs", "train_seconds", "predict_seconds", "peak_memory_mb")
    return PipelineMasks(
        masks={case: folder.masks / f"{case}.nii.gz" for case in folder.test},
        gflops_per_slice=outcome["gflops_per_slice"],
        remarks=tuple(remarks(settings, outcome)),
        versions=outcome["versions"],
        **{key: outcome[key] for key in keys},
    )


def remarks(settings: Mapping[str, Any], outcome: Mapping[str, Any]) -> list[str]:
    """What nnU-Net made of the data, and what of it was not nnU-Net's own choice."""
    patch = "x".join(map(str, outcome["patch"]))
    lines = [
        f"nnU-Net planned {outcome['stages']} stages, patches of {patch}, batches of {outcome['batch']}; "
        f"normalisation {', '.join(outcome['normalisation'])}",
        f"trained on all training cases (fold 'all'), final checkpoint; planning and preparing took "
        f"{outcome['prepare_seconds']:.0f} s",
        "mirrored in training and at test time"
        if outcome["mirrored"]
        else "nothing mirrored, in training or at test time",
    ]
    if outcome.get("lost"):
        lines.append(
            "times and memory of earlier starts are lost (their notes were damaged): they are too low"
        )
    if settings["patch"]:
        lines.append(
            f"method.patch={settings['patch']}: nnU-Net planned as if no image were larger, so a smaller "
            "patch with fewer stages"
        )
    if settings["batch"]:
        lines.append(f"method.batch={settings['batch']} in place of the planned batch")
    if settings["plan_on"] == "all":
        lines.append("the plans also saw the grids of the test images (not their voxels, nor a mask)")
    if outcome["gflops_per_slice"] is not None:
        lines.append(f"GFLOPs are of one patch of {patch}, without overlap and mirrored copies")
    return lines


PIPELINE = Pipeline(
    train_and_predict=train_and_predict,
    check=check,
    label=label,
    why_not={"hybrid": "nnU-Net plans one network with one encoder; modalities are its input channels"},
)
