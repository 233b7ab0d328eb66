"""The first step of an evaluation: from a trained network to masks on the patient's own grid."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from usbench.datasets.batches import Slices
from usbench.datasets.stacks import slice_distance
from usbench.datasets.ways import BATCH, BySlices, Example, Way
from usbench.runs.labels import enlarged, to_labels
from usbench.storage.files import atomic_path
from usbench.storage.nifti_masks import load_mask

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.datasets.patients.case import PatientCase
    from usbench.datasets.store import PreparedCase, Store
    from usbench.runs.frozen import Frozen

BY_SLICES = BySlices()


@dataclass(frozen=True)
class Prediction:
    """A predicted patient.

    Attributes:
        case_id: The patient.
        volume: uint8 [X, Y, Z] on the native grid, with classes or regions as `Case.mask` has them.
        slices: uint8 [Z, S, S] at the network's size, likewise.
        ms_per_slice: Milliseconds of the network's forward pass, the first batch left out.
        probabilities: Where they were asked for, float32 [K, X, Y, Z] on the native grid: the sigmoid of each
            class.
    """

    case_id: str
    volume: np.ndarray
    slices: np.ndarray
    ms_per_slice: float
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Predicted:
    """A case of the store, opened once, with its predicted mask.

    device, frozen, way: as the network was asked, for `example`.
    """

    case: PreparedCase
    prediction: Prediction
    device: torch.device
    frozen: Frozen
    way: Way

    def example(self) -> Example:
        """What the network saw first."""
        rows = self.frozen.rows([self.case.case_id])
        return self.way.example(self.case, self.device, rows, self.frozen.fresh)


def predict_cases(
    network: nn.Module,
    store: Store,
    case_ids: Sequence[str],
    classes: int,
    device: torch.device,
    frozen: Frozen,
    fabric: Fabric | None = None,
    folder: Path | None = None,
    thresholds: Mapping[str, float] | None = None,
    way: Way = BY_SLICES,
) -> Iterator[Predicted]:
    """Predict some cases of a store, one whenever the next is asked for.

    Args:
        network: images -> logits, on `device`.
        store: the prepared cases; each is opened once.
        case_ids: which, in this order.
        classes: K.
        device: where the network is.
        frozen: the features of these cases.
        fabric: gives the numerical precision; None for single precision.
        folder: where the masks are written as CASE.nii.gz; None for nowhere.
        thresholds: of regions, `Task.thresholds`; None where classes exclude each other.
        way: what the network sees, slices or volumes.

    Yields:
        Each case with its mask.
    """
    for case_id in case_ids:
        case = store.case(case_id)
        prediction = predict(
            network,
            case,
            classes,
            device,
            extras=frozen.rows([case_id]),
            fresh=frozen.fresh,
            fabric=fabric,
            thresholds=thresholds,
            way=way,
        )
        if folder is not None:
            write_mask(prediction.volume, case.affine, folder / f"{case_id}.nii.gz")
        yield Predicted(case, prediction, device, frozen, way)


def predict(
    network: nn.Module,
    case: PreparedCase | PatientCase,
    classes: int,
    device: torch.device,
    batch: int = BATCH,
    extras: Sequence[Mapping[str, np.ndarray | None]] = (),
    fresh: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    fabric: Fabric | None = None,
    thresholds: Mapping[str, float] | None = None,
    probabilities: bool = False,
    present: Sequence[bool] | None = None,
    way: Way = BY_SLICES,
) -> Prediction:
    """Predict one patient.

    Logits are enlarged bilinearly to the native in-plane grid before a class is chosen, so that the outline
    is not that of the smaller grid.

    Args:
        network: Images [B, M, S, S] -> logits [B, K, S, S], or of volumes, with a D before H.
        case: The prepared case.
        classes: K.
        device: Where the network is.
        batch: Slices at a time.
        extras: Stored features of the case, arrays [Z, ...] by name; see `usbench.datasets.batches.Slices`.
        fresh: Features that are computed in every batch: images [B, M, S, S] -> rows [B, ...].
        fabric: Gives the numerical precision; None for single precision.
        thresholds: Of regions, as `to_labels` takes them.
        probabilities: Whether they are kept too.
        present: Of each modality whether it is there, for a network that takes that; None for all others.

    Returns:
        The mask on the native grid and on the prepared one, and the time of a slice in milliseconds.
    """
    slices = Slices([case], classes, device, extras, fresh, targets=False)
    count, size = len(case.images), case.images.shape[-1]
    groups = way.groups(count, batch)
    side = case.geometry.side
    native = np.empty((count, side, side), np.uint8)
    small = native if side == size else np.empty((count, size, size), np.uint8)
    kept = np.empty((classes, count, side, side), np.float32) if probabilities else None
    times: list[tuple[float, int]] = []
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    precision: AbstractContextManager[object] = fabric.autocast() if fabric is not None else nullcontext()
    with torch.inference_mode(), precision:
        for group, (images, rows) in zip(groups, slices.images(groups), strict=True):
            there = {} if present is None else {"present": _mask_of(present, images)}
            wait(device)
            start = time.perf_counter()
            logits = way.logits(network, images, slice_distance(case), **rows, **there)
            wait(device)
            times.append((time.perf_counter() - start, len(images)))
            # What is enlarged at once is bounded, however many slices were predicted together.
            for some, part in zip(_parts(group, batch), _parts(logits.float(), batch), strict=True):
                part = part.contiguous()
                if side != size:
                    small[some] = to_labels(part, thresholds).cpu().numpy()
                native[some] = to_labels(part, thresholds, side).cpu().numpy()
                if kept is not None:
                    kept[:, some] = enlarged(part, side).sigmoid().transpose(0, 1).cpu().numpy()
    for module in training:
        module.training = True
    counted = times[1:] if len(times) > 1 else times
    milliseconds = 1000 * sum(t for t, _ in counted) / sum(n for _, n in counted)
    volume = case.geometry.from_slices(native)
    whole = None if kept is None else np.stack([case.geometry.from_slices(one) for one in kept])
    return Prediction(case.case_id, volume, small, milliseconds, whole)


def _mask_of(present: Sequence[bool], images: Tensor) -> Tensor:
    """bool [B, M] on the device of the images [B, M, S, S]."""
    return torch.tensor(present, device=images.device).expand(len(images), -1)


def _parts(whole: Any, batch: int) -> Iterator[Any]:
    """An array or a tensor in parts of at most `batch` rows."""
    return (whole[start : start + batch] for start in range(0, len(whole), batch))


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked for, so that a clock says how long it took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_mask(volume: np.ndarray, affine: np.ndarray, path: Path, durable: bool = False) -> None:
    """Write a mask [X, Y, Z] as compressed NIfTI on its native grid, atomically, always the same bytes.

    `durable` as for `atomic_path`; a run brings its masks to the disk with its result.
    """
    import nibabel

    image = nibabel.Nifti1Image(volume.astype(np.uint8), affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path, durable) as temporary:
        temporary.write_bytes(packed_mask(image.to_bytes()))


def packed_mask(content: bytes) -> bytes:
    """Compress the bytes of a mask as a gzip file, without time or name: equal masks are equal files.

    A mask is runs of one value, and zlib is told to look for nothing else: against its search at level 4
    two fifths of the time, and smaller files for organs and tumours, though larger ones for plain boxes.
    """
    gzip_file = 16 + zlib.MAX_WBITS
    packer = zlib.compressobj(6, zlib.DEFLATED, gzip_file, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return packer.compress(content) + packer.flush()


def read_mask(path: Path) -> np.ndarray:
    """A mask that `write_mask` wrote, uint8 [X, Y, Z]."""
    return np.asarray(load_mask(path)[0], dtype=np.uint8)
