"""One cell of the benchmark: task x method x fusion x fold x seed, and all that decides its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def protocol_of(
    task: str,
    modalities: Sequence[str],
    classes: Sequence[str],
    config: Mapping[str, Any],
    split_digest: str,
    limit: int | None,
    precision: str,
) -> str:
    """Digest of all that two rows must share to be compared; config: as in result.json."""
    shared = {
        "version": PROTOCOL_VERSION,
        "task": task,
        "modalities": modalities,
        "classes": classes,
        "data": config["data"],
        "train": config["train"],
        "split": split_digest,
        "limit": limit,
        "precision": precision,
    }
    return digest_of(shared)[:12]


def key_of(
    protocol: str,
    fingerprint: str,
    method: Mapping[str, Any],
    fusion: str,
    fold: int,
    seed: int,
    config: Mapping[str, Any],
    devices: int,
) -> str:
    """Digest of everything that changes the outcome of a cell; method, config: as in result.json."""
    return digest_of(
        {
            "protocol": protocol,
            "data": fingerprint,
            "method": method["name"],
            "source": method["source_hash"],
            "package": "" if method["origin"] == "built in" else method["version"],
            "fusion": fusion,
            "fold": fold,
            "seed": seed,
            "config": config,
            "weights": method["weights"],
            "devices": devices,
        }
    )


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
        return protocol_of(
            self.task.name,
            self.task.modality_names,
            self.task.class_names,
            self.config.as_dict(),
            self.split.digest,
            self.limit,
            self.precision,
        )

    @property
    def key(self) -> str:
        """Digest of everything that changes the outcome."""
        return key_of(
            self.protocol,
            self.store.fingerprint,
            {
                "name": self.method.name,
                "origin": self.found.origin,
                "version": self.found.version,
                "source_hash": self.source_hash,
                "weights": self.method.weights(self.config.method),
            },
            self.fusion,
            self.fold,
            self.seed,
            self.config.as_dict(),
            self.devices,
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
