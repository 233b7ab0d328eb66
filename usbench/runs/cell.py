"""One cell of the benchmark: task x method x fusion x fold x seed, and all that decides its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.results.digests import key_of, of_plugins, protocol_of
from usbench.results.io import load_result, run_folder
from usbench.results.result import Result

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.contracts.data import Task
    from usbench.contracts.few import FewPatients
    from usbench.contracts.method import Method
    from usbench.contracts.names import OutsideKind
    from usbench.contracts.request import Request
    from usbench.datasets.splits import Split
    from usbench.datasets.store import Store
    from usbench.fusions.registry import FoundFusion
    from usbench.plugins.search import Found


@dataclass(frozen=True)
class Cell:
    """All that decides the outcome of a cell, and where it goes.

    A cell pickles without its method and its fusion, which the process that reads it loads for itself.

    Attributes:
        request: asks for this cell alone, with the preset and the device that were chosen.
        task: the task, with the modalities and classes of this run.
        method: the method.
        found: where the method was found.
        source_hash: digest of the method's code.
        found_fusion: the fusion, and where it was found.
        fold: the test fold, from 0.
        config: the effective settings.
        kind: of the data: "real", "sample" or "phantom".
        store: the prepared cases.
        split: their folds.
        root: the folder of the raw data; only an outside pipeline is given scans from there.
        few: what part of the training patients it is trained on, None for all.
        outside: "pipeline" or "masks" where another program makes its masks, else None.
    """

    request: Request
    task: Task
    method: Method
    found: Found
    source_hash: str
    found_fusion: FoundFusion
    fold: int
    config: Config
    kind: str
    store: Store
    split: Split
    root: Path | None = None
    few: FewPatients | None = None
    outside: OutsideKind | None = None

    @property
    def stated_config(self) -> dict[str, dict[str, Any]]:
        """The settings as its result states them: those of data and training are none of outside masks'."""
        stated = self.config.as_dict()
        return stated if self.outside is None else {**stated, "data": {}, "train": {}}

    @property
    def train_ids(self) -> tuple[str, ...]:
        """The patients that the cell is trained on, in natural order."""
        from usbench.datasets.splits import subset_of

        patients = self.split.train(self.fold)
        return patients if self.few is None else subset_of(patients, self.few.of(len(patients)), self.seed)

    @property
    def fusion(self) -> str:
        """The name of the fusion."""
        return self.found_fusion.name

    @property
    def seed(self) -> int:
        """The seed of every random draw."""
        return self.request.seed

    @property
    def merge_labels(self) -> str | None:
        """The name of the one foreground class that all were merged into, None where they were not."""
        return self.request.merge_labels

    @property
    def limit(self) -> int | None:
        """How many cases are used, None for all."""
        return self.request.limit

    @property
    def precision(self) -> str:
        """The precision of training: "32", "bf16" or "16"."""
        return self.request.precision

    @property
    def devices(self) -> int:
        """How many devices train together, over all nodes."""
        return self.request.all_devices

    @property
    def runs_dir(self) -> Path:
        """The folder below which results are written."""
        return self.request.runs_dir

    @property
    def protocol(self) -> str:
        """Digest of all that two rows must share to be compared."""
        return protocol_of(
            self.task.name,
            self.task.modality_names,
            self.task.class_names,
            self.stated_config,
            self.split.digest,
            self.limit,
            self.precision,
            # Those of built-in tasks are fixed, and those of folders are all the same.
            None if self.task.found is None else self.task.nsd_tolerance_mm,
            regions=self.task.thresholds,
            definition=self.task.definition,
            few=None if self.few is None else self.few.facts,
            outside=self.outside is not None,
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
            self.stated_config,
            self.devices,
            self._of_plugins(),
        )

    def _of_plugins(self) -> dict[str, Any]:
        one = self.found_fusion
        fusion = None
        if one.found.origin != "built in":
            fusion = {"source_hash": one.source_hash, "version": one.found.version}
        words = None if self.task.found is None else self.task.words
        return of_plugins(fusion, words, self.task.patterns)

    @property
    def folder(self) -> Path:
        """The folder of the cell's result."""
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
        """The cell's result if it was computed before, else None.

        Raises:
            UsbenchError: where the result cannot be read or was edited.
        """
        return load_result(self.folder) if (self.folder / "result.json").exists() else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "method": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, method=state["found"].load())
