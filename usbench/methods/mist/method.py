"""MIST, a pipeline of its own under the folds and the scores of usbench.

Celaya et al.: MIST: A Simple and Scalable End-To-End 3D Medical Imaging Segmentation Framework.
arXiv:2407.21343, 2024. Its pocket networks are of Celaya et al.: PocketNet. IEEE TMI, 2022.

Analysis, preparation, augmentation, networks, loss, schedule and prediction are those of the package
mist-medical; what is set around them stands in `settings.py`.
"""

from __future__ import annotations

from usbench import Method
from usbench.methods.mist.pipeline import PIPELINE
from usbench.methods.mist.settings import PRESETS, SETTINGS

METHOD = Method(
    name="mist",
    paper="Celaya et al.: MIST: A Simple and Scalable End-To-End 3D Medical Imaging Segmentation Framework. "
    "arXiv:2407.21343, 2024.",
    pipeline=PIPELINE,
    settings=SETTINGS,
    presets=PRESETS,
)
