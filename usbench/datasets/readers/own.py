"""The reader that a task of a plugin brings, held to its word at every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.classes import value_fault
from usbench.contracts.data import Case, ExaminingReader, Reader, Scans, Task, ThreeMethods
from usbench.contracts.names import case_id_fault, natural_key, twins
from usbench.contracts.problem import DataError, DataProblem, Report, fail, plugin_raised
from usbench.datasets.readers.scans import scan_fault, scan_remedy
from usbench.errors import UsbenchError

_MEND = "mend the reader"


class OwnReader(ExaminingReader):
    """Calls the reader that a plugin brings and checks what it gives.

    Every error names the task: what the reader raised, and what of a case is not as `Case` says. What the
    reader does not bring of `Reader` follows from its `case_ids`, `files` and `read`.

    Args:
        task: The task.
        root: The folder of the cases.
        make: What the plugin brings, `(task, root) -> reader`.
    """

    def __init__(self, task: Task, root: Path, make: Callable[[Task, Path], ThreeMethods]) -> None:
        """Make the plugin's reader.

        Raises:
            UsbenchError: Where `make(task, root)` raises anything.
        """
        super().__init__(task, root)
        self._reader: ThreeMethods = self._call("making it", lambda: make(task, self.root))
        self.thread_safe = bool(getattr(self._reader, "thread_safe", False))

    def survey(self, report: Report) -> list[str]:
        """The cases on disk, sorted naturally; absent files, or what the reader finds, go to `report`.

        Raises:
            UsbenchError: Where the reader fails, finds no case, or gives names that are not usable.
        """
        survey = self._brought("survey")
        if survey is not None:
            return self._checked(self._call("survey()", lambda: list(survey(self._only_problems(report)))))
        ids = self._checked(self._call("case_ids()", lambda: list(self._reader.case_ids())))
        for case_id in ids:
            for file in self.files(case_id):
                if not file.is_file():
                    report(DataProblem(case_id, file, "the file is absent", "extract the data set again"))
        return ids

    def _checked(self, ids: list[Any]) -> list[str]:
        if not ids:
            raise self._error(f"its reader finds no case in {self.root}", "check the folder")
        for case_id in ids:
            if fault := case_id_fault(case_id):
                what = f"its reader names a case {case_id!r}, which {fault}"
                raise self._error(what, "give plain names of files, without folders")
        twice = [case_id for case_id, count in Counter(ids).items() if count > 1]
        if twice:
            raise self._error(f"its reader names case {twice[0]} twice", _MEND)
        if alike := twins(ids):
            what = (
                f"its reader names the cases {alike[0]!r} and {alike[1]!r}, which some systems take for one"
            )
            raise self._error(what, "rename one of the two")
        return sorted(ids, key=natural_key)

    def files(self, case_id: str) -> list[Path]:
        """Every raw file of a case; a change in one of them prepares the case again.

        Raises:
            UsbenchError: Where the reader fails or gives no paths.
        """
        given = self._call(f"files('{case_id}')", lambda: list(self._reader.files(case_id)))
        if not given or not all(isinstance(file, str | Path) for file in given):
            raise self._error(f"its reader gives {given!r} as the files of case {case_id}", "give paths")
        return [Path(file) for file in given]

    def read(self, case_id: str) -> Case:
        """Read one case.

        Raises:
            UsbenchError: Naming the task, the case and what is wrong.
        """
        given = self._call(f"read('{case_id}')", lambda: self._reader.read(case_id))
        case = self._sound(case_id, given, fail)
        assert case is not None
        return case

    def patients(self) -> list[str]:
        """The cases of which scans are there, as the reader says, else all of them; sorted naturally."""
        own = self._brought("patients")
        return (
            self.case_ids() if own is None else self._checked(self._call("patients()", lambda: list(own())))
        )

    def images(self, case_id: str) -> Scans:
        """The scans of one case, checked as `read` checks a case.

        Raises:
            UsbenchError: Naming the task, the case and what is wrong.
        """
        own = self._brought("images")
        if own is None:
            return super().images(case_id)
        given = self._call(f"images('{case_id}')", lambda: own(case_id))
        if not isinstance(given, Scans) or getattr(given.images, "ndim", 0) != 4:
            raise self._error(f"its reader gives no Scans with images [M, X, Y, Z] for {case_id}", _MEND)
        empty = np.zeros(given.images.shape[1:], dtype=np.uint8)
        case = self._sound(case_id, Case(given.case_id, given.images, empty, given.affine), fail)
        assert case is not None, "every problem was raised"
        return Scans(case_id, case.images, case.affine, tuple(map(Path, given.slices)))

    def recipe(self, case_id: str) -> Any:
        """What the reader says it takes from where; None where it says nothing."""
        recipe = self._brought("recipe")
        return None if recipe is None else self._call(f"recipe('{case_id}')", lambda: recipe(case_id))

    def examine(self, case_id: str, report: Report) -> Case | None:
        """Read one case, handing every problem to `report`; None if there was one.

        Raises:
            UsbenchError: Where the reader fails, or gives nothing that can be checked.
        """
        examine, found = self._brought("examine"), []

        def note(problem: DataProblem) -> None:
            found.append(problem)
            report(problem)

        if examine is None:
            case = self._call(f"read('{case_id}')", lambda: self._reader.read(case_id))
        else:
            case = self._call(f"examine('{case_id}')", lambda: examine(case_id, self._only_problems(note)))
            if case is None and not found:
                raise self._error(f"its reader gives no case {case_id} and names no fault of it", _MEND)
            if case is None:
                return None
        sound = self._sound(case_id, case, note)
        return None if found else sound

    def mask_file(self, case_id: str) -> Path:
        """The file of a case's mask, for messages: what the reader says, else the last of its `files`."""
        mask_file = self._brought("mask_file")
        if mask_file is None:
            return self.files(case_id)[-1]
        return Path(self._call(f"mask_file('{case_id}')", lambda: mask_file(case_id)))

    def is_phantom(self) -> bool:
        """Whether the folder has the mark of a phantom, or the reader says so."""
        own = self._brought("is_phantom")
        return super().is_phantom() or (own is not None and bool(self._call("is_phantom()", own)))

    def _brought(self, name: str) -> Callable[..., Any] | None:
        """A method that the reader brings itself; None where it has none, or that of `Reader`."""
        method = getattr(self._reader, name, None)
        return None if getattr(method, "__func__", None) is getattr(Reader, name) else method

    def _only_problems(self, report: Report) -> Report:
        """`report` for the reader of a plugin, which may hand it anything."""

        def checked(problem: DataProblem) -> None:
            if not isinstance(problem, DataProblem):
                kind = type(problem).__name__
                raise self._error(f"its reader reports a {kind}, not a usbench.DataProblem", _MEND)
            report(problem)

        return checked

    def _sound(self, case_id: str, case: Any, report: Report) -> Case | None:
        """`case` if it is what `Case` says; else None, every fault handed to `report`."""
        if not isinstance(case, Case):
            raise self._error(f"its reader gives a {type(case).__name__} for case {case_id}", "give a Case")
        file, found = self.files(case_id)[0], False
        for what, remedy in self._faults(case_id, case):
            found = True
            report(DataProblem(case_id, file, f"task {self.task.name}, case {case_id}: {what}", remedy))
        return None if found else replace(case, affine=np.asarray(case.affine, dtype=np.float64))

    def _faults(self, case_id: str, case: Case) -> Iterator[tuple[str, str]]:
        task = self.task
        if case.case_id != case_id:
            yield f"the reader gives case {case.case_id!r} for it", _MEND
        for name, array, dtype in (
            ("the images are", case.images, np.float32),
            ("the mask is", case.mask, np.uint8),
        ):
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                yield f"{name} {kind}, not an array of {np.dtype(dtype)}", "convert in the reader"
                return
        wanted = (len(task.modalities), *case.mask.shape)
        if case.mask.ndim != 3 or not case.mask.size or case.images.shape != wanted:
            yield (
                (
                    f"images {case.images.shape} and mask {case.mask.shape}, expected [M, X, Y, Z] with M = "
                    f"{len(task.modalities)} ({', '.join(task.modality_names)}) and [X, Y, Z]"
                ),
                "read the modalities of the task that the reader is given, all on one grid",
            )
            return
        yield from self._affine_faults(case.affine)
        for modality, volume in zip(task.modalities, case.images, strict=True):
            if wrong := scan_fault(volume, modality.name):
                yield wrong, scan_remedy(wrong)
        if fault := value_fault(case.mask, task.class_names, task.regions):
            yield (
                fault,
                "set bit i, of value 2**i, where region i (from 0) of the task that the reader is given is"
                if task.regions
                else "number the classes of the task that the reader is given from 1",
            )
        strange = sorted(set(case.agreement) - set(task.class_names))
        if strange:
            yield f"agreement names '{strange[0]}', which is no class of the task", _MEND

    def _affine_faults(self, affine: Any) -> Iterator[tuple[str, str]]:
        try:
            matrix = np.asarray(affine, dtype=np.float64)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        sound = matrix.shape == (4, 4) and bool(np.isfinite(matrix).all())
        if not sound or abs(np.linalg.det(matrix[:3, :3])) < 1e-9 or list(matrix[3]) != [0, 0, 0, 1]:
            yield (
                "the affine does not place the voxels in space",
                "give a 4 x 4 matrix, voxel index to RAS+ mm",
            )

    def _call(self, doing: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except DataError:
            raise
        except UsbenchError as error:
            raise UsbenchError(f"task {self.task.name}: {error}") from error
        except Exception as error:
            raise plugin_raised(self.task.name, "its reader", doing, error) from error

    def _error(self, what: str, remedy: str) -> UsbenchError:
        return UsbenchError(f"task {self.task.name}: {what}; {remedy}")
