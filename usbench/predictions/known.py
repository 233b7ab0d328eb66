"""Whether a patient to be predicted was among those that a network was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from usbench.datasets.find import find_store
from usbench.datasets.patients.case import PatientCase
from usbench.datasets.store import Store
from usbench.runs.network import TrainedNetwork


@dataclass
class TrainedOn:
    """The training patients of some runs, told by their prepared images where these are still here.

    Attributes:
        networks: Of the runs.
    """

    networks: Sequence[TrainedNetwork]
    _known: dict[int, dict[str, str] | None] = field(default_factory=dict, repr=False)

    def warning(self, prepared: Sequence[PatientCase]) -> str:
        """A line that says that a patient was trained on, or "".

        Args:
            prepared: The patient prepared for each network.
        """
        for index, (network, case) in enumerate(zip(self.networks, prepared, strict=True)):
            train = network.result.data["split"]["train"]
            if index not in self._known:
                self._known[index] = _middles(network)
            known = self._known[index]
            if known is None:
                if case.case_id in train:
                    return (
                        f"case {case.case_id}: {network.result.path} was trained on a patient of this name; "
                        "if it is the same one, its mask is no test result"
                    )
                continue
            same = known.get(_middle(case.images))
            if same is not None:
                named = "" if same == case.case_id else f" (there called {same})"
                return (
                    f"case {case.case_id}: {network.result.path} was trained on this patient{named}; "
                    "its mask is no test result"
                )
        return ""


def _middles(network: TrainedNetwork) -> dict[str, str] | None:
    """By digest of the middle slice, the training cases; None where the prepared data is not here."""
    store = _store_of(network)
    if store is None:
        return None
    train = network.result.data["split"]["train"]
    return {_middle(store.case(case_id).images): case_id for case_id in train}


def _store_of(network: TrainedNetwork) -> Store | None:
    data = network.result.data
    split = data["split"]
    return find_store(
        data["cell"]["task"],
        data["task"]["modalities"],
        data["task"]["classes"],
        data["config"]["data"],
        sorted({*split["train"], *split["test"]}),
        data["data"]["fingerprint"],
        regions=network.task.regions,
    )


def _middle(images: object) -> str:
    """A digest of the middle slice of images [Z, M, S, S]."""
    count = len(images)  # type: ignore[arg-type]
    middle = np.ascontiguousarray(images[count // 2])  # type: ignore[index]
    return hashlib.sha256(f"{count}".encode() + middle.tobytes()).hexdigest()
