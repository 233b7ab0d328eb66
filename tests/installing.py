"""Installing a package into a folder of its own with pip, as a user's environment would have it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def pip_install(package: Path, target: Path, work: Path) -> None:
    """Install a copy of `package` into `target`, offline; building leaves nothing beside the source."""
    pytest.importorskip("setuptools", minversion="77")
    copy = work / package.name
    shutil.copytree(package, copy)
    words = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    call = [sys.executable, "-m", "pip", *words, str(copy)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def with_path(*folders: Path) -> dict[str, str]:
    """The environment in which Python also looks into `folders`."""
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])}
