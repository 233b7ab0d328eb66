"""The method card of a submission: who made it, from what, and where to read more."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from usbench.errors import UsbenchError, unknown
from usbench.storage.files import os_errors, write_text
from usbench.storage.regular import read_bounded
from usbench.storage.texts import load_yaml

CARD_VERSION = 1
LARGEST = 16 << 10
"""Bytes of a card; the time that YAML takes grows with the square of what it nests."""

_MOST_BRACKETS = 200

_CONTROL = re.compile(r"\]\(|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def is_plain(text: str) -> bool:
    """Whether a text has no control characters and no Markdown link, which disguise what a reader sees."""
    return _CONTROL.search(text) is None


def _checked_text(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("card", "is empty")
    if not is_plain(text):
        raise PydanticCustomError("card", "has control characters, line breaks or a link in Markdown")
    return text


def _checked_notes(text: str) -> str:
    _checked_text(text.replace("\n", " "))
    return text


def _checked_entry(text: str) -> str:
    if set(text) & set("[]<>|`*\\"):
        raise PydanticCustomError("card", "has one of [ ] < > | ` * \\")
    return text


Text = Annotated[str, Field(max_length=1000), AfterValidator(_checked_text)]


class Card(BaseModel):
    """A card; all its keys but those with a default must be there and say something."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = Field(
        alias="schema",
        ge=CARD_VERSION,
        le=CARD_VERSION,
        description=f"version of this layout, {CARD_VERSION}",
    )
    entry: Annotated[
        str, Field(max_length=60), AfterValidator(_checked_text), AfterValidator(_checked_entry)
    ] = Field(description="name of the entry on the leaderboard, at most 60 characters")
    authors: list[Text] = Field(description="list of names")
    contact: Text = Field(description="e-mail address or web page where the authors can be asked")
    paper: Text = Field(description="full reference of the paper, or: unpublished")
    code: Text = Field(description="link to the code, or: not public")
    commit: Text = Field(description="commit, tag or version of that code, or: none")
    code_licence: Text = Field(description="licence of the code")
    weights: Text = Field(description="what the network starts from and where to get it, or: none")
    weights_data: Text = Field(description="the data that those weights were trained on, or: none")
    weights_licence: Text = Field(description="licence of those weights, or: none")
    hardware: Text = Field(description="what the runs were computed on")
    hours: float = Field(ge=0, lt=1e7, description="hours of computing of all runs together, a number")
    parameters: int | None = Field(
        default=None,
        ge=0,
        lt=2**50,
        description="number of parameters, by your own count (may be left out)",
    )
    notes: Annotated[str, Field(max_length=4000), AfterValidator(_checked_notes)] = Field(
        default="", description="anything else a reader should know (may be left out)"
    )


KEYS: dict[str, str] = {
    field.alias or name: str(field.description) for name, field in Card.model_fields.items()
}
"""Every key of a card and what it says."""


def load_card(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the card in a YAML file and check it.

    Returns:
        The card, None where it is no card at all, and what is wrong with it, a line each.

    Raises:
        UsbenchError: Where the file cannot be opened.
    """
    with os_errors(path, "read the card"):
        content = read_bounded(path)
    try:
        return parse_card(content, str(path))
    except UsbenchError as error:
        return None, [str(error)]


def parse_card(content: bytes, where: str) -> tuple[dict[str, Any], list[str]]:
    """Parse a card and check it.

    Args:
        content: YAML in UTF-8.
        where: The file that it is from, for messages.

    Returns:
        The card, and what is wrong with it, a line each.

    Raises:
        UsbenchError: Where it is not YAML, too large, or no mapping.
    """
    import yaml

    remedy = "usbench submit --template CARD.yaml writes one to fill in"
    if len(content) > LARGEST:
        raise UsbenchError(f"{where}: has {len(content):,} bytes, at most {LARGEST:,} are read; shorten it")
    try:
        text = content.decode("utf-8")
        if sum(map(text.count, "[{")) > _MOST_BRACKETS:
            raise UsbenchError(f"{where}: has more than {_MOST_BRACKETS} brackets; write plain text")
        # Aliases let a short text stand for an endless one.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise UsbenchError(f"{where}: uses an alias (*name), which a card may not; write it out")
        card = load_yaml(text)
    except UnicodeDecodeError as error:
        raise UsbenchError(f"{where}: is not UTF-8 text ({error.reason}); {remedy}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or ""
        why = f": {problem}" if 0 < len(problem) <= 120 else ""
        raise UsbenchError(f"{where}: is not plain YAML{line}{why}; {remedy}") from error
    if not isinstance(card, dict):
        raise UsbenchError(f"{where}: holds a {type(card).__name__}, not a card; {remedy}")
    return card, _problems(card, where)


def _problems(card: Mapping[Any, Any], where: str) -> list[str]:
    said = {key: value for key, value in card.items() if value not in (None, "", [])}
    try:
        Card.model_validate(said)
        return []
    except ValidationError as error:
        wrong = {str(one["loc"][0] if one["loc"] else ""): one for one in reversed(error.errors())}
    found = [f"{where}: {unknown('key', str(key)[:80], KEYS)}" for key in card if key not in KEYS]
    for key, meaning in KEYS.items():
        if key in wrong:
            missing = "is empty" if key in card else "is missing"
            why = missing if wrong[key]["type"] == "missing" else _words(key, wrong[key])
            found.append(f"{where}: '{key}' {why}; write the {meaning}")
    return found


def _words(key: str, error: ErrorDetails) -> str:
    """What is wrong with the value of a key."""
    if error["type"] == "card":
        return error["msg"]
    if error["type"] == "string_too_long":
        return f"is longer than {error['ctx']['max_length']} characters"
    if key == "schema":
        return f"is {str(error['input'])[:40]}"
    if key == "commit" and isinstance(error["input"], int):
        return "is read as a number, quote it"
    return {
        "hours": "is not a number of hours",
        "parameters": "is not a whole number",
        "authors": "is not a list of names",
    }.get(key, "is not text")


def dump_card(card: Mapping[str, Any]) -> bytes:
    """A card as YAML, in the order of its keys; equal cards give equal bytes."""
    import yaml

    ordered = {key: card[key] for key in KEYS if card.get(key) not in (None, "", [])}
    text: str = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)
    return text.encode()


def write_template(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write a card to fill in, with a comment above each key.

    Args:
        path: The file.
        results: The result.json of runs; what all of them say alike is filled in.

    Raises:
        UsbenchError: Where `path` is there already or cannot be written, and for runs of several methods.
    """
    methods = sorted({str(data["cell"]["method"]) for data in results})
    if len(methods) > 1:
        raise UsbenchError(
            f"{path}: a card describes one method, and these are runs of {len(methods)} "
            f"({', '.join(methods[:10])}); name the runs of one, such as RUNS/*/{methods[0]}-*"
        )
    if path.exists():
        raise UsbenchError(f"{path}: is there already; remove it or name another file")
    import yaml

    known = _known(results)
    lines = ["# The card of a submission to usbench. Fill in what is empty; every line is shown to readers."]
    for key, meaning in KEYS.items():
        value = known.get(key)
        lines += ["", f"# {meaning}"]
        if value is None:
            lines.append(f"{key}: []" if key == "authors" else f"{key}:")
        else:
            lines.append(yaml.safe_dump({key: value}, allow_unicode=True, width=10_000).rstrip("\n"))
    write_text(path, "\n".join(lines) + "\n")


def _known(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the results of runs say of a card's keys; nothing where they do not agree."""
    known: dict[str, Any] = {"schema": CARD_VERSION}
    if not results:
        return known
    methods = [data["method"] for data in results]

    def common(key: str) -> str | None:
        values = {method.get(key) for method in methods}
        return values.pop() if len(values) == 1 else None

    if name := common("name"):
        fusions = {data["cell"]["fusion"] for data in results}
        known["entry"] = f"{name}, {fusions.pop()}" if len(fusions) == 1 else name
    for key, source in (("paper", "paper"), ("weights", "weights"), ("weights_licence", "licence")):
        known[key] = common(source)
    if known["weights"] == "none":
        known["weights_data"] = "none"
    if common("origin") == "built in":
        commits = {str(data["provenance"].get("commit") or "") for data in results}
        known["code"] = f"built into usbench {results[0]['usbench']}"
        known["commit"] = (commits.pop() if len(commits) == 1 else None) or None
        known["code_licence"] = "Apache-2.0"
    known["hardware"] = "; ".join(sorted({str(data["cost"].get("device")) for data in results}))
    known["hours"] = hours_of(results)
    return known


def hours_of(results: Sequence[Mapping[str, Any]]) -> float | None:
    """The hours of computing of some runs together.

    Args:
        results: The result.json of each.

    Returns:
        Rounded to a thousandth; None where one does not say how long it took, as masks from elsewhere.
    """
    seconds = [None if _elsewhere(data) else data["cost"].get("seconds") for data in results]
    known = [float(one) for one in seconds if one is not None]
    return round(math.fsum(known) / 3600, 3) if known and len(known) == len(seconds) else None


def _elsewhere(data: Mapping[str, Any]) -> bool:
    return bool(data.get("outside", {}).get("kind") == "masks")
