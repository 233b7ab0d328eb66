"""What all stored features take together, known without looking at every file for every row."""

from __future__ import annotations

import os
import time
from pathlib import Path

from usbench.storage.files import cache_dir

LOOK_AGAIN = 30.0
"""Seconds after which files are counted again, since other processes store features too."""

_SHARE = 50  # and counting takes no more than one part in so many of the time


class StoredTotal:
    """Bytes that all stored features take: counted once, then added to.

    What other processes store is seen when the files are counted again, so that several processes together
    pass a bound by no more than what they store in `LOOK_AGAIN` seconds (or, where counting is slow, in fifty
    times as long as it takes).
    """

    def __init__(self) -> None:
        self._bytes: int | None = None
        self._until = 0.0

    def bytes(self) -> int:
        """Bytes of all stored features, as far as is known now."""
        if self._bytes is None or time.monotonic() >= self._until:
            start = time.monotonic()
            self._bytes = stored_bytes()
            end = time.monotonic()
            self._until = end + max(LOOK_AGAIN, _SHARE * (end - start))
        return self._bytes

    def add(self, size: int) -> None:
        """Count what this process has stored: so many bytes."""
        if self._bytes is not None:
            self._bytes += size


def features_dir() -> Path:
    """Where features are stored: below the cache folder."""
    return cache_dir() / "features"


def stored_bytes() -> int:
    """Bytes that all stored features take, counted now."""
    total = 0
    for feature in _entries(features_dir()):
        for case in _entries(feature.path):
            for file in _entries(case.path):
                if file.name.endswith(".npy"):
                    try:
                        total += file.stat().st_size
                    except FileNotFoundError:  # Removed meanwhile.
                        continue
    return total


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What a folder holds but hidden files; nothing where it is none or not there."""
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
