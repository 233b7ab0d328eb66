"""The files of a prediction: mask, picture, probabilities, DICOM, and the list of all."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.classes import class_maps, value_of
from usbench.contracts.data import Task
from usbench.datasets.preprocess import resize_masks
from usbench.errors import UsbenchError
from usbench.pages.figures import pick_slice, truth_figure
from usbench.predictions.dicom_seg import write_seg
from usbench.predictions.ensemble import Predicted
from usbench.runs.network import TrainedNetwork
from usbench.runs.predict import write_mask
from usbench.runtime.console import say
from usbench.storage.files import atomic_path, digest_of, sha256_file, write_json
from usbench.storage.texts import read_json

LIST = "predictions.json"
"""The list of what a folder holds."""

_SCHEMA = 1


@dataclass(frozen=True)
class Wanted:
    """What is written of each patient besides the mask and its picture.

    Attributes:
        probabilities: CASE_probabilities.nii.gz.
        dicom_seg: CASE.dcm.
    """

    probabilities: bool = False
    dicom_seg: bool = False

    def names(self, case_id: str) -> list[str]:
        """The files of a patient."""
        names = [f"{case_id}.nii.gz", f"{case_id}.png"]
        names += [f"{case_id}_probabilities.nii.gz"] if self.probabilities else []
        return names + ([f"{case_id}.dcm"] if self.dicom_seg else [])


class Listed:
    """`predictions.json` of a folder: which runs made it, and which patients are finished.

    Args:
        folder: That is written into.
        networks: Of the runs.
        overwrite: Whether what is there is replaced.

    Raises:
        UsbenchError: Where the folder holds predictions of other runs.
    """

    def __init__(self, folder: Path, networks: Sequence[TrainedNetwork], overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder, overwrite
        self.head = _head(networks)
        self.cases: dict[str, Any] = {}
        path = folder / LIST
        self.ours = path.is_file()
        if not self.ours:
            return
        found = read_json(path, "the list of predictions", "remove it, or choose another --out")
        cases = found.get("cases") if isinstance(found, dict) else None
        if not isinstance(cases, dict):
            raise UsbenchError(f"{path}: is no list of predictions; remove it, or choose another --out")
        stated = found.pop("digest", None)
        hashed = any("sha256" in entry for entry in cases.values() if isinstance(entry, dict))
        if (hashed or stated is not None) and stated != digest_of(found):  # Older lists have neither.
            raise UsbenchError(
                f"{path}: changed since it was written (its digest does not fit); remove it with the masks "
                "beside it, or choose another --out"
            )
        if any(found.get(key) != value for key, value in self.head.items()):
            if not overwrite:
                raise UsbenchError(
                    f"{path}: these are predictions of other runs ({_who(found)}); choose another --out, or "
                    "--overwrite"
                )
            cases = {}
        self.cases = cases

    def done(self, case_id: str, content: str, wanted: Wanted) -> bool:
        """Whether a patient is finished; files of somebody else, or of other scans, raise `UsbenchError`.

        Args:
            case_id: The patient.
            content: The digest of the scans.
            wanted: What is to be there.
        """
        if self.overwrite:
            return False
        names = wanted.names(case_id)
        entry = self.cases.get(case_id)
        there = [name for name in names if (self.folder / name).exists()]
        if entry is None:
            if there and not self.ours:
                raise UsbenchError(
                    f"{self.folder / there[0]}: is there already; choose another --out, or --overwrite"
                )
            return False
        if entry.get("content") != content:
            raise UsbenchError(
                f"{self.folder / names[0]}: was predicted from other scans of a patient called {case_id}; "
                "choose another --out or another --case, or --overwrite"
            )
        if len(there) < len(names) or not set(names) <= set(entry.get("files", ())):
            return False
        digests = entry.get("sha256", {})
        wrong = [name for name in names if digests.get(name) not in (None, sha256_file(self.folder / name))]
        if wrong:
            say(f"{self.folder / wrong[0]}: not what was written; {case_id} is predicted again")
        return not wrong

    def add(self, case_id: str, entry: dict[str, Any]) -> None:
        """Enter a finished patient."""
        digests = {name: sha256_file(self.folder / name) for name in entry["files"]}
        self.cases[case_id] = {**entry, "sha256": digests}
        self.write()

    def write(self) -> None:
        """Write the list, whole or not at all."""
        write_json(self.folder / LIST, self.content())
        self.ours = True

    def content(self) -> dict[str, Any]:
        """What the file holds: the runs, the finished patients, and the digest of both."""
        listed = {**self.head, "cases": self.cases}
        return {**listed, "digest": digest_of(listed)}


def _head(networks: Sequence[TrainedNetwork]) -> dict[str, Any]:
    task = networks[0].task
    values = {name: value_of(i, task.regions) for i, name in enumerate(task.class_names)}
    cells = [network.result.data["cell"] for network in networks]
    kept = ("method", "fusion", "fold", "seed", "hash")
    return {
        "schema": _SCHEMA,
        "task": task.name,
        "modalities": list(task.modality_names),
        "classes": values,
        "regions": task.thresholds,
        "runs": [{key: cell[key] for key in kept} for cell in cells],
        "networks": [
            next((digest for name, digest in network.result.data["files"].items() if name in _WEIGHTS), "")
            for network in networks
        ],
    }


_WEIGHTS = ("network.safetensors", "weights.pt")


def _who(found: dict[str, Any]) -> str:
    runs = [one for one in found.get("runs", ()) if isinstance(one, dict)]
    names = [f"{one.get('method')} {one.get('fusion')} fold {one.get('fold')}" for one in runs[:3]]
    return ", ".join(names) or "not stated"


def write_case(folder: Path, found: Predicted, task: Task, wanted: Wanted, by: str) -> dict[str, Any]:
    """Write all files of a patient.

    Args:
        folder: That they go to.
        found: What was predicted.
        task: Its modalities and classes.
        wanted: Which files.
        by: What made the mask, for the header of DICOM.

    Returns:
        What predictions.json says of the patient.
    """
    patient, case_id = found.patient, found.patient.case_id
    names = wanted.names(case_id)
    write_mask(found.mask, patient.affine, folder / f"{case_id}.nii.gz", durable=True)
    if wanted.probabilities:
        assert found.probabilities is not None
        write_probabilities(
            found.probabilities, patient.affine, folder / f"{case_id}_probabilities.nii.gz", task.class_names
        )
    if wanted.dicom_seg:
        if not found.mask.any():
            say(f"case {case_id}: the mask shows no class, and DICOM has no empty segments: no {case_id}.dcm")
            names.remove(f"{case_id}.dcm")
        else:
            write_seg(folder / f"{case_id}.dcm", found.mask, task, patient.slices, by)
    _draw(folder / f"{case_id}.png", found, task)
    maps = class_maps(found.mask, len(task.classes), task.regions)
    ml = float(np.prod(found.case.spacing)) / 1000
    absent = [name for name, there in zip(task.modality_names, patient.present, strict=True) if not there]
    return {
        "files": names,
        "shape": list(found.mask.shape),
        "ml": {name: round(int(one.sum()) * ml, 6) for name, one in zip(task.class_names, maps, strict=True)},
        "ms_per_slice": round(found.milliseconds, 3),
        "seconds": round(found.seconds, 3),
        "absent": absent,
    }


def write_probabilities(
    probabilities: np.ndarray, affine: np.ndarray, path: Path, class_names: Sequence[str]
) -> None:
    """Write probabilities [K, X, Y, Z] as compressed NIfTI of four axes, float32, atomically.

    Args:
        probabilities: float32 [K, X, Y, Z].
        affine: [4, 4], voxel index to RAS+ mm.
        path: The file, in which the classes are the fourth axis.
        class_names: In order; they stand in the header's description as far as they fit.
    """
    import nibabel

    image = nibabel.Nifti1Image(np.moveaxis(probabilities, 0, -1).astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = ",".join(class_names).encode("ascii", "replace")[:79]
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def _draw(path: Path, found: Predicted, task: Task) -> None:
    """The slice that shows most of all classes, every modality, without and with the outline."""
    case = found.case
    masks = resize_masks(case.geometry.to_slices(found.mask), case.images.shape[-1])
    z = pick_slice(masks, task.regions)
    names = task.modality_names, task.class_names
    truth_figure(path, case.case_id, case.images[z], masks[z], names, task.regions, predicted=True)
