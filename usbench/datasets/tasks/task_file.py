"""A task that a file describes (task.yaml): read strictly, and made a `Task`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from usbench.contracts.data import Modality, Structure, Task
from usbench.contracts.files import Group, ScanFiles, TaskFiles
from usbench.contracts.names import case_id_fault
from usbench.contracts.origins import FileOrigin
from usbench.datasets.case_table import read_case_table
from usbench.datasets.tasks.checks import check_task
from usbench.datasets.tasks.document import GroupTable, Part, TaskDocument, check_document
from usbench.errors import UsbenchError, unknown
from usbench.storage.files import at_home
from usbench.storage.texts import read_yaml


def load_task_file(path: str | Path, taken: Sequence[str] = (), masks: bool = True) -> Task:
    """The task that a file describes.

    Args:
        path: of the file, YAML.
        taken: names that such a task may not have.
        masks: whether it has to say where the masks are; new patients have none.

    Raises:
        UsbenchError: one line that names the file, the key and the remedy.
    """
    path = at_home(path)
    document = check_document(_read(path, "a task"), str(path))
    if document.name in taken:
        what = f"its name '{document.name}' is that of a built-in task, and their results would mix"
        raise UsbenchError(f"{path}: {what}; give it another name")
    task = _task(document, path)
    checked = task
    if not masks and task.files is not None and not task.files.mask:
        checked = replace(task, files=replace(task.files, mask="{case}/no-mask.nii.gz"))
    check_task(checked, str(path))
    return task


def _read(path: Path, what: str) -> Any:
    return read_yaml(
        path,
        what,
        "check the path; usbench data import FOLDER writes a task file",
        "correct it; a pattern that begins with { or * needs quotes",
    )


def _task(document: TaskDocument, path: Path) -> Task:
    if bool(document.classes) == bool(document.regions):
        both = "both 'classes' and 'regions'" if document.classes else "neither 'classes' nor 'regions'"
        raise UsbenchError(f"{path}: has {both}; write one of the two, such as 'classes: {{tumour: [1, 2]}}'")
    folder = (path.parent / at_home(document.folder)).resolve()
    if not folder.is_dir():
        raise UsbenchError(f"{path}: there is no folder {folder}; correct 'folder'")
    scans = tuple(ScanFiles(name, one.pattern, one.channel) for name, one in document.modalities.items())
    for case in (*document.cases, *document.exclude):
        if fault := case_id_fault(case):
            raise UsbenchError(f"{path}: the case '{case}' {fault}; rename it")
    reason = (
        document.tolerance_reason or "as for the organs of the built-in tasks, since the file states none"
    )
    return Task(
        name=document.name,
        title=document.title or document.name,
        reader="files",
        modalities=tuple(
            Modality(name, one.words or _plain(name)) for name, one in document.modalities.items()
        ),
        classes=_structures(document.classes or document.regions),
        regions=bool(document.regions),
        folds=_folds(document.split, path),
        nsd_tolerance_mm=document.nsd_tolerance_mm,
        tolerance_reason=reason,
        licence=document.licence,
        citation=document.citation,
        homepage=document.homepage,
        mirrors=document.mirrors,
        found=FileOrigin(path.absolute()),
        files=TaskFiles(
            folder=folder,
            scans=scans,
            mask=document.mask,
            cases=tuple((case, tuple(files.items())) for case, files in document.cases.items()),
            exclude=tuple(document.exclude),
            reference=document.reference or scans[0].name,
            resample=document.other_grids == "resample",
            groups=_groups(document, path),
        ),
    )


def _plain(name: str) -> str:
    return name.replace("-", " ")


def _structures(parts: dict[str, Part]) -> tuple[Structure, ...]:
    return tuple(
        Structure(name, one.words or _plain(name), labels=tuple(one.labels), threshold=one.threshold)
        for name, one in parts.items()
    )


def _groups(document: TaskDocument, path: Path) -> tuple[Group, ...]:
    given = document.groups
    if isinstance(given, dict):
        return tuple(Group(name, tuple(values.items())) for name, values in given.items())
    spec = GroupTable(file=given) if isinstance(given, str) else given
    if not spec.file:
        return ()
    table = read_case_table(path.parent / at_home(spec.file), spec.case)
    for name in spec.columns:
        if name not in table.columns:
            raise UsbenchError(f"{path}: 'groups': {unknown('column', name, table.columns)}")
    return tuple(
        Group(name, tuple((case, row[name]) for case, row in table.rows.items() if row[name]))
        for name in spec.columns or table.columns
    )


def _folds(split: str | list[list[str]], path: Path) -> tuple[tuple[str, ...], ...]:
    """The folds of a split, or of a file of them; none for ""."""
    if not isinstance(split, str):
        return tuple(tuple(fold) for fold in split)
    if not split:
        return ()
    file = path.parent / at_home(split)
    content = _read(file, "the split")
    if isinstance(content, list) and content and all(isinstance(fold, dict) for fold in content):
        # The form of nnU-Net: of each fold, whom it trains on and whom it is validated on.
        content = [fold.get("val") for fold in content]
    if not isinstance(content, list) or not all(isinstance(fold, list) for fold in content):
        raise UsbenchError(f"{file}: is no list of folds; write [[case1, case2], [case3, case4]]")
    for fold in content:
        for case in fold:
            if not isinstance(case, str):
                raise UsbenchError(
                    f"{file}: names a case {case!r}, which is read as no text; put it in quotes"
                )
    return tuple(tuple(fold) for fold in content)
