"""Libraries that a campaign imports once, before it splits itself for each of hundreds of processes.

usbench itself is never among them: each process imports it anew.
"""

from __future__ import annotations

import contextlib
import importlib

LIBRARIES = (
    "torch", "torch._dynamo", "numpy", "scipy.stats", "scipy.ndimage", "pandas", "nibabel", "SimpleITK",
    "monai.losses", "monai.metrics", "monai.networks.nets", "monai.transforms", "matplotlib.pyplot",
    "lightning_fabric", "PIL.Image", "pydantic", "pydicom", "blosc2", "einops", "transformers",
    "hypothesis", "sklearn.metrics", "jsonschema", "psutil", "yaml",
    "rich.console", "click", "joblib", "safetensors.torch", "filelock", "accelerate", "tabulate",
)  # fmt: skip


def preload() -> None:
    """Import what is installed of `LIBRARIES`; with OMP_NUM_THREADS=1 no thread is started by that."""
    for name in LIBRARIES:
        # What cannot be imported here is left to those who need it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
