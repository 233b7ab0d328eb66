"""How results are called where people read of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def data_words(data: Mapping[str, Any]) -> str:
    """What kind of data a result is of: "real", "phantom", "sample" or "own data".

    In result.json a user's own folder and a part of a known data set are both "sample", since nobody else can
    say whether the folder is complete. People are told which of the two it is, as far as the result knows.

    Args:
        data: A result.json.
    """
    kind: str = data["data"]["kind"]
    return "own data" if kind == "sample" and _is_own(data["task"].get("origin", "")) else kind


def task_words(data: Mapping[str, Any]) -> str:
    """The task of a result with the kind of its data, where that is not the full data set.

    Args:
        data: A result.json.

    Returns:
        For instance "chaos", "chaos (phantom)" or "my-task (own data)".
    """
    words = data_words(data)
    name: str = data["cell"]["task"]
    return name if words == "real" else f"{name} ({words})"


def _is_own(origin: str) -> bool:
    """Whether a task comes from a folder or from a task file, of which no full data set is known."""
    return origin == "folder" or origin.lower().endswith((".yaml", ".yml"))
