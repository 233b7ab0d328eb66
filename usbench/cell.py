"""One cell of the benchmark: task x method x fusion x fold x seed, and all that decides its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.files import digest_of
from usbench.results import PROTOCOL_VERSION, Result, load_result, run_folder

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.datasets.base import Task
    from usbench.datasets.splits import Split
    from usbench.datasets.store import Store
    from usbench.methods.contract import Fusion, Method
    from usbench.methods.fusions import Brought
    from usbench.plugins import Found


@dataclass(frozen=True)
class Cell:
    """All that decides the outcome of a cell, and where it goes.

    brought: the fusion, where a plugin brings it; None for early, hybrid and late. A cell pickles without
    its method, which the process that reads it loads for itself.
    """

    task: Task
    method: Method
    found: Found
    source_hash: str
    fusion: str
    fold: int
    seed: int
    config: Config
    kind: str
    store: Store
    split: Split
    merge_labels: str | None
    limit: int | None
    precision: str
    devices: int
    runs_dir: Path
    brought: Brought | None = None

    @property
    def the_fusion(self) -> str | Fusion:
        """The fusion as `usbench.fusion.build_model` takes it."""
        return self.fusion if self.brought is None else self.brought.fusion

    @property
    def protocol(self) -> str:
        """Digest of all that two rows must share to be compared."""
        config = self.config.as_dict()
        shared = {
            "version": PROTOCOL_VERSION,
            "task": self.task.name,
            "modalities": self.task.modality_names,
            "classes": self.task.class_names,
            "data": config["data"],
            "train": config["train"],
            "split": self.split.digest,
            "limit": self.limit,
            "precision": self.precision,
        }
        # Those of built-in tasks are fixed, and those of folders are all the same.
        if self.task.source is not None:
            shared["nsd_tolerance_mm"] = self.task.nsd_tolerance_mm
        return digest_of(shared)[:12]

    @property
    def key(self) -> str:
        """Digest of everything that changes the outcome."""
        return digest_of(
            {
                "protocol": self.protocol,
                "data": self.store.fingerprint,
                "method": self.method.name,
                "source": self.source_hash,
                "package": "" if self.found.origin == "built in" else self.found.version,
                "fusion": self.fusion,
                "fold": self.fold,
                "seed": self.seed,
                "config": self.config.as_dict(),
                "weights": self.method.weights(self.config.method),
                "devices": self.devices,
                **self._of_plugins(),
            }
        )

    def _of_plugins(self) -> dict[str, Any]:
        """What changes the outcome of a cell whose task or fusion a plugin brings; else nothing."""
        extra: dict[str, Any] = {}
        if self.brought is not None:
            extra["fusion_source"] = self.brought.source_hash
            extra["fusion_package"] = self.brought.found.version
        if self.task.source is not None:
            extra["words"] = [
                [modality.words for modality in self.task.modalities],
                [structure.words for structure in self.task.classes],
            ]
        return extra

    @property
    def folder(self) -> Path:
        return run_folder(
            self.runs_dir,
            self.task.name,
            self.kind,
            self.method.name,
            self.fusion,
            self.fold,
            self.seed,
            self.key,
        )

    def finished(self) -> Result | None:
        """The cell's result, if it was computed before; an edited one raises."""
        return load_result(self.folder) if (self.folder / "result.json").exists() else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "method": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, method=state["found"].load())
