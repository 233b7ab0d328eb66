"""What usbench asks of a task that a plugin brings, before anything is read with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from usbench.contracts.classes import class_faults
from usbench.contracts.data import Modality, Phantom, Structure, Task
from usbench.datasets.readers.layouts import layout_of
from usbench.errors import UsbenchError
from usbench.runtime.console import count


def check_task(task: Task, origin: str) -> None:
    """Raise `UsbenchError`, one line that names the task, for the first thing that is wrong with it."""
    for what in _faults(task):
        raise UsbenchError(f"task '{task.name}' ({origin}): {what}")


def _faults(task: Task) -> Iterator[str]:
    from usbench.contracts.names import safe_name

    if not isinstance(task.name, str) or not task.name or safe_name(task.name) != task.name:
        yield "its name is not safe on a command line; use lower-case letters, digits and hyphens"
    lists = (("modality", task.modalities, Modality), ("class", task.classes, Structure))
    for word, parts, kind in lists:
        if not isinstance(parts, tuple) or not all(isinstance(part, kind) for part in parts):
            yield f"its {word} list is no tuple of usbench.{kind.__name__}; write ({kind.__name__}(...), ...)"
            return
        if not parts:
            yield f"it has no {word}; name at least one"
        names = [part.name for part in parts]
        for part in parts:
            if not part.name or safe_name(part.name) != part.name:
                yield f"{word} '{part.name}' has no safe name; use lower-case letters, digits and hyphens"
            if not part.words:
                yield f"{word} {part.name} has no words; prompts and pictures need them"
        if twice := _twice(names):
            yield f"{word} {twice} is there twice; give each its own name"
    try:
        hash(task)
    except TypeError:
        yield "one of its values is a list or a dict; use tuples throughout"
        return
    yield from class_faults(task.classes, task.regions)
    try:
        yield from layout_of(task).faults(task)
    except UsbenchError as error:
        yield str(error)
        return
    if not task.nsd_tolerance_mm > 0:
        yield f"nsd_tolerance_mm is {task.nsd_tolerance_mm}; give millimetres above 0"
    for name in ("title", "licence", "citation"):
        if not getattr(task, name).strip():
            yield f"it states no {name}; write it, or 'not stated'"
    if task.phantom is not None:
        yield from _phantom_faults(task.phantom)
    dealt = [case for fold in task.folds for case in fold]
    if task.folds and (len(task.folds) < 2 or not all(task.folds)):
        yield f"folds has {count(task.folds, 'fold')}, or an empty one; give at least two with cases in each"
    if twice := _twice(dealt):
        yield f"case {twice} is in two folds; a patient must be in one"
    if task.case_ids and (absent := sorted(set(dealt) - set(task.case_ids))):
        yield f"folds names case {absent[0]}, which case_ids does not; correct one of the two"


def _phantom_faults(phantom: object) -> Iterator[str]:
    if not isinstance(phantom, Phantom):
        yield f"its phantom is a {type(phantom).__name__}; make it a usbench.Phantom(case_ids, write_case)"
    elif len(phantom.case_ids) < 2 or not all(isinstance(name, str) and name for name in phantom.case_ids):
        yield "its phantom has fewer than two case_ids, or one that is no text; name at least two patients"
    elif twice := _twice(phantom.case_ids):
        yield f"its phantom names case {twice} twice; name every patient once"
    elif not all(map(callable, (phantom.write_case, phantom.write_index, phantom.second_scanner or print))):
        yield "write_case, write_index or second_scanner of its phantom is no function; give functions"


def _twice(names: Sequence[str]) -> str:
    return next((name for name, count in Counter(names).items() if count > 1), "")
