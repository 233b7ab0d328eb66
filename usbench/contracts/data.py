"""What a task is and what a reader gives: the words that every other room of usbench shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from usbench.contracts.case import Case as Case
from usbench.contracts.case import Modality as Modality
from usbench.contracts.case import Scans as Scans
from usbench.contracts.classes import Structure as Structure
from usbench.contracts.files import TaskFiles
from usbench.contracts.origins import Download as Download
from usbench.contracts.origins import Found
from usbench.contracts.problem import DataError, DataProblem, Report, fail
from usbench.errors import UsbenchError, unknown
from usbench.storage.files import digest_of

PHANTOM_MARK = "PHANTOM.txt"
"""The file in the folder of the cases by which a phantom is known wherever someone copies it."""


class ThreeMethods(Protocol):
    """The least that a reader of a plugin gives; the rest of `Reader` follows from it."""

    def case_ids(self) -> Sequence[str]:
        """The cases on disk."""

    def files(self, case_id: str) -> Sequence[Path]:
        """Every raw file that `read` uses for a case."""

    def read(self, case_id: str) -> Case:
        """One case."""


class Reader(ABC):
    """Reads the cases of one task from one folder.

    A reader gives `case_ids`, `files` and `read`. What `usbench data check` asks beyond these, `survey`
    and `examine`, follows from them and finds the first fault of a case; `ExaminingReader` is for readers
    that find all of them. A reader of a plugin need not inherit from either.

    Attributes:
        task: that of the run, perhaps with fewer modalities or with merged classes.
        root: the folder of the cases.
        thread_safe: whether several threads may call it at the same time.
    """

    thread_safe: bool = False

    def __init__(self, task: Task, root: Path) -> None:
        self.task = task
        self.root = Path(root)

    @abstractmethod
    def case_ids(self) -> list[str]:
        """The cases on disk, sorted naturally (case2 before case10).

        Raises:
            UsbenchError: if there is none, or a file of one is absent.
        """

    @abstractmethod
    def files(self, case_id: str) -> list[Path]:
        """Every raw file that `read` uses for a case; a change in one of them prepares the case again.

        A file that lists cases or names channels need not be among them: `recipe` says what it decides.
        """

    @abstractmethod
    def read(self, case_id: str) -> Case:
        """Read one case.

        Raises:
            UsbenchError: at the first fault, naming the file, the value and the remedy.
        """

    def recipe(self, case_id: str) -> Any:
        """What `read` takes from where: which part of which file becomes which modality and class.

        Give all that decides it besides the content of `files`, such as what a file that lists the cases says
        of this one. Where it changes, the case is prepared again, although its files are the same.

        Args:
            case_id: one of `case_ids`.

        Returns:
            Plain JSON: numbers, texts, lists and dictionaries of them; None where the files alone decide.
        """
        return None

    def survey(self, report: Report) -> list[str]:
        """The cases on disk, as `case_ids`, but absent files are handed to `report` and not raised.

        Args:
            report: a function that takes a `DataProblem`; it may raise it.
        """
        case_ids = self.case_ids()
        for case_id in case_ids:
            for file in self.files(case_id):
                if not Path(file).is_file():
                    report(
                        DataProblem(case_id, Path(file), "the file is absent", "extract the data set again")
                    )
        return case_ids

    def examine(self, case_id: str, report: Report) -> Case | None:
        """Read one case, as `read`, but every fault is handed to `report` and not only the first raised.

        Args:
            case_id: one of `case_ids`.
            report: a function that takes a `DataProblem`; it may raise it.

        Returns:
            The case, or None if it has a fault.
        """
        try:
            return self.read(case_id)
        except DataError as error:
            report(error.problem)
            return None

    def patients(self) -> list[str]:
        """The cases of which scans are there, with or without a mask, in order; by default `case_ids`.

        Raises:
            UsbenchError: if there is none.
        """
        return self.case_ids()

    def scans_of(self, case_id: str) -> tuple[str, ...]:
        """The modalities of the task of which a case has a scan; by default all."""
        return self.task.modality_names

    def images(self, case_id: str) -> Scans:
        """The scans of a case, the same arrays that `read` gives; by default taken from there.

        A reader that can do without the mask overrides this, so that patients without one can be predicted.

        Args:
            case_id: one of `patients`.

        Raises:
            UsbenchError: at the first fault, naming the file, the value and the remedy.
        """
        case = self.read(case_id)
        return Scans(case_id, case.images, case.affine)

    def mask_file(self, case_id: str) -> Path:
        """The file or folder of a case's mask, for messages: the last of its `files`."""
        return self.files(case_id)[-1]

    def is_phantom(self) -> bool:
        """Whether the data says of itself that it was simulated; such data is never taken for patients."""
        return (self.root / PHANTOM_MARK).is_file()


class ExaminingReader(Reader):
    """A reader that gives `survey`, `examine` and `files`, and finds every fault of a case at once.

    `case_ids` and `read` follow: they do the same and raise the first fault.
    """

    def case_ids(self) -> list[str]:
        """The cases on disk, sorted naturally; `UsbenchError` for the first thing that is absent."""
        return self.survey(fail)

    def read(self, case_id: str) -> Case:
        """Read one case; `UsbenchError` at its first fault."""
        case = self.examine(case_id, fail)
        if case is None:
            raise UsbenchError(f"case {case_id}: its reader gives nothing and names no fault; mend it")
        return case

    @abstractmethod
    def survey(self, report: Report) -> list[str]:
        """The cases on disk, sorted naturally; what is absent is handed to `report`.

        Args:
            report: a function that takes a `DataProblem`; it may raise it.
        """

    @abstractmethod
    def examine(self, case_id: str, report: Report) -> Case | None:
        """Read one case and hand every fault of it to `report`.

        Args:
            case_id: one of `case_ids`.
            report: a function that takes a `DataProblem`; it may raise it.

        Returns:
            The case, or None if it has a fault.
        """


def _no_name(name: str) -> bool:
    return False


def _no_faults(task: Task) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Layout:
    """A way in which data sets lie on disk: how such data is recognised and what reads it.

    Attributes:
        name: a word for it, as in `Task.reader` where it is one of usbench.
        description: what the folder of the cases holds, as the end of "its folder must hold ...".
        open: makes the reader, `(task, folder of the cases) -> Reader`: a class or a function.
        holds: whether a folder holds data in this layout. It looks at names alone and opens no file.
        parents: folders below the data folder in which people keep such data.
        any_name: whether a data folder of this name may be the folder of the cases itself although
            `Task.folder` has another name. Only a layout that `holds` recognises should say so.
        faults: what is wrong with a task that is to be read in this layout, each with its remedy.
    """

    name: str
    description: str
    open: Callable[[Task, Path], ThreeMethods]
    holds: Callable[[Path], bool] = Path.is_dir
    parents: tuple[str, ...] = ()
    any_name: Callable[[str], bool] = _no_name
    faults: Callable[[Task], Iterable[str]] = _no_faults


def _no_index(folder: Path, case_ids: Sequence[str]) -> None:
    return None


@dataclass(frozen=True)
class Phantom:
    """What makes the digital patients of a task, in the layout of its real data.

    Attributes:
        case_ids: the names that they get, in this order; as many as there are can be made.
        write_case: `(folder of the cases, case id, seed, index)` writes the files of one patient. The same
            seed and index write the same files, whatever the others are.
        write_index: `(folder of the cases, case ids)` writes what lists them, where the layout has that.
        second_scanner: as `write_case`, with another scanner: so networks can be tried on scans that are not
            like those which they were trained on. None where there is none.
    """

    case_ids: tuple[str, ...]
    write_case: Callable[[Path, str, int, int], None]
    write_index: Callable[[Path, Sequence[str]], None] = _no_index
    second_scanner: Callable[[Path, str, int, int], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A union-segmentation task: M aligned modalities in, a mask with K foreground classes out.

    Attributes:
        name: as on the command line and in results: lower-case letters, digits and hyphens.
        title: one line for lists.
        folder: where the cases lie below a data folder; "." for the data folder itself.
        modalities: the M kinds of scan, in the order of the images.
        classes: the K foreground classes, in the order of the mask's values from 1, or of its bits.
        regions: whether the classes are regions that may overlap: their `labels` may share values, each has a
            target, a sigmoid, a threshold and scores of its own, and there are at most eight.
        case_ids: the cases of the full data set; data that holds fewer is a sample. Empty where that is not
            known, as for a user's own folder: then all data is a sample. A case id is a patient.
        slices: of the full data set, all cases together, for estimates; 0 where that is not known.
        nsd_tolerance_mm: tolerance of the normalised surface distance, in mm.
        tolerance_reason: why that tolerance and no other.
        licence: of the data; "not stated" where it states none.
        citation: a full reference of the data; "not stated" likewise.
        homepage: address of the data set, or "".
        download: where the full data set can be downloaded, or None.
        mirrors: whether no class has a side, so that training may exchange left and right.
        reader: what reads the data: the name of a layout of usbench ("msd", "chaos", "files"), a class or a
            function `(task, folder of the cases) -> Reader`, or a `Layout`, which also says how such data is
            found.
        phantom: what makes its digital patients, or None where there is none.
        published: the name under which the files of publications list it ("brain", "heart"), or "".
        folds: fixed folds, tuples of case ids; without them the folds follow from the case ids.
        found: filled in by usbench for a task of a plugin: where it was found. Other processes load the
            plugin's reader and phantom by it, since the module of a plugin file has no importable name. Also
            of a task that a file describes, which other processes get whole.
        files: of a task that a file describes (task.yaml): which file is which scan; None for other tasks.
    """

    name: str
    title: str
    folder: str = "."
    modalities: tuple[Modality, ...]
    classes: tuple[Structure, ...]
    case_ids: tuple[str, ...] = ()
    slices: int = field(default=0, compare=False)
    nsd_tolerance_mm: float
    tolerance_reason: str = "not stated"
    licence: str
    citation: str
    homepage: str = ""
    download: Download | None = None
    mirrors: bool = False
    reader: str | Layout | Callable[[Task, Path], ThreeMethods] = "msd"
    phantom: Phantom | None = None
    published: str = ""
    folds: tuple[tuple[str, ...], ...] = ()
    regions: bool = False
    found: Found | None = field(default=None, compare=False, repr=False)
    files: TaskFiles | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        whole = self.found is None or self.files is not None
        return {**self.__dict__, **({} if whole else {"reader": None, "phantom": None})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.found is not None and self.files is None:
            task = self.found.load()
            self.__dict__.update(reader=task.reader, phantom=task.phantom)

    @property
    def modality_names(self) -> tuple[str, ...]:
        """The names of its modalities, in order."""
        return tuple(m.name for m in self.modalities)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its foreground classes, in order."""
        return tuple(c.name for c in self.classes)

    @property
    def thresholds(self) -> dict[str, float] | None:
        """Of regions, by name in order, the threshold of each; None where classes exclude each other."""
        return {c.name: float(c.threshold) for c in self.classes} if self.regions else None

    @property
    def definition(self) -> str | None:
        """Of a task that a file describes, the digest (hex) of what its scores mean; None for other tasks.

        That is: the values of each class and its threshold, and the grid that masks and scans are on.
        """
        if self.files is None:
            return None
        classes = [[c.name, sorted(c.labels), float(c.threshold)] for c in self.classes]
        grid = [self.files.reference, self.files.resample]
        return digest_of({"classes": classes, "regions": self.regions, "grid": grid})[:16]

    @property
    def patterns(self) -> str | None:
        """Of a task that a file describes, the digest (hex) of which file goes where; None for others."""
        return None if self.files is None else digest_of(self.files.to_json())[:16]

    @property
    def words(self) -> dict[str, list[str]]:
        """The words of its modalities and classes, of which prompts are made."""
        return {
            "modalities": [modality.words for modality in self.modalities],
            "classes": [structure.words for structure in self.classes],
        }

    def with_modalities(self, names: Sequence[str] | None) -> Task:
        """This task restricted to some modalities, in the task's own order; all for None.

        Raises:
            UsbenchError: for a name that is none of its modalities.
        """
        if not names:
            return self
        for name in names:
            if name not in self.modality_names:
                raise unknown(f"modality of task {self.name}", name, self.modality_names)
        return replace(self, modalities=tuple(m for m in self.modalities if m.name in set(names)))

    def merged(self, name: str | None) -> Task:
        """This task with all foreground classes, or regions, merged into one called `name`; itself for None.

        Raises:
            UsbenchError: for a name that is no plain word.
        """
        if not name:
            return self
        if not name.strip() or any(c in name for c in "/\\,"):
            raise UsbenchError(f"--merge-labels '{name}' cannot name a class; use a plain word")
        whole = Structure(
            name,
            name,
            labels=tuple(dict.fromkeys(v for c in self.classes for v in c.labels)),
            ranges=tuple(r for c in self.classes for r in c.ranges),
        )
        return replace(self, classes=(whole,), regions=False)
