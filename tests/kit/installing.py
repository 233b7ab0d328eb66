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


PLUGIN = """
from torch import nn
from usbench import EncoderDecoder, Method

class Encoder(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
    def forward(self, images):
        return (self.conv(images).relu(),)

class Decoder(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Conv2d(4, classes, 1)
    def forward(self, features):
        return self.head(features[0])

def build(in_channels, classes, width=4):
    return EncoderDecoder(Encoder(in_channels), Decoder(classes), [4])

METHOD = Method("tiny", "nobody", build_network=build, settings={"width": 4}, size_multiple=1)
"""


def install(folder: Path, name: str, code: str, entry: str, kind: str = "method") -> None:
    """What pip leaves of a package with an entry point: its module and its metadata."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[usbench.{kind}s]\n{entry} = {name}:{kind.upper()}\n")
