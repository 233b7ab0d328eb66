"""Prepared data that other versions of usbench made: it is left alone, and named."""

from __future__ import annotations

import shlex
from pathlib import Path

from usbench.datasets.notes import STORE_VERSION
from usbench.errors import UsbenchError
from usbench.storage.files import cache_dir
from usbench.storage.texts import read_json


def older_stores(cache: Path | None = None) -> list[Path]:
    """The folders of stores that this version does not read.

    Args:
        cache: Where stores lie, by default "prepared" in the user's cache folder.
    """
    found = []
    for index in sorted(Path(cache or cache_dir() / "prepared").glob("*/index.json")):
        try:
            notes = read_json(index, "the index of a prepared store", "prepare it again")
        except UsbenchError:
            continue
        if isinstance(notes, dict) and notes.get("version") != STORE_VERSION:
            found.append(index.parent)
    return found


def older_notice(cache: Path | None = None) -> str:
    """One line on the stores that this version does not read, and how to delete them; "" without any."""
    folders = older_stores(cache)
    if not folders:
        return ""
    gigabytes = sum(_bytes(folder) for folder in folders) / 1e9
    one = len(folders) == 1
    return (
        f"{len(folders)} {'store' if one else 'stores'} of prepared data ({gigabytes:.1f} GB) "
        f"{'is' if one else 'are'} of another version of usbench, and this one does not use "
        f"{'it' if one else 'them'}; to delete: rm -r {shlex.join(map(str, folders))}"
    )


def _bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:  # Another process removes it meanwhile.
            continue
    return total
