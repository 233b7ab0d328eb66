"""Notes in JSON with a digest of their own, so that a changed one is known when it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.storage.files import digest_of, write_json
from usbench.storage.texts import read_json

SEAL = "seal"
"""The key of the digest."""


def write_sealed(path: Path, value: Mapping[str, Any], durable: bool = True) -> str:
    """Write notes and their seal.

    Args:
        path: The file.
        value: What JSON can hold, without the key "seal".
        durable: As for `usbench.storage.files.atomic_path`.

    Returns:
        The seal.
    """
    seal = digest_of(value)
    write_json(path, {**value, SEAL: seal}, durable)
    return seal


def read_sealed(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read notes that `write_sealed` wrote, without their seal.

    Args:
        path: The file.
        what: It should be, for messages.
        remedy: What to do about a file that cannot be used.

    Raises:
        UsbenchError: Where it is absent, cannot be read, has no seal or one that does not fit.
    """
    found = read_json(path, what, remedy)
    seal = found.pop(SEAL, None) if isinstance(found, dict) else None
    if seal is None or seal != digest_of(found):
        raise UsbenchError(f"{path}: {what} changed since it was written (its digest does not fit); {remedy}")
    return dict(found)
