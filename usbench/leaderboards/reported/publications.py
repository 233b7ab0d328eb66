"""What a publication reports, as a file beside this one states it, read strictly.

A file is YAML: the publication, what its protocol does not share with ours, and its tables. The figures of a
table are lines of comma-separated values, kept as text so that they stay as printed. Adding a publication is
adding a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usbench.errors import UsbenchError
from usbench.scores.registry import all_scores
from usbench.storage.tables import parse_table
from usbench.storage.texts import read_yaml

FOLDER = Path(__file__).parent

_WORDS = ("task", "method", "fusion", "part", "parameters")
_NUMBER = re.compile(r"(\d+(\.\d+)?|\.\d+)( ± \d+(\.\d+)?)?", re.ASCII)
_COUNT = re.compile(r"\d+(\.\d+)?[KM]?", re.ASCII)
_REMEDY = "compare it with the publication, and with the other files in that folder"


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
    )


class _Table(_Strict):
    table: str = Field(min_length=1, description="where the figures stand in the publication")
    units: dict[str, str] = Field(min_length=1, description="unit of each score, as printed")
    figures: str = Field(
        description="comma-separated: task,method,fusion,part,parameters as far as printed, then scores"
    )


class _Document(_Strict):
    short: str = Field(min_length=1, description="authors and name, as tables show it")
    reference: str = Field(min_length=1, description="full reference")
    address: str = Field(description="DOI or address; empty where it is not known")
    second_hand: str = Field(description="where the figures were read, if not there; else empty")
    differs: list[str] = Field(min_length=1, description="what its protocol does not share with ours")
    tasks: dict[str, list[str]] = Field(description="for each name of a task, as printed: Task.published")
    methods: dict[str, str] = Field(description="for each name of a method, as printed: ours, or empty")
    tables: list[_Table] = Field(min_length=1)


@dataclass(frozen=True)
class Printed:
    """One line of a published table.

    Attributes:
        table: Where it stands in the publication.
        task: The task, as printed.
        published: The `Task.published` of the tasks that it belongs to.
        method: The method, as printed.
        our_method: Its name in usbench, "" where usbench has none.
        fusion: The fusion, as printed; "" where none is.
        part: The class or region that the figures are of; "" for the task as a whole.
        parameters: As printed; "" where none are.
        scores: Each figure as printed, by the name of the mean in our rows (`Score.mean_name`).
        units: The unit of each figure, as printed.
    """

    table: str
    task: str
    published: tuple[str, ...]
    method: str
    our_method: str
    fusion: str
    part: str
    parameters: str
    scores: dict[str, str]
    units: dict[str, str]


@dataclass(frozen=True)
class Publication:
    """A publication and the figures that it reports.

    Attributes:
        name: Of its file, without the suffix.
        short: Authors and name.
        reference: In full.
        address: DOI or address, "" where it is not known.
        second_hand: Where the figures were read, if not in the publication itself; else "".
        differs: What its protocol does not share with ours, a sentence each.
        lines: Its figures.
    """

    name: str
    short: str
    reference: str
    address: str
    second_hand: str
    differs: tuple[str, ...]
    lines: tuple[Printed, ...]


@cache
def publications(folder: Path = FOLDER) -> tuple[Publication, ...]:
    """Every publication that has a file in a folder, sorted by the name of the file.

    Raises:
        UsbenchError: For a file that is not in order, and for two files of one publication.
    """
    found = [load_publication(file) for file in sorted(folder.glob("*.yaml"))]
    for what in ("short", "reference", "address"):
        seen: dict[str, str] = {}
        for one in found:
            value = getattr(one, what)
            if value and value in seen:
                raise UsbenchError(
                    f"{folder / one.name}.yaml: {what} '{value}' is that of {seen[value]}.yaml too; "
                    "keep one file a publication"
                )
            seen[value] = one.name
    return tuple(found)


def load_publication(file: Path) -> Publication:
    """The publication that a file describes.

    Args:
        file: YAML with the keys of `_Document`.

    Raises:
        UsbenchError: Where it cannot be read, lacks a key or has an unknown one, where a task, method, score
            or fusion is not known, a figure is no number, or a line is there twice.
    """
    try:
        document = _Document.model_validate(read_yaml(file, "published figures", _REMEDY))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:60] for part in first["loc"]) or "the file"
        raise UsbenchError(f"{file}: {where}: {first['msg'].lower()}; {_REMEDY}") from error
    try:
        lines = tuple(line for table in document.tables for line in _lines(document, table))
        _check_names(document, lines)
    except ValueError as error:
        raise UsbenchError(f"{file}: {error}; {_REMEDY}") from error
    return Publication(
        file.stem,
        document.short,
        document.reference,
        document.address,
        document.second_hand,
        tuple(document.differs),
        lines,
    )


def _lines(document: _Document, table: _Table) -> Iterator[Printed]:
    """The lines of a table; a ValueError names what is wrong with one."""
    known = {score.mean_name for score in all_scores()}
    try:
        heads, rows = parse_table(table.figures)
    except ValueError as error:
        raise ValueError(f"{table.table}: {error}") from error
    scores = [name for name in heads if name not in _WORDS]
    if not {"task", "method"} <= set(heads):
        raise ValueError(f"{table.table}: no column is 'task', or none 'method'")
    if strange := [name for name in scores if name not in known]:
        raise ValueError(
            f"{table.table}: '{strange[0]}' is no score; choose among {', '.join(sorted(known))}"
        )
    if set(table.units) != set(scores):
        raise ValueError(f"{table.table}: units are of {', '.join(table.units)}, columns {', '.join(scores)}")
    for place, row in enumerate(rows, start=2):
        where = f"{table.table}, line {place}"
        yield _line(document, table, dict(zip(heads, row, strict=True)), scores, where)


def _line(document: _Document, table: _Table, row: dict[str, Any], scores: list[str], where: str) -> Printed:
    for what, names in (("task", document.tasks), ("method", document.methods)):
        if row[what] not in names:
            raise ValueError(f"{where}: '{row[what]}' is not in '{what}s'")
    values = {name: row[name] for name in scores if row[name]}
    if wrong := [value for value in values.values() if not _NUMBER.fullmatch(value)]:
        raise ValueError(f"{where}: '{wrong[0]}' is no figure")
    parameters = row.get("parameters", "")
    if parameters and not _COUNT.fullmatch(parameters):
        raise ValueError(f"{where}: '{parameters}' is no number of parameters")
    if not values:
        raise ValueError(f"{where}: has no figure")
    return Printed(
        table.table,
        row["task"],
        tuple(document.tasks[row["task"]]),
        row["method"],
        document.methods[row["method"]],
        row.get("fusion", ""),
        row.get("part", ""),
        parameters,
        values,
        {name: table.units[name] for name in values},
    )


def _check_names(document: _Document, lines: tuple[Printed, ...]) -> None:
    """A ValueError where a line is there twice, or a name is explained that no line has."""
    keys = [(one.table, one.task, one.method, one.fusion, one.part) for one in lines]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{', '.join(filter(None, key))}: is there twice")
    for what, names, used in (
        ("tasks", document.tasks, {one.task for one in lines}),
        ("methods", document.methods, {one.method for one in lines}),
    ):
        if unused := sorted(set(names) - used):
            raise ValueError(f"{what}: '{unused[0]}' has no figure")
