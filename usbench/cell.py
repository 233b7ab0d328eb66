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
    from usbench.methods.contract import Method
    from usbench.methods.registry import Found


@dataclass(frozen=True)
class Cell:
    """All that decides the outcome of a cell, and where it goes.

    It pickles without its method, which the process that reads it loads for itself.
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
            }
        )

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
