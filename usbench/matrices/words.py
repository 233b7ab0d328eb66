"""The words of a matrix: lists of methods, fusions, tasks and seeds, and the file that may hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.config import CACHE_GB, flatten, parse_assignments, read_mapping
from usbench.errors import UsbenchError, unknown

if TYPE_CHECKING:
    from usbench.contracts.method import Method

Names = str | Sequence[str]

# Options that a file gives as one text of several names, and those that may be repeated.
_LISTS = ("methods", "fusions", "tasks", "folds", "seeds", "modalities")
_REPEATED = ("task-dir", "plugin")


@dataclass(frozen=True)
class Words:
    """What decides which cells a matrix has. methods, fusions and tasks are None for all there are; tasks
    are ("all",) where task_dirs names folders besides.

    overrides: settings by name, those of the configuration file among them. The others are as for
    `usbench.runs.start.run`.
    """

    methods: tuple[str, ...] | None = None
    fusions: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    task_dirs: tuple[Path, ...] = ()
    folds: str | Sequence[int] | None = None
    seeds: tuple[int, ...] = (0,)
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    modalities: Sequence[str] | None = None
    merge_labels: str | None = None
    data_dir: Path | None = None
    data: str = "auto"
    plugins: tuple[Path, ...] = ()
    devices: int = 1
    precision: str = "32"
    runs_dir: Path = Path("runs")
    limit: int | None = None
    cache_gb: float = CACHE_GB

    def overrides_for(self, method: Method) -> dict[str, Any]:
        """The settings that a method takes: all but the "method.KEY" of other methods."""
        theirs = {f"method.{key}" for key in method.settings}
        return {k: v for k, v in self.overrides.items() if not k.startswith("method.") or k in theirs}


def names(value: Names | None, option: str) -> tuple[str, ...] | None:
    """ "a,b" or a list of names, each once, in order; None for "all" and for nothing."""
    parts = value.split(",") if isinstance(value, str) else list(value or ())
    found = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if value and not found:
        raise UsbenchError(f"{option} '{value}' names nothing; write all, or names such as a,b")
    return None if not found or found == ("all",) else found


def numbers(value: str | int | Sequence[int], option: str) -> tuple[int, ...]:
    """ "0,1,2", one number or several, each once, in order."""
    parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else list(value)
    try:
        found = tuple(dict.fromkeys(int(part) for part in parts))
    except ValueError as error:
        raise UsbenchError(f"{option} '{value}' is not a list of numbers; write 0, or 0,1,2") from error
    if not found:
        raise UsbenchError(f"{option} names no number; write 0, or 0,1,2")
    return found


def read_file(path: Path, options: Collection[str]) -> dict[str, Any]:
    """The words in a YAML file, as the command line would give them: by name of the option.

    options: the names that there are, without dashes in front. Lists become "a,b", except for options
    that may be repeated; `set` is a mapping of settings, flat or nested, or a list of "key=value".
    Raises `UsbenchError` for a file that cannot be read and for an unknown word, with the nearest one.
    """
    content = read_mapping(path, "words", "methods: [unet, zeus]")
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key not in options:
            raise unknown(f"word of {path}", key, options)
        if key == "set":
            given = parse_assignments([str(one) for one in value]) if isinstance(value, list) else value
            if not isinstance(given, dict):
                raise UsbenchError(
                    f"{path}: set is '{value}', not settings; write 'set: {{train.epochs: 5}}'"
                )
            found[key] = flatten(given)
        elif isinstance(value, dict) or value is None:
            raise UsbenchError(f"{path}: {key} has no value that an option can have; write '{key}: VALUE'")
        elif key in _REPEATED:
            found[key] = [str(one) for one in value] if isinstance(value, list) else [str(value)]
        elif isinstance(value, list):
            if key not in _LISTS:
                raise UsbenchError(f"{path}: {key} is a list, but takes one value; write '{key}: VALUE'")
            found[key] = ",".join(str(one) for one in value)
        else:
            found[key] = str(value)
    return found
