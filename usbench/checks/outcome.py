"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["pass", "fail", "n/a"]


@dataclass(frozen=True)
class Outcome:
    """What one check says.

    Attributes:
        state: "pass", "fail" or "n/a".
        reason: What was seen, with numbers and where.
        remedy: Where it fails, what to change; "" for the usual remedy of the check.
    """

    state: State
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check of one method under one fusion protocol.

    Attributes:
        method: Name of the method.
        fusion: Name of the fusion protocol.
        check: Name of the check.
        state: "pass", "fail" or "n/a".
        reason: What was seen, with numbers and where.
        remedy: What to change; "" unless it failed.
        seconds: How long the check took.
    """

    method: str
    fusion: str
    check: str
    state: State
    reason: str
    remedy: str
    seconds: float


def passed(reason: str = "") -> Outcome:
    """The check holds; `reason`: what was seen."""
    return Outcome("pass", reason)


def failed(reason: str, remedy: str = "") -> Outcome:
    """The check fails; `reason`: what was seen, `remedy`: what to change ("": the usual remedy)."""
    return Outcome("fail", reason, remedy)


def not_applicable(reason: str) -> Outcome:
    """The check says nothing about this method; `reason`: why."""
    return Outcome("n/a", reason)
