"""Re-scoring the masks of a submission against the reference masks, as `usbench run` scores them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from usbench.contracts.classes import largest_value
from usbench.contracts.data import Task
from usbench.contracts.score import Score
from usbench.datasets.store import Store
from usbench.datasets.voxel_grid import GRID_MM, grid_difference, voxel_spacing
from usbench.errors import UsbenchError
from usbench.results.io import cases_csv, scores_of
from usbench.results.masks import mask_digest
from usbench.scores.case import ClassScore, score_case
from usbench.scores.registry import all_scores
from usbench.scores.summary import summarise
from usbench.submissions.checks import Submitted, prediction_name

TOLERANCE = 1e-6
"""The largest difference between a claimed and a recomputed number."""

_HEADER = 352  # bytes of a NIfTI-1 header with the mark that no extension follows
_UINT8 = 2
_MM = 2


@dataclass(frozen=True)
class Rescored:
    """What the masks of a run, or of one of its tracks, give.

    Attributes:
        count: The number of masks.
        largest: The largest difference between a claimed and a recomputed number.
        cases: The text of the cases.csv that usbench itself would have written of these masks.
        masks: Digest of the voxels of each mask, by case; of a track none.
    """

    count: int
    largest: float
    cases: str
    masks: Mapping[str, str]


def rescore(
    one: Submitted, read: Callable[[str], bytes], task: Task, store: Store, advance: Callable[[], None]
) -> Rescored:
    """Score every mask of a run anew and compare each number of cases.csv and of the summary.

    A score that was added to usbench after the run was computed is not claimed, and not compared.

    Args:
        one: The run.
        read: Gives the content of a file of the run by its name.
        task: The task of the run.
        store: The cases with their reference masks.
        advance: Called after each mask.

    Returns:
        What the masks give, which counts from here on in place of what is claimed.

    Raises:
        UsbenchError: One line that names the case, for a mask that is no NIfTI volume on the grid of its
            case with values of the task's classes, and for a claim that is off by more than `TOLERANCE`.
    """
    known = scores_of(one.data)
    claimed = {(row["case"], row["class"]): row for row in one.rows}
    scores: dict[str, list[ClassScore]] = {}
    masks: dict[str, str] = {}
    largest = 0.0
    most, regions = largest_value(len(task.classes), task.regions), task.regions
    for case_id in one.data["split"]["test"]:
        case = store.case(case_id)
        truth = case.truth()
        try:
            mask = read_mask(read(prediction_name(case_id)), truth.shape, case.affine, most)
        except ValueError as error:
            raise UsbenchError(f"{one.folder}: the mask of case {case_id} {error}") from error
        found = score_case(mask, truth, task.class_names, case.spacing, task.nsd_tolerance_mm, regions)
        for score in found:
            row = claimed[case_id, score.name]
            for column, value in _values(score, row, known).items():
                where = f"{one.folder}: {column} of case {case_id}, class {score.name}"
                largest = max(largest, difference_of(where, value, row[column]))
        scores[case_id], masks[case_id] = found, mask_digest(mask)
        advance()
    where, difference = _compare(one.data["scores"], summarise(scores.values(), known), "scores")
    if where:
        raise UsbenchError(
            f"{one.folder}: {where} of result.json is not what its cases give (off by {difference:.3g})"
        )
    return Rescored(len(scores), max(largest, difference), cases_csv(scores, known), masks)


def read_mask(content: bytes, shape: Sequence[int], affine: np.ndarray, most: int) -> np.ndarray:
    """The labels of a mask as `usbench.runs.predict.write_mask` writes it.

    No more is unpacked than the case has voxels, whatever the header promises.

    Args:
        content: A gzipped NIfTI-1 file.
        shape: Of the case, voxels along X, Y, Z.
        affine: Of the case, float [4, 4], voxel index to RAS+ mm.
        most: The largest value that it may hold.

    Returns:
        Labels uint8 [X, Y, Z].

    Raises:
        ValueError: For another file, shape, affine or label; its text is the end of a sentence about the
            mask.
    """
    unpacker = zlib.decompressobj(31)
    try:
        raw = unpacker.decompress(content, _HEADER)
        _check_header(raw, shape, affine)
        voxels = math.prod(shape)
        labels = unpacker.decompress(unpacker.unconsumed_tail, voxels + 1)
        if len(labels) < voxels:
            raise ValueError(f"is cut off: {len(labels):,} of {voxels:,} voxels")
        if len(labels) > voxels or unpacker.decompress(unpacker.unconsumed_tail, 1):
            raise ValueError("holds more than its voxels")
    except zlib.error as error:
        raise ValueError(f"is no gzipped NIfTI file ({error})") from error
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("is cut off, or has bytes after its end")
    mask = np.frombuffer(labels, dtype=np.uint8).reshape(tuple(shape), order="F")
    if (largest := int(mask.max())) > most:
        raise ValueError(f"holds label {largest}, the task has 0..{most}")
    return mask


def _check_header(raw: bytes, shape: Sequence[int], affine: np.ndarray) -> None:
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    if len(raw) < _HEADER:
        raise ValueError("is no gzipped NIfTI file (too short)")
    try:
        header: Any = nibabel.Nifti1Header(raw[:348], check=False)
        if int(header["sizeof_hdr"]) != 348 or bytes(header["magic"].item())[:3] != b"n+1":
            raise ValueError("is no NIfTI-1 file in one piece")
        dims = [int(n) for n in header["dim"]]
        if dims[0] != 3 or dims[1:4] != [int(n) for n in shape]:
            there = " x ".join(map(str, dims[1 : 1 + max(0, min(7, dims[0]))]))
            raise ValueError(f"has shape {there}, its case has {' x '.join(map(str, shape))}")
        if any(n not in (0, 1) for n in dims[4:]):
            raise ValueError("has sizes of further dimensions in its header")
        if int(header["xyzt_units"]) & 7 not in (0, _MM):
            raise ValueError("says that its unit is not mm")
        if int(header["datatype"]) != _UINT8 or int(header["bitpix"]) != 8:
            raise ValueError(f"has data type {int(header['datatype'])}, usbench writes uint8 (2)")
        if float(header["vox_offset"]) != _HEADER or raw[348:352] != bytes(4):
            raise ValueError("has a header extension, which usbench does not write")
        slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
        if not ((math.isnan(slope) or slope in (0, 1)) and (math.isnan(inter) or inter == 0)):
            raise ValueError("scales its labels, which usbench does not")
        found = np.asarray(header.get_best_affine(), dtype=np.float64)
        coded = header.get_qform(coded=True)[0]
        other = None if coded is None else np.asarray(coded, dtype=np.float64)
        zooms = np.asarray(header.get_zooms()[:3], dtype=np.float64)
    except (HeaderDataError, ArithmeticError, TypeError) as error:
        raise ValueError(f"has a header that cannot be read ({error})") from error
    size = np.array(voxel_spacing(affine))
    if not np.abs(zooms - size).max() <= GRID_MM:
        spacings = (" x ".join(f"{v:.4g}" for v in one) for one in (zooms, size))
        raise ValueError("has spacing {} mm, its case has {} mm".format(*spacings))
    if not np.isfinite(found).all():
        raise ValueError("has an affine that is not finite")
    if difference := grid_difference(shape, affine, shape, found, GRID_MM / size.min()):
        raise ValueError(f"has another affine than its case: {difference}")
    # Programs differ in which of the two they believe.
    if other is not None and not np.isfinite(other).all():
        raise ValueError("has a qform that is not finite")
    if other is not None and (
        difference := grid_difference(shape, affine, shape, other, GRID_MM / size.min())
    ):
        raise ValueError(f"has a qform that is not its sform: {difference}")


def _values(score: ClassScore, row: Mapping[str, Any], known: Sequence[Score]) -> dict[str, Any]:
    """What the mask gives, by column, for each column that `row` of cases.csv claims."""
    names = {one.name for one in known}
    values: dict[str, Any] = {
        one.name: score.scores[one.name]
        for one in all_scores()
        if one.name in names or not math.isnan(row[one.name])
    }
    return {**values, "tp": score.tp, "fp": score.fp, "fn": score.fn, "tn": score.tn, "edge": score.edge}


def difference_of(where: str, found: Any, claim: Any) -> float:
    """The difference between a claimed and a recomputed number.

    Args:
        where: What is claimed, the beginning of a sentence.
        found: What the mask gives: a score, a count or the word of an edge case.
        claim: What the submission says.

    Raises:
        UsbenchError: For scores that are off by more than `TOLERANCE`, and for other counts or words.
    """
    if isinstance(found, str):
        same, difference = claim == found, 0.0
    elif math.isnan(found) or math.isnan(claim):
        same, difference = math.isnan(found) and math.isnan(claim), 0.0
    else:
        difference = abs(found - claim)
        same = difference <= (0 if isinstance(found, int) else TOLERANCE)
    if not same:
        raise UsbenchError(f"{where} is claimed as {_text(claim)}, its mask gives {_text(found)}")
    return difference


def _text(value: Any) -> str:
    if isinstance(value, str):
        return ascii(value[:40])
    return "undefined" if math.isnan(value) else f"{value:.8g}"


def _compare(claim: Any, found: Any, where: str) -> tuple[str, float]:
    """The first place where two summaries differ, or "", and the largest difference up to there."""
    if isinstance(found, Mapping):
        if not isinstance(claim, Mapping) or set(claim) != set(found):
            return where, math.inf
        largest = 0.0
        for key, value in found.items():
            place, difference = _compare(claim[key], value, f"{where}.{key}")
            largest = max(largest, difference)
            if place:
                return place, difference
        return "", largest
    if found is None or claim is None:
        return ("" if found is claim else where), 0.0 if found is claim else math.inf
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return where, math.inf
    difference = abs(claim - found)
    return ("" if difference <= TOLERANCE else where), difference
