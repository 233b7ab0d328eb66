"""How far a cell is, written beside its lock for whoever looks from another shell or machine."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from usbench.contracts.watcher import CellFacts, Watcher
from usbench.errors import UsbenchError
from usbench.results.running import BEAT, PROGRESS, Progress
from usbench.storage.files import write_text

_QUICKEST = 1.0  # seconds between two writes at least: an epoch may take a hundredth of that


class ProgressFile(Watcher):
    """Writes `usbench.results.running.Progress` while a cell is computed, and removes it in the end.

    A thread of its own writes: training waits for no disk, and a long epoch is no silence. That the file
    cannot be written harms no run.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seconds: list[float] = []

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        now = time.time()
        self._path = facts.folder / PROGRESS
        self._now = Progress(
            platform.node(),
            os.getpid(),
            now,
            now,
            epochs=epochs,
            cases=len(facts.test),
            title=facts.title,
            job=_job(),
        )
        self._write(self._now)
        self._thread = threading.Thread(target=self._work, name="usbench progress", daemon=True)
        self._thread.start()

    def on_training(self, history: Sequence[Mapping[str, float]]) -> None:
        self._now = replace(self._now, stage="training", epoch=len(history))
        for row in history:
            self.on_epoch(row)

    def on_epoch(self, row: Mapping[str, float]) -> None:
        self._seconds.append(row["seconds"])
        epoch, epochs = int(row["epoch"]), self._now.epochs
        left = sum(self._seconds) / len(self._seconds) * (epochs - epoch) if epoch <= epochs else math.nan
        self._now = replace(
            self._now, epoch=epoch, loss=_known(row["loss"]), left=_known(left), updated=time.time()
        )

    def on_case(self, case_id: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        self._now = replace(self._now, stage="scoring", case=self._now.case + 1, left=None)

    def on_end(self, error: BaseException | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _work(self) -> None:
        written, when = self._now, time.monotonic()
        while not self._stop.wait(_QUICKEST):
            now = self._now
            if now is not written or time.monotonic() - when >= BEAT:
                self._write(now)
                written, when = now, time.monotonic()

    def _write(self, now: Progress) -> None:
        # What is left counts from the epoch, not from the beat.
        told = replace(now, updated=time.time(), left=now.seconds_left())
        # It decides nothing, so no write waits for the disk.
        with contextlib.suppress(OSError, UsbenchError):
            write_text(self._path, json.dumps(asdict(told)) + "\n", durable=False)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _job() -> str:
    """The job of Slurm that this process is, as its commands name it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
