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
    """Something wrong with one case, file or folder. `str(problem)` is one line."""

    case_id: str | None
    file: Path | None
    what: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}: " if self.file else f"case {self.case_id}: " if self.case_id else ""
        return " ".join(f"{place}{self.what}; {self.remedy}".split())


class DataError(UsbenchError):
    """A problem with data, raised. `problem` holds its parts."""

    def __init__(self, problem: DataProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[DataError], tuple[DataProblem]]:
        return type(self), (self.problem,)


Report = Callable[[DataProblem], None]


def fail(problem: DataProblem) -> NoReturn:
    """The `Report` of a reader at work: raise the problem."""
    raise DataError(problem)
