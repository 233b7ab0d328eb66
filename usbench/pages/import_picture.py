"""The picture of a case that was imported: whether scans and mask lie on each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from usbench.contracts.data import Task
from usbench.datasets.geometry import SliceGeometry
from usbench.datasets.readers.layouts import open_reader
from usbench.pages.figures import pick_slice, truth_figure


def draw_first_case(task: Task, folder: Path, path: Path) -> str:
    """Draw the first case of a task as it is read, on the axial slice that shows most of its classes.

    Args:
        task: whose data.
        folder: the data folder.
        path: the PNG file.

    Returns:
        The name of the case.

    Raises:
        UsbenchError: for a case that cannot be read.
    """
    reader = open_reader(task, folder)
    case = reader.read(reader.case_ids()[0])
    geometry = SliceGeometry.from_affine(case.mask.shape, case.affine)
    truth = geometry.to_slices(case.mask)
    slice_number = pick_slice(truth, task.regions)
    images = [geometry.to_slices(volume)[slice_number] for volume in case.images]
    names = task.modality_names, task.class_names
    truth_figure(path, case.case_id, np.stack(images), truth[slice_number], names, task.regions)
    return case.case_id
