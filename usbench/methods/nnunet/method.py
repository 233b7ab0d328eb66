"""nnU-Net v2, a pipeline of its own under the folds and the scores of usbench.

Isensee, Jaeger, Kohl, Petersen, Maier-Hein: nnU-Net: a self-configuring method for deep learning-based
biomedical image segmentation. Nature Methods 18, 2021. The residual encoders are of Isensee et al.: nnU-Net
Revisited. MICCAI 2024.

Planner, preparation, augmentation, network, loss and prediction are those of the package nnunetv2; what is
set around them stands in `settings.py`.
"""

from __future__ import annotations

from usbench import Method
from usbench.methods.nnunet.pipeline import PIPELINE
from usbench.methods.nnunet.settings import PRESETS, SETTINGS

METHOD = Method(
    name="nnunet",
    paper="Isensee, Jaeger, Kohl, Petersen, Maier-Hein: nnU-Net: a self-configuring method for deep "
    "learning-based biomedical image segmentation. Nature Methods 18, 2021.",
    pipeline=PIPELINE,
    settings=SETTINGS,
    presets=PRESETS,
)
