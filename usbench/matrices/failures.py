"""What failed and why: matrix-failures.json in the folder of the runs, until the cell succeeds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.storage.files import locked, write_json
from usbench.storage.texts import read_json

NAME = "matrix-failures.json"
SCHEMA_VERSION = 1

ENDED = "the process that computed it ended without a word (killed, or out of memory)"
"""The reason of a cell that is computed in the process of its matrix: written before it starts, taken out
when it ends. So it holds only where nobody has the lock of the cell."""

Table = dict[str, dict[str, Any]]


class Failures:
    """The table of what failed in a folder of runs, and why; it lies there as matrix-failures.json.

    A row stands for a cell, or for a task whose data cannot be prepared. Several matrices may write into the
    table at once. A table that cannot be read is begun anew: it decides nothing.

    Args:
        runs_dir: the folder of the runs.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.path = runs_dir / NAME
        self.lock = runs_dir / f".{NAME}.lock"

    def read(self) -> Table:
        """Read the table.

        Returns:
            By key a row of "name", "reason", "traceback", "command" and "when" (UTC); empty without a table.
        """
        if not self.path.is_file():
            return {}
        try:
            content = read_json(self.path, "the table of failures", "remove it")
            found = content["failures"] if content["schema"] == SCHEMA_VERSION else {}
        except (UsbenchError, KeyError, TypeError):
            return {}
        return dict(found) if isinstance(found, dict) else {}

    def key(self, folder: Path) -> str:
        """The key of a cell: its folder, relative to the folder of the runs."""
        return folder.relative_to(self.runs_dir).as_posix()

    def record(self, key: str, name: str, reason: str, traceback: str = "", command: str = "") -> None:
        """Write down why something failed, in place of what was known of it.

        Args:
            key: of the cell, as `key` gives it, or the name of a task whose data is broken.
            name: the cell or the task in words.
            reason: one line.
            traceback: of the error, "" for none.
            command: the command line that computes this cell alone, "" for none.

        Raises:
            UsbenchError: where the table cannot be written.
        """
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = {"name": name, "reason": reason, "traceback": traceback, "command": command, "when": when}
        with self._lock():
            self._write({**self.read(), key: row})

    def clear(self, keys: Iterable[str]) -> None:
        """Take out what is no failure any more; the file is removed with its last row.

        Args:
            keys: of the cells and tasks that are fine; those without a row are passed over.

        Raises:
            UsbenchError: where the table cannot be written.
        """
        gone = set(keys)
        # The file of a lock, where one lies there, is of a process that was killed: taken and removed.
        if not gone & set(self.read()) and not self.lock.exists():
            return
        with self._lock():
            self._write({key: row for key, row in self.read().items() if key not in gone})

    def _lock(self) -> Any:
        waiting = f"{self.path}: another process is writing it; waiting"
        return locked(self.lock, waiting, remove=True)

    def _write(self, table: Table) -> None:
        if table:
            write_json(self.path, {"schema": SCHEMA_VERSION, "failures": dict(sorted(table.items()))})
        else:
            self.path.unlink(missing_ok=True)
