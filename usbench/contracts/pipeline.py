"""What an outside pipeline is: a program that trains and predicts from a folder, with a recipe of its own.

It brings its own preparation, augmentation and training. From usbench it has the folds, and its masks are
scored as those of any method. It is given training cases with their masks and test cases without: no test
mask is in the folder, nor anything that leads to one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PipelineFolder:
    """Training and test cases of one fold, in the raw layout of nnU-Net.

    `raw` holds `imagesTr/CASE_0000.nii.gz` (one file a modality, numbered in the order of `modalities`),
    `labelsTr/CASE.nii.gz` (uint8, 0 is background), `imagesTs/CASE_0000.nii.gz` and `dataset.json`. All scans
    of a case lie on one grid, in mm.

    Attributes:
        raw: The data set.
        work: A folder of the pipeline's own. It stays between a kill and the next start of the same cell and
            is removed when the cell is finished: checkpoints belong here.
        masks: Where the pipeline leaves its masks, `CASE.nii.gz` for each test case, with the values of
            `labelsTr` on the grid of the test images.
        log: A text file of the run's folder that the output of programs is appended to.
        modalities: Their names. Under late fusion one: the pipeline runs once for each.
        classes: The value in the masks for each foreground class, in order. Of regions, that of each region
            alone; what values combine is in dataset.json.
        train: Ids of the training cases.
        test: Ids of the test cases.
        mirror: Whether left and right of the patient may be exchanged without changing a class.
        seed: Of every random draw that the pipeline lets one choose.
    """

    raw: Path
    work: Path
    masks: Path
    log: Path
    modalities: tuple[str, ...]
    classes: Mapping[str, int]
    train: tuple[str, ...]
    test: tuple[str, ...]
    mirror: bool
    seed: int


@dataclass(frozen=True)
class PipelineMasks:
    """What a pipeline leaves.

    Attributes:
        masks: By test case the file of its mask.
        parameters: Of what predicts, all networks together; None where it cannot be known.
        trainable: How many of them were trained; None as above.
        epochs: How many were trained, 0 where there is no such thing.
        train_seconds: Of training, over all starts of the cell; None for the time that the call took.
        predict_seconds: Of predicting the test cases; None where it is not known.
        peak_memory_mb: The program's, as it measured it; None where it is not known.
        gflops_per_slice: Forward GFLOPs (2 x multiply-adds) a slice; None where it is not known.
        remarks: What a reader of the result should know, a line each.
        versions: Of the packages that it ran with, by name.
    """

    masks: Mapping[str, Path]
    parameters: int | None = None
    trainable: int | None = None
    epochs: int = 0
    train_seconds: float | None = None
    predict_seconds: float | None = None
    peak_memory_mb: float | None = None
    gflops_per_slice: float | None = None
    remarks: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


class PipelineWatcher:
    """Through which a pipeline says how far it is; usbench gives one to `train_and_predict`."""

    def on_start(self, epochs: int) -> None:
        """Training begins.

        Args:
            epochs: How many there are at most.
        """

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is finished.

        Args:
            row: Its numbers: `epoch` (from 1), and where they are known `loss`, `lr` and `seconds`.
        """

    def say(self, text: str) -> None:
        """A line about what goes on, for the terminal and the log.

        Args:
            text: The line.
        """


@dataclass(frozen=True)
class Pipeline:
    """A program that trains and predicts from a folder.

    Attributes:
        train_and_predict: `(folder, settings, device, watcher) -> PipelineMasks`: a `PipelineFolder`, the
            settings of the method by name, "cpu" or "cuda", and a `PipelineWatcher`. It raises `UsbenchError`
            for what a user can mend. `usbench.tools.run_program` starts a program, keeps its output in the
            log, and ends it with the run.
        check: `(settings) -> None`, called before anything is written; raises `UsbenchError` with one line
            where the program is not installed or the settings cannot work.
        label: `(settings) -> str`, what the row is called, such as "nnU-Net 2d (20 epochs)"; None for the
            method's name.
        why_not: By fusion that it cannot run under, the reason in a sentence.
    """

    train_and_predict: Callable[[PipelineFolder, Mapping[str, Any], str, PipelineWatcher], PipelineMasks]
    check: Callable[[Mapping[str, Any]], None] | None = None
    label: Callable[[Mapping[str, Any]], str] | None = None
    why_not: Mapping[str, str] = field(default_factory=dict)
