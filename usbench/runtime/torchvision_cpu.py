"""Let `import torchvision` work beside a CPU build of torch.

torchvision on the package index is built for CUDA. Beside a CPU build of torch its compiled
operators do not load, and importing it ends in "operator torchvision::nms does not exist".
Declaring the schemas of the two operators that are looked up at import time is enough for the
Python parts, which are all that segmentation networks use.
"""

from __future__ import annotations

import sys
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Any] = []


def make_importable() -> None:
    """Declare torchvision's operators where torch has no CUDA; does nothing anywhere else.

    Call it before the first import of torchvision or of anything that imports it
    (segmentation-models-pytorch, timm, segment-anything, transformers). Before a plugin is imported, and
    where `usbench.testing` is, it was called.
    """
    import torch

    if torch.version.cuda is not None or torch.version.hip is not None:
        return
    if _libraries or "torchvision" in sys.modules:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SCHEMA}")
    _libraries.append(library)
