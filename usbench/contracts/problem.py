"""Problems with data: a reader hands each one to a `Report`, which raises it or collects it.

Reading a case stops at its first problem; the check goes on and lists them all. Both run the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from usbench.errors import UsbenchError


@dataclass(frozen=True)
class DataProblem:
    """Something wrong with one case, file or folder. `str(problem)` is one line.

    Attributes:
        case_id: the case, or None where it is a matter of the whole data set.
        file: the file or folder, or None where there is none to name.
        what: what is wrong, with the value that is wrong.
        remedy: what to do about it.
    """

    case_id: str | None
    file: Path | None
    what: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}: " if self.file else f"case {self.case_id}: " if self.case_id else ""
        return " ".join(f"{place}{self.what}; {self.remedy}".split())


class DataError(UsbenchError):
    """A problem with data, raised.

    Attributes:
        problem: its parts.
    """

    def __init__(self, problem: DataProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[DataError], tuple[DataProblem]]:
        return type(self), (self.problem,)


Report = Callable[[DataProblem], None]


def fail(problem: DataProblem) -> NoReturn:
    """The `Report` of a reader at work: raise the problem."""
    raise DataError(problem)


def plugin_raised(task: str, whose: str, doing: str, error: Exception) -> UsbenchError:
    """The error for an exception in what a plugin brings for a task.

    Args:
        task: the task's name.
        whose: "its reader", "its phantom" or "its layout".
        doing: what was called, such as "read('patient-01')".
        error: what it raised.
    """
    words = " ".join(str(error).split()) or "no message"
    return UsbenchError(
        f"task {task}: {whose} raised {type(error).__name__} in {doing} ({words}); mend it, or the file that "
        "it names (--debug shows where)"
    )
