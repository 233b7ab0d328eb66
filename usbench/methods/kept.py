"""The list of methods, kept in the cache folder: counting all networks takes longer than importing torch.

A note belongs to one question (task, preset, plugin files, names). It is used again while everything that its
answer came from is unchanged: the code of usbench, the modules of others that were imported for it and are no
installed package, and the names and versions of all that is installed. What failed is not kept, and neither
is what an installed plugin has a part in.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import usbench
from usbench.errors import UsbenchError
from usbench.storage.files import cache_dir, digest_of, sha256_file
from usbench.storage.sealed import read_sealed, write_sealed

_LAYOUT = 1


class KeptRows:
    """The note of one question, which may not be there yet.

    Args:
        task: As `usbench.methods.catalogue.catalogue` takes it, like the others.
        preset: Likewise.
        plugins: Likewise.
        names: Likewise.
    """

    def __init__(self, task: str, preset: str, plugins: Sequence[Path], names: Sequence[str]) -> None:
        self._question: dict[str, Any] = {
            "layout": _LAYOUT,
            "task": task,
            "preset": preset,
            "plugins": [[str(path), str(Path(path).absolute())] for path in plugins],
            "names": sorted(set(names)),
        }
        self._usable = not _of_installed_plugins(task, names) and not task.lower().endswith((".yaml", ".yml"))

    @property
    def path(self) -> Path:
        """The file of the note."""
        return cache_dir() / "methods" / f"{digest_of(self._question)[:16]}.json"

    def read(self) -> list[dict[str, Any]] | None:
        """The rows, or None where there are none, or they are damaged or may be out of date."""
        if not self._usable:
            return None
        try:
            note = read_sealed(self.path, "the kept list of methods", "remove it")
            files = note["made_of"]["files"]
            if note["made_of"] != self._made_of([Path(file) for file in files]):
                return None
            rows: list[dict[str, Any]] = note["rows"]
        except (UsbenchError, OSError, KeyError, TypeError, ValueError, AttributeError):
            return None
        return rows

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Keep rows that were counted just now, in this process; it is no fault where that cannot be done."""
        if not self._usable or any(row["error"] for row in rows):
            return
        with suppress(UsbenchError, OSError, TypeError, ValueError):
            note = {"made_of": self._made_of(_loaded_files()), "rows": rows}
            write_sealed(self.path, note, durable=False)

    def _made_of(self, files: Sequence[Path]) -> dict[str, Any]:
        """All that the rows depend on; `files`: modules that are neither of usbench nor installed."""
        own = Path(usbench.__file__).parent
        code = [
            [path.relative_to(own).as_posix(), sha256_file(path)]
            for path in sorted(own.rglob("*"))
            if path.suffix in (".py", ".json", ".yaml") and path.is_file()
        ]
        named = [Path(path) for _, path in self._question["plugins"]]
        return {
            "question": self._question,
            "python": sys.version,
            "usbench": digest_of(code),
            "installed": digest_of(_installed()),
            "files": {str(file): sha256_file(file) for file in sorted({*files, *named})},
        }


def _of_installed_plugins(task: str, names: Sequence[str]) -> bool:
    """Whether a package of somebody else brings the task or a method that is named: its code is not known."""
    groups = {"usbench.tasks": {task}, "usbench.methods": set(names)}
    return any(entry.name in asked for group, asked in groups.items() for entry in entry_points(group=group))


def _installed() -> list[str]:
    """Names and versions of what is installed, as their folders are called.

    The folder that one stands in is left out: whether Python looks there depends on how it was started, and
    in a checkout it holds notes on that checkout.
    """
    here = Path.cwd()
    return sorted(
        place.name
        for folder in dict.fromkeys(sys.path)
        if Path(folder).is_dir() and Path(folder).resolve() != here
        for place in Path(folder).glob("*.*-info")
    )


def _loaded_files() -> list[Path]:
    """The files of imported modules that lie neither in usbench nor where packages are installed."""
    known = [Path(usbench.__file__).parent.resolve()]
    known += [
        Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")
    ]
    known += [
        Path(folder).resolve()
        for folder in sys.path
        if Path(folder).name in ("site-packages", "dist-packages")
    ]
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        # Tests and notebooks put other things among the modules.
        if isinstance(file, str) and file.endswith(".py") and Path(file).is_file():
            path = Path(file).resolve()
            if not any(path.is_relative_to(folder) for folder in known):
                found.add(path)
    return sorted(found)
