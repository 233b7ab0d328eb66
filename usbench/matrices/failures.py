"""What failed and why: matrix-failures.json in the folder of the runs, until the cell succeeds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.storage.files import locked, read_json, write_json

NAME = "matrix-failures.json"
SCHEMA_VERSION = 1

Table = dict[str, dict[str, Any]]


class Failures:
    """The table of failures of a folder, by the cell's folder in it, or by a task for its data.

    Several matrices may write into it at once. A table that cannot be read is begun anew: it decides
    nothing.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.path = runs_dir / NAME

    def read(self) -> Table:
        """key -> {"name", "reason", "traceback", "command", "when"}."""
        if not self.path.is_file():
            return {}
        try:
            content = read_json(self.path, "the table of failures", "remove it")
            found = content["failures"] if content["schema"] == SCHEMA_VERSION else {}
        except (UsbenchError, KeyError, TypeError):
            return {}
        return dict(found) if isinstance(found, dict) else {}

    def key(self, folder: Path) -> str:
        """The key of a cell."""
        return folder.relative_to(self.runs_dir).as_posix()

    def record(self, key: str, name: str, reason: str, traceback: str = "", command: str = "") -> None:
        """Write down why `key` failed, in place of what was known of it; command: computes it alone."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = {"name": name, "reason": reason, "traceback": traceback, "command": command, "when": when}
        with self._lock():
            self._write({**self.read(), key: row})

    def clear(self, keys: Iterable[str]) -> None:
        """Take out what is no failure any more; the file goes with its last row."""
        gone = set(keys)
        if not gone & set(self.read()):
            return
        with self._lock():
            self._write({key: row for key, row in self.read().items() if key not in gone})

    def _lock(self) -> Any:
        return locked(self.runs_dir / f".{NAME}.lock", f"{self.path}: another process is writing it; waiting")

    def _write(self, table: Table) -> None:
        if table:
            write_json(self.path, {"schema": SCHEMA_VERSION, "failures": dict(sorted(table.items()))})
        else:
            self.path.unlink(missing_ok=True)
