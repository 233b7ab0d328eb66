"""The layout of a task that a file describes: NIfTI files found by patterns, one or several a case."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.data import PHANTOM_MARK, Case, ExaminingReader, Layout, Scans, Task
from usbench.contracts.files import MASK, TaskFiles
from usbench.contracts.names import case_id_fault, natural_key, twins
from usbench.contracts.problem import DataProblem, Report, fail
from usbench.datasets.readers.masks import class_mask
from usbench.datasets.readers.nifti import nifti_errors, open_nifti
from usbench.datasets.readers.patterns import file_fault, find_files, pattern_fault
from usbench.datasets.readers.scans import as_scan, plain_numbers, scan_fault, scan_remedy, shape_fault
from usbench.datasets.voxel_grid import grid_difference
from usbench.errors import UsbenchError, unknown

# A mask displaced by less than half a voxel still belongs to the image voxel by voxel.
_MASK_GRID = 0.5
# Scans of one session: the same grid, up to the rounding of the headers.
_SCAN_GRID = 0.1
# Less of the reference grid than this inside another scan, and the two do not show the same region.
_LEAST_OVERLAP = 0.25

Volume = tuple[np.ndarray, np.ndarray]


class FilesReader(ExaminingReader):
    """Reads the files that `Task.files` names.

    The reference modality gives the grid. A scan on another one is resampled onto it through scanner
    coordinates, or refused, as the task says; a mask on another grid is always refused.
    """

    thread_safe = True

    def __init__(self, task: Task, root: Path) -> None:
        """Raises `UsbenchError` where the task names no files."""
        super().__init__(task, root)
        if task.files is None:
            raise UsbenchError(
                f"task {task.name} names no files; describe it by a file (usbench data import)"
            )
        self._spec: TaskFiles = task.files
        self._by_name = {scan.name: scan for scan in self._spec.scans}
        # The grid is that of the reference even where a run leaves that modality out.
        names = dict.fromkeys((*task.modality_names, self._spec.reference))
        self._scans = [self._by_name[name] for name in names]

    @cached_property
    def _matched(self) -> dict[str, dict[str, list[Path]]]:
        """By case, then by modality (or `MASK`), the files that are there; sorted naturally."""
        found = find_files(self._spec, self.root)
        parts = (*(scan.name for scan in self._scans), MASK)
        needed = {case: {name: at.get(name, []) for name in parts} for case, at in found.items()}
        there = {case: at for case, at in needed.items() if any(at.values())}
        return {case: there[case] for case in sorted(there, key=natural_key)}

    def survey(self, report: Report) -> list[str]:
        """The cases of which a file is there; what one lacks, has twice or shares goes to `report`."""
        if not self._matched:
            shown = [scan.pattern for scan in self._scans if scan.pattern] or [
                case for case, _ in self._spec.cases
            ]
            raise UsbenchError(
                f"{self.root}: no file of task {self.task.name} is here (looked for {', '.join(shown[:4])}); "
                "correct the folder or the patterns in its task file"
            )
        for case_id, at in self._matched.items():
            for problem in self._case_problems(case_id, at):
                report(problem)
        for problem in (*self._shared(), *self._folds(), *self._named_in_vain()):
            report(problem)
        return list(self._matched)

    def _case_problems(self, case_id: str, at: dict[str, list[Path]]) -> Iterator[DataProblem]:
        if fault := case_id_fault(case_id):
            place = next(files[0] for files in at.values() if files)
            yield DataProblem(case_id, place, f"the case '{case_id}' {fault}", "rename its files")
        lacking = [name for name, files in at.items() if not files]
        if lacking:
            what = f"case {case_id} lacks {', '.join(self._named(case_id, name) for name in lacking)}"
            remedy = "add it, or name the case under 'exclude' in the task file"
            yield DataProblem(case_id, self.root, what, remedy)
        for name, files in at.items():
            if len(files) > 1:
                listed = ", ".join(file.relative_to(self.root).as_posix() for file in files[:4])
                what = f"case {case_id} has {len(files)} files for {name}: {listed}"
                remedy = "make the pattern in the task file fit one of them alone"
                yield DataProblem(case_id, self.root, what, remedy)

    def _named(self, case_id: str, name: str) -> str:
        named = dict(dict(self._spec.cases).get(case_id, ()))
        pattern = self._spec.mask if name == MASK else self._by_name[name].pattern
        file = named.get(name) or pattern.replace("{case}", case_id)
        return f"{name} ({file})"

    def _shared(self) -> Iterator[DataProblem]:
        """Files that stand for two things, and names of cases that are one on some systems."""
        seen: dict[Path, list[tuple[str, str, int | None]]] = defaultdict(list)
        for case_id, at in self._matched.items():
            for name, files in at.items():
                channel = None if name == MASK else self._by_name[name].channel
                for file in files:
                    before = seen[file.resolve()]
                    # Two channels of one file are two scans, but those of one case.
                    same = [
                        one
                        for one in before
                        if one[0] != case_id or MASK in (name, one[1]) or channel == one[2]
                    ]
                    before.append((case_id, name, channel))
                    for first, part, _ in same[:1]:
                        what = f"is the {part} of case {first} and the {name} of case {case_id}"
                        remedy = "give each its own file or pattern"
                        yield DataProblem(case_id, file, what, remedy)
        if alike := twins(self._matched):
            what = f"the cases '{alike[0]}' and '{alike[1]}' are one on some systems"
            yield DataProblem(alike[1], self.root, what, "rename the files of one of them")

    def _folds(self) -> Iterator[DataProblem]:
        dealt = {case for fold in self.task.folds for case in fold}
        for case in sorted(dealt - set(self._matched), key=natural_key) if dealt else ():
            what = f"the split of task {self.task.name} names case {case}, of which no file is here"
            yield DataProblem(case, self.root, what, "correct the split file")
        for case in sorted(set(self._matched) - dealt, key=natural_key) if dealt else ():
            what = f"case {case} is in no fold of the split of task {self.task.name}"
            remedy = "add it to the split file, or name it under 'exclude' in the task file"
            yield DataProblem(case, self.root, what, remedy)

    def _named_in_vain(self) -> Iterator[DataProblem]:
        """Excluded cases and groups that fit nothing here: most likely misspelt."""
        if not (self._spec.exclude or self._spec.groups):
            return
        whole = find_files(replace(self._spec, exclude=()), self.root)
        for case in self._spec.exclude:
            if case not in whole:
                what = f"'exclude' of task {self.task.name} names case {case}, of which no file is here"
                yield DataProblem(None, self.root, what, "correct it, or take it out of the task file")
        for group in self._spec.groups:
            if not {case for case, _ in group.values} & set(whole):
                what = f"no case of group {group.name} of task {self.task.name} is here"
                yield DataProblem(None, self.root, what, "write the cases as their files have them")

    def files(self, case_id: str) -> list[Path]:
        """The scans of a case and, last, its mask."""
        return list(dict.fromkeys(file for files in self._of(case_id).values() for file in files))

    def is_phantom(self) -> bool:
        """Whether a folder from the files of a case up to the data folder, or above it, has the mark."""
        files = {file for at in self._matched.values() for some in at.values() for file in some}
        folders = {folder for file in files for folder in file.absolute().parents}
        return any((folder / PHANTOM_MARK).is_file() for folder in folders)

    def recipe(self, case_id: str) -> dict[str, Any]:
        """The file and channel of each scan, the mask, the labels of each class, and the grid."""
        at = self._of(case_id)
        relative = {name: [os.path.relpath(f, self.root) for f in files] for name, files in at.items()}
        return {
            "files": relative,
            "channels": {scan.name: scan.channel for scan in self._scans},
            "labels": {one.name: sorted(one.labels) for one in self.task.classes},
            "reference": self._spec.reference,
            "resample": self._spec.resample,
        }

    def mask_file(self, case_id: str) -> Path:
        """The mask of a case, or the folder where there is none."""
        return next(iter(self._of(case_id)[MASK]), self.root)

    def _of(self, case_id: str) -> dict[str, list[Path]]:
        if case_id not in self._matched:
            raise unknown(
                f"case of task {self.task.name}",
                case_id,
                self._matched,
                f"{self.root} holds {len(self._matched)}",
            )
        return self._matched[case_id]

    def examine(self, case_id: str, report: Report) -> Case | None:
        """Read one case on the grid of its reference, every problem handed to `report`; None if one was."""
        at, found = self._of(case_id), list[DataProblem]()

        def note(problem: DataProblem) -> None:
            found.append(problem)
            report(problem)

        if any(len(files) != 1 for files in at.values()):
            # Said by the survey, for all cases at once.
            for problem in self._case_problems(case_id, at):
                note(problem)
            return None
        scans = self._read_scans(case_id, {scan.name: at[scan.name][0] for scan in self._scans}, note)
        mask = self._read_mask(case_id, at[MASK][0], note)
        if found or mask is None:
            return None
        shape, affine = scans[self._spec.reference][0].shape, scans[self._spec.reference][1]
        difference = grid_difference(shape, affine, mask[0].shape, mask[1], _MASK_GRID)
        if difference:
            reference = at[self._spec.reference][0].name
            what = (
                f"the mask is not on the grid of the {self._spec.reference} scan, {reference}: {difference}"
            )
            remedy = "name the modality it was drawn on as 'reference' in the task file, or resample the mask"
            note(DataProblem(case_id, at[MASK][0], what, remedy))
        images = self._stacked(case_id, at, scans, note)
        return None if found else Case(case_id, images, mask[0], affine)

    def patients(self) -> list[str]:
        """The cases of which a scan is there, with or without a mask, sorted naturally."""
        named = {scan.name for scan in self._scans}
        found = [c for c, at in self._matched.items() if any(at[name] for name in named)]
        return found or self.survey(fail)

    def scans_of(self, case_id: str) -> tuple[str, ...]:
        """The modalities of the task of which a case has a file."""
        return tuple(name for name in self.task.modality_names if self._of(case_id)[name])

    def images(self, case_id: str) -> Scans:
        """The scans of a case on the grid of its reference; its mask is not looked at."""
        at = {scan.name: self._of(case_id)[scan.name] for scan in self._scans}
        for problem in self._case_problems(case_id, at):
            fail(problem)
        scans = self._read_scans(case_id, {name: files[0] for name, files in at.items()}, fail)
        return Scans(case_id, self._stacked(case_id, at, scans, fail), scans[self._spec.reference][1])

    def _stacked(
        self, case_id: str, at: dict[str, list[Path]], scans: dict[str, Volume], report: Report
    ) -> np.ndarray:
        """The modalities of the task, float32 [M, X, Y, Z], on the grid of the reference."""
        shape, affine = scans[self._spec.reference][0].shape, scans[self._spec.reference][1]
        # In the order of the files (Fortran), so that nothing is shuffled in memory.
        images = np.empty((len(self.task.modalities), *shape[::-1]), dtype=np.float32).transpose(0, 3, 2, 1)
        for row, name in enumerate(self.task.modality_names):
            volume = self._on_grid(case_id, name, at[name][0], scans[name], (shape, affine), report)
            if volume is not None:
                images[row] = volume
        return images

    def _on_grid(
        self,
        case_id: str,
        name: str,
        file: Path,
        scan: Volume,
        grid: tuple[tuple[int, ...], np.ndarray],
        report: Report,
    ) -> np.ndarray | None:
        """A scan on the grid of the reference (shape, affine); None where that is not possible."""
        volume, affine = scan
        difference = grid_difference(*grid, volume.shape, affine, _SCAN_GRID)
        if difference is None:
            return volume
        where = f"the {name} scan is not on the grid of the {self._spec.reference} scan: {difference}"
        if not self._spec.resample:
            remedy = "resample it, or write 'other-grids: resample' in the task file"
            report(DataProblem(case_id, file, where, remedy))
            return None
        from usbench.datasets.resampling import onto_grid, overlap

        share = overlap(volume.shape, affine, *grid)
        if share < _LEAST_OVERLAP:
            what = f"{where}; only {share:.0%} of it lie inside the {name} scan"
            report(DataProblem(case_id, file, what, "check that both are of one patient and one session"))
            return None
        return onto_grid(volume, affine, *grid)

    def _read_scans(self, case_id: str, files: dict[str, Path], report: Report) -> dict[str, Volume]:
        """The scans of a case by modality, float32 [X, Y, Z] with their affines; each file is opened once."""
        volumes: dict[str, Volume] = {}
        for file in dict.fromkeys(files.values()):
            # Forward through the file, so that a compressed one is unpacked once.
            here = sorted(
                (self._by_name[n] for n, f in files.items() if f == file), key=lambda s: s.channel or 0
            )
            with nifti_errors(case_id, file, report), open_nifti(file) as (proxy, affine):
                for scan in here:
                    if fault := shape_fault(proxy.shape, scan.name, scan.channel):
                        report(DataProblem(case_id, file, *fault))
                        continue
                    values = np.asarray(
                        proxy[...] if len(proxy.shape) == 3 else proxy[..., scan.channel or 0]
                    )
                    if not plain_numbers(values):
                        what = f"voxels of type {values.dtype}, plain numbers are expected"
                        report(DataProblem(case_id, file, what, "convert the image"))
                        continue
                    volume = as_scan(values)
                    if wrong := scan_fault(volume, scan.name):
                        report(DataProblem(case_id, file, wrong, scan_remedy(wrong, "exclude the case")))
                        continue
                    volumes[scan.name] = volume, affine
        return volumes

    def _read_mask(self, case_id: str, file: Path, report: Report) -> Volume | None:
        """The mask of a case, uint8 [X, Y, Z] as `Case.mask` has it, and its affine."""
        with nifti_errors(case_id, file, report), open_nifti(file) as (proxy, affine):
            raw = np.asarray(proxy[...])
            if raw.ndim == 4 and raw.shape[3] == 1:
                raw = raw[..., 0]
            if raw.ndim != 3 or not plain_numbers(raw):
                what = f"a mask of shape {raw.shape} and type {raw.dtype}, three axes of numbers are expected"
                report(DataProblem(case_id, file, what, "name the pattern of the masks in the task file"))
                return None
            mask, fault = class_mask(raw, self.task)
            if mask is not None:
                return mask, affine
            remedy = "correct the mask, or the values of the classes in the task file"
            report(DataProblem(case_id, file, fault, remedy))
        return None


def _faults(task: Task) -> Iterator[str]:
    spec = task.files
    if spec is None:
        yield "it names no files; describe it by a file (usbench data import)"
        return
    named = {scan.name for scan in spec.scans}
    if spec.reference not in named:
        yield str(unknown("reference modality", spec.reference, named))
    if MASK in named:
        yield f"a modality is called '{MASK}', as the mask is; give it another name"
    for what, pattern in [(s.name, s.pattern) for s in spec.scans] + [(MASK, spec.mask)]:
        if pattern and (fault := pattern_fault(pattern)):
            yield f"{what}: the pattern '{pattern}' {fault}"
        elif not pattern and not spec.cases:
            yield f"{what} has no pattern; write one, such as {{case}}/{what}.nii.gz"
        elif pattern and spec.cases:
            yield f"{what} has a pattern, but 'cases' names the files; keep one of the two"
    yield from _twice([(s.pattern, s.channel) for s in spec.scans if s.pattern] + [(spec.mask, None)])
    for case, files in spec.cases:
        for name, file in files:
            if name not in {*named, MASK}:
                yield f"case {case}: {unknown('scan', name, {*named, MASK})}"
            elif fault := file_fault(file):
                yield f"case {case}: the file '{file}' {fault}"
    seen: set[int] = set()
    for structure in task.classes:
        if not structure.labels or not all(0 < value < 2**31 for value in structure.labels):
            yield f"class {structure.name} has labels {list(structure.labels)}; give the mask values, from 1"
        if len(set(structure.labels)) < len(structure.labels):
            yield f"class {structure.name} names a value twice; name each once"
            continue
        for value in structure.labels:
            if value in seen and not task.regions:
                yield f"the mask value {value} belongs to two classes; make them disjoint, or write 'regions'"
            seen.add(value)


def _twice(patterns: list[tuple[str, int | None]]) -> Iterator[str]:
    for (pattern, channel), count in Counter(patterns).items():
        if count > 1 and pattern:
            which = "" if channel is None else f" with channel {channel}"
            yield f"the pattern '{pattern}'{which} is there twice; each scan has its own"


LAYOUT = Layout(
    name="files",
    description="the files that its task file names",
    open=FilesReader,
    faults=_faults,
)
