"""What a task is and what a reader gives: the words that every other room of usbench shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from usbench.errors import UsbenchError, unknown


class Found(Protocol):
    """Where a task of a plugin was found, as `usbench.plugins.search.Found` says it.

    `origin`: in words; `version`: of its package, or ""; `load` imports it.
    """

    @property
    def origin(self) -> str: ...

    @property
    def version(self) -> str: ...

    def load(self) -> Any: ...


@dataclass(frozen=True)
class Modality:
    """One kind of scan. `name` is used on the command line, `words` in prompts and pictures.

    `aliases` are the names under which data sets list it (compared without case).
    """

    name: str
    words: str
    aliases: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Whether a data set's `name` means this modality."""
        return name.strip().lower() in {self.name.lower(), *(alias.lower() for alias in self.aliases)}


@dataclass(frozen=True)
class Structure:
    """One foreground class. `labels` are the raw mask values that make it up.

    `ranges` is used instead where a data set gives grey-value ranges (CHAOS): inclusive pairs.
    """

    name: str
    words: str
    labels: tuple[int, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Download:
    """An archive of the full data set: where it is, how large, and how it is known to be whole.

    `bytes` or a checksum is None where the publisher states none; at least one checksum is there.
    """

    url: str
    bytes: int | None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A union-segmentation task: M aligned modalities in, a mask with K foreground classes out.

    `folder` is where the cases lie below a data folder. `case_ids` are the cases of the full data
    set (empty for a user's own folder): data that holds fewer is a sample. `nsd_tolerance_mm` is
    the tolerance of the normalised surface distance, in mm. `mirrors`: no class has a side, so that training
    may exchange left and right.

    For tasks of plugins: `reader` reads another layout, `(task, folder of the cases) -> Reader`, a class or
    a function at the top level of the plugin; `layout` says nothing then. `folds` are fixed folds by case
    id; without them the folds follow from the case ids. `found` is filled in by usbench: where the task
    was found, by which other processes load its reader.
    """

    name: str
    title: str
    layout: Literal["chaos", "msd"] = "msd"
    folder: str = "."
    modalities: tuple[Modality, ...]
    classes: tuple[Structure, ...]
    case_ids: tuple[str, ...] = ()
    nsd_tolerance_mm: float
    licence: str
    citation: str
    homepage: str = ""
    download: Download | None = None
    mirrors: bool = False
    reader: Callable[[Task, Path], Reader] | None = None
    folds: tuple[tuple[str, ...], ...] = ()
    found: Found | None = field(default=None, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # The module of a plugin file has no name under which another process could import it.
        return {**self.__dict__, "reader": self.reader if self.found is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found: Found | None = state["found"]
        self.__dict__.update(state)
        if found is not None:
            self.__dict__["reader"] = found.load().reader

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.modalities)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    @property
    def words(self) -> dict[str, list[str]]:
        """The words of its modalities and classes, of which prompts are made."""
        return {
            "modalities": [modality.words for modality in self.modalities],
            "classes": [structure.words for structure in self.classes],
        }

    def with_modalities(self, names: Sequence[str] | None) -> Task:
        """This task restricted to some modalities, in the task's own order; all for None."""
        if not names:
            return self
        for name in names:
            if name not in self.modality_names:
                raise unknown(f"modality of task {self.name}", name, self.modality_names)
        return replace(self, modalities=tuple(m for m in self.modalities if m.name in set(names)))

    def merged(self, name: str | None) -> Task:
        """This task with all foreground classes merged into one called `name`; as it is for None."""
        if not name:
            return self
        if not name.strip() or any(c in name for c in "/\\,"):
            raise UsbenchError(f"--merge-labels '{name}' cannot name a class; use a plain word")
        whole = Structure(
            name,
            name,
            labels=tuple(v for c in self.classes for v in c.labels),
            ranges=tuple(r for c in self.classes for r in c.ranges),
        )
        return replace(self, classes=(whole,))


@dataclass(frozen=True)
class Case:
    """One patient as a reader gives it, every modality on one grid.

    images: float32 [M, X, Y, Z] in the task's order of modalities, raw intensities.
    mask: uint8 [X, Y, Z], 0 for background and i + 1 for the task's i-th class.
    affine: float64 [4, 4], voxel index to RAS+ millimetres.
    agreement: Dice between two annotations of the same patient, by class, where there are two.
    """

    case_id: str
    images: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    agreement: dict[str, float] = field(default_factory=dict)


class Reader(Protocol):
    """Reads one data set in its own layout. Made by `usbench.datasets.readers.layouts.open_reader`."""

    task: Task
    root: Path

    def case_ids(self) -> list[str]:
        """The cases on disk, sorted naturally. Raises `UsbenchError` if there are none."""

    def files(self, case_id: str) -> list[Path]:
        """Every raw file that `read` uses for this case."""

    def read(self, case_id: str) -> Case:
        """Read one case. Raises `UsbenchError` naming the file, the value and the remedy."""
