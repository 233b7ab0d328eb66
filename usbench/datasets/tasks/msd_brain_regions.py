"""MSD Task01 with the three overlapping regions of BraTS in place of the whole tumour."""

from __future__ import annotations

from dataclasses import replace

from usbench.contracts.data import Structure
from usbench.datasets.tasks.msd_brain import TASK as WHOLE

TASK = replace(
    WHOLE,
    name="msd-brain-regions",
    title=(
        "Regions of a brain tumour on FLAIR, T1, T1 with contrast and T2 "
        "(Medical Segmentation Decathlon, Task01)"
    ),
    regions=True,
    # 1 oedema, 2 non-enhancing tumour, 3 enhancing tumour.
    classes=(
        Structure("whole-tumour", "whole brain tumour", labels=(1, 2, 3)),
        Structure("tumour-core", "core of the brain tumour", labels=(2, 3)),
        Structure("enhancing-tumour", "enhancing part of the brain tumour", labels=(3,)),
    ),
    published="brain-regions",
)
