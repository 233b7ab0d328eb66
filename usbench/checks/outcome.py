"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["pass", "fail", "n/a"]


@dataclass(frozen=True)
class Outcome:
    """What one check says: what was seen and, where it fails, what to change ("": the usual remedy)."""

    state: State
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check of one method under one fusion protocol.

    reason: what was seen, with numbers and where. remedy: what to change, "" unless it failed.
    """

    method: str
    fusion: str
    check: str
    state: State
    reason: str
    remedy: str
    seconds: float


def passed(reason: str = "") -> Outcome:
    return Outcome("pass", reason)


def failed(reason: str, remedy: str = "") -> Outcome:
    return Outcome("fail", reason, remedy)


def not_applicable(reason: str) -> Outcome:
    return Outcome("n/a", reason)
