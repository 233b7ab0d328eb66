"""A part of the training patients of a fold: how many, as a share or as a number, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any


@dataclass(frozen=True)
class FewPatients:
    """How many of a fold's training patients a cell is trained on. One of the two is given.

    Attributes:
        share: of the training patients, more than 0 and less than 1; None where `cases` is given.
        cases: their number, 1 or more; None where `share` is given.
    """

    share: float | None = None
    cases: int | None = None

    def of(self, patients: int) -> int:
        """How many of so many training patients are trained on.

        A share is rounded to the nearest whole patient, halves up, and is one patient at least. A number
        may be more than there are; whoever asks for it has to look.
        """
        if self.cases is not None:
            return self.cases
        wanted = (Decimal(str(self.share)) * patients).quantize(Decimal(1), ROUND_HALF_UP)
        return max(1, int(wanted))

    @property
    def facts(self) -> dict[str, float | int]:
        """What results, protocols and tables say of it: "share" or "train_cases"."""
        return {"share": self.share} if self.share is not None else {"train_cases": self.cases or 0}

    def __str__(self) -> str:
        """In words, as titles end: "30% of the training patients" or "5 training patients"."""
        if self.share is not None:
            return f"{self.share * 100:.10g}% of the training patients"
        return f"{self.cases} training patient{'' if self.cases == 1 else 's'}"


def few_of(split: Mapping[str, Any]) -> FewPatients | None:
    """What part of its training patients a result was trained on; None for all of them.

    Args:
        split: the "split" of a result.json.
    """
    share, cases = split.get("share"), split.get("train_cases")
    return None if share is None and cases is None else FewPatients(share, cases)
