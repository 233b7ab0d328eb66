"""Which patients train and which test: fixed by case id, or derived from the case ids alone.

The rule is the same for both. Cases are ordered by the SHA-256 of a text (for a fixed split
"<task>:<case id>", for a derived one the case id) and dealt round-robin into the folds. A case id
is a patient, so no patient is on both sides. The fixed folds are stored in `splits.json`, so that
they stay what they are whatever becomes of the rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from usbench.contracts.data import Task
from usbench.contracts.names import natural_key
from usbench.errors import UsbenchError
from usbench.runtime.console import count
from usbench.storage.files import digest_of
from usbench.storage.texts import read_json

FOLDS = 5
_FILE = Path(__file__).with_name("splits.json")


@dataclass(frozen=True)
class Split:
    """The folds of a data set, each a tuple of case ids in natural order; fold k tests, the rest trains.

    `rule` says whether the folds are the fixed ones of the task or derived from the case ids;
    `digest` (hex) changes whenever a case changes its fold.
    """

    folds: tuple[tuple[str, ...], ...]
    rule: Literal["fixed", "derived"]
    digest: str

    def test(self, fold: int) -> tuple[str, ...]:
        """The test cases of `fold`, which nothing may be selected on."""
        return self.folds[self._checked(fold)]

    def train(self, fold: int) -> tuple[str, ...]:
        """The training cases of `fold`: those of all other folds, in natural order."""
        self._checked(fold)
        return _sorted(case for i, cases in enumerate(self.folds) if i != fold for case in cases)

    def _checked(self, fold: int) -> int:
        if not 0 <= fold < len(self.folds):
            raise UsbenchError(f"fold {fold} does not exist; this data has folds 0 to {len(self.folds) - 1}")
        return fold


def make_split(task: Task, case_ids: Sequence[str]) -> Split:
    """The split of a task for the cases at hand.

    The task's fixed folds (`Task.folds`), restricted to `case_ids`, are used if they know every case and
    each keeps at least half of its cases. Else min(5, n) folds of even size are derived from the case ids.

    Args:
        task: whose folds.
        case_ids: the cases at hand, in any order.

    Returns:
        The folds, each with at least one test case.

    Raises:
        UsbenchError: for fewer than two cases: nothing would be left to train on.
    """
    present = set(case_ids)
    if len(present) < 2:
        raise UsbenchError(
            f"{task.name}: {count(present, 'case')} cannot be split into training and test; give at least 2"
        )
    fixed = task.folds
    kept = tuple(tuple(case for case in fold if case in present) for fold in fixed)
    halves = all(2 * len(some) >= len(whole) for some, whole in zip(kept, fixed, strict=True))
    if kept and halves and sum(map(len, kept)) == len(present):
        return _split(kept, "fixed")
    return _split(deal(present, min(FOLDS, len(present))), "derived")


def deal(case_ids: Iterable[str], folds: int, prefix: str = "") -> tuple[tuple[str, ...], ...]:
    """Order `case_ids` by the SHA-256 of `prefix` + id and deal them round-robin into `folds` folds."""
    ordered = sorted(set(case_ids), key=lambda case: hashlib.sha256(f"{prefix}{case}".encode()).hexdigest())
    return tuple(_sorted(ordered[i::folds]) for i in range(folds))


def subset_of(case_ids: Iterable[str], count: int, seed: int) -> tuple[str, ...]:
    """So many of some patients, by chance.

    Patients are ordered by the SHA-256 of "<seed>:<case id>", and the first are taken: of one seed a smaller
    subset lies within every larger one, and in another fold the order of the patients that both have is the
    same.

    Args:
        case_ids: the training patients of a fold, in any order.
        count: how many, from 1 to all of them.
        seed: of the cell.

    Returns:
        Case ids in natural order.
    """
    ordered = sorted(set(case_ids), key=lambda case: hashlib.sha256(f"{seed}:{case}".encode()).hexdigest())
    return _sorted(ordered[:count])


@cache
def fixed_folds(task: str) -> tuple[tuple[str, ...], ...]:
    """The fixed folds of a built-in task, from `splits.json`."""
    stored = read_json(_FILE, "the table of fixed splits", "install usbench again")
    return tuple(tuple(fold.split()) for fold in stored["folds"][task])


def _sorted(case_ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(case_ids, key=natural_key))


def _split(folds: tuple[tuple[str, ...], ...], rule: Literal["fixed", "derived"]) -> Split:
    folds = tuple(_sorted(fold) for fold in folds)
    return Split(folds, rule, digest_of([list(fold) for fold in folds]))
