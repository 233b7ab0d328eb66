"""Where tasks and their data come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Download:
    """An archive of the full data set: where it is, how large, and how it is known to be whole.

    Attributes:
        url: its http or https address.
        bytes: its size; None where the publisher states none.
        md5: its MD5 checksum, in hex; None where the publisher states none.
        sha256: its SHA-256 checksum, in hex, likewise. At least one checksum is there.
    """

    url: str
    bytes: int | None
    md5: str | None = None
    sha256: str | None = None


class Found(Protocol):
    """Where a task of a plugin was found, as `usbench.plugins.search.Found` says it."""

    @property
    def origin(self) -> str:
        """In words: "package NAME VERSION" or "file PATH"."""

    @property
    def version(self) -> str:
        """Of its package, or ""."""

    def load(self) -> Any:
        """Import it and return the task."""


@dataclass(frozen=True)
class FileOrigin:
    """Where a task was found that a file describes; see `Found`.

    Attributes:
        path: of the file, absolute.
    """

    path: Path
    version: str = field(default="", init=False)

    @property
    def origin(self) -> str:
        """In words."""
        return f"file {self.path.name}"

    def load(self) -> Any:
        """Nothing is to be imported: such a task travels whole to other processes."""
        raise NotImplementedError
