"""A mask as a DICOM Segmentation object on the slices that it was predicted from, by highdicom."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.classes import class_maps
from usbench.contracts.data import Task
from usbench.datasets.readers.dicom_file import read_dicom
from usbench.errors import UsbenchError
from usbench.storage.files import atomic_path

# Of DICOM (PS3.16, CID 7150) and SNOMED CT: a part of a body, of which the benchmark knows no closer code.
_ANYTHING = ("123037004", "SCT", "Anatomical Structure")

# What every DICOM image has, if only without a value (PS3.3, type 2 of patient and study).
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def require_highdicom() -> None:
    """Raise `UsbenchError` where highdicom is not installed."""
    from importlib.util import find_spec

    if find_spec("highdicom") is None:
        raise UsbenchError("--dicom-seg needs highdicom; install it with: pip install 'usbench[dicom]'")


def write_seg(path: Path, mask: np.ndarray, task: Task, slices: Sequence[Path], by: str) -> None:
    """Write a mask as a DICOM Segmentation, a segment for each class that it shows, whole or not at all.

    Args:
        path: The .dcm file.
        mask: uint8 [X, Y, Z] as [columns, rows, slices], with classes or regions as `Case.mask` has them.
        task: Its classes.
        slices: The DICOM files of the series in the order of Z.
        by: What made the mask, for the header.

    Raises:
        UsbenchError: Where there is no series, it cannot be used, or the mask is empty.
    """
    require_highdicom()
    import highdicom
    from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept

    maps = class_maps(mask, len(task.classes), task.regions)
    shown = [index for index in range(len(task.classes)) if maps[index].any()]
    if not shown:
        raise UsbenchError(f"{path}: not written, the mask shows no class, and DICOM has no empty segments")
    sources = [read_dicom(file) for file in slices]
    for source in sources:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in source:  # as in files that were made anonymous
                setattr(source, keyword, None)
    version = _version()
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=by[:64],
        family=CodedConcept("123109", "DCM", "Artificial Intelligence"),
        version=version,
    )
    segments = [
        SegmentDescription(
            segment_number=number,
            segment_label=task.classes[index].name[:64],
            segmented_property_category=CodedConcept(*_ANYTHING),
            segmented_property_type=CodedConcept(
                f"C{index + 1}", "99USBENCH", task.classes[index].words[:64] or task.classes[index].name[:64]
            ),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, index in enumerate(shown, start=1)
    ]
    # [Z, rows, columns, segments], as a slice of DICOM has its rows first.
    pixels = np.stack([maps[index].transpose(2, 1, 0) for index in shown], axis=-1).astype(np.uint8)
    try:
        made: Any = Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=_uid(mask, slices, "series"),
            series_number=1000,
            sop_instance_uid=_uid(mask, slices, "instance"),
            instance_number=1,
            manufacturer="usbench",
            manufacturer_model_name="usbench",
            software_versions=version,
            device_serial_number="0",
            series_description="Segmentation by usbench",
        )
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        words = " ".join(str(error).split())
        raise UsbenchError(
            f"{slices[0].parent}: highdicom cannot refer to this series ({words}); export it with its whole "
            "header, or leave out --dicom-seg"
        ) from error
    with atomic_path(path) as temporary:
        made.save_as(temporary)


def _version() -> str:
    from usbench import __version__

    return __version__


def _uid(mask: np.ndarray, slices: Sequence[Path], what: str) -> str:
    """A UID that follows from what is written, so that the same mask is the same object (PS3.5 B.2)."""
    digest = hashlib.sha256(what.encode() + np.ascontiguousarray(mask).tobytes())
    for file in slices:
        digest.update(file.name.encode())
    return f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"
