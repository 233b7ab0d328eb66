"""What may stand in a task file (task.yaml), as a model that takes nothing else."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from usbench.errors import UsbenchError, unknown


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class Scan(_Strict):
    """One modality."""

    words: str = Field(default="", description="as in prompts and pictures; by default the name")
    pattern: str = Field(default="", description="its files relative to 'folder', with {case} for the case")
    channel: int | None = Field(
        default=None, ge=0, description="which volume of a file with four axes, from 0"
    )


class Part(_Strict):
    """One class or region."""

    labels: list[int] = Field(min_length=1, description="the values in the masks that make it up")
    words: str = Field(default="", description="as in prompts and pictures; by default the name")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="of a region: where its sigmoid is above")

    @field_validator("labels", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | float | str) else value


def _short(key: str) -> Any:
    """A validator that takes `name: value` for `name: {key: value}`."""

    def expand(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: one if isinstance(one, dict) else {key: one} for name, one in value.items()}

    return expand


class GroupTable(_Strict):
    """Groups that stand in a table."""

    file: str = Field(description="the table, CSV or TSV, relative to the task file")
    case: str = Field(default="case", description="its column of cases")
    columns: list[str] = Field(default=[], description="the columns to take; by default all others")


class TaskDocument(_Strict):
    """A task file. Keys with a default may be left out."""

    name: str = Field(description="name of the task: lower-case letters, digits and hyphens")
    title: str = Field(default="", description="one line for lists; by default the name")
    folder: str = Field(default=".", description="of the data, absolute or relative to the task file")
    modalities: dict[str, Scan] = Field(min_length=1, description="the modalities in order: name: pattern")
    mask: str = Field(default="", description="pattern of the masks")
    cases: dict[str, dict[str, str]] = Field(
        default={},
        description="in place of patterns, the files case by case: case: {modality: file, mask: file}",
    )
    classes: dict[str, Part] = Field(default={}, description="classes that exclude each other: name: labels")
    regions: dict[str, Part] = Field(default={}, description="in place of classes, regions that may overlap")
    exclude: list[str] = Field(default=[], description="cases that are left out")
    reference: str = Field(default="", description="the modality that gives the grid; by default the first")
    other_grids: Literal["resample", "refuse"] = Field(
        default="resample", description="what to do with scans on another grid: resample or refuse"
    )
    groups: str | GroupTable | dict[str, dict[str, str]] = Field(
        default={}, description="a table with columns such as site, or: site: {case: value}"
    )
    split: str | list[list[str]] = Field(
        default="", description="a file of folds, or the folds: lists of cases"
    )
    nsd_tolerance_mm: float = Field(default=2.0, gt=0, description="tolerance of the NSD in mm")
    tolerance_reason: str = Field(default="", description="why that tolerance")
    licence: str = Field(default="not stated", description="of the data")
    citation: str = Field(default="not stated", description="a full reference of the data")
    homepage: str = Field(default="", description="address of the data set")
    mirrors: bool = Field(default=False, description="true where left and right may be exchanged in training")

    @field_validator("modalities", mode="before")
    @classmethod
    def _patterns(cls, value: Any) -> Any:
        return _short("pattern")(value)

    @field_validator("classes", "regions", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        return _short("labels")(value)


def check_document(content: Any, where: str) -> TaskDocument:
    """The document that some YAML values are.

    Args:
        content: as YAML gives it.
        where: what they are from, for messages.

    Raises:
        UsbenchError: one line that names the first key that is wrong, and how many others are.
    """
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise UsbenchError(f"{where}: holds {kind}, not a task; usbench data import writes one")
    try:
        return TaskDocument.model_validate(content)
    except ValidationError as error:
        found = error.errors()
        # An unknown key is often the misspelt one that another error says is missing.
        found.sort(key=lambda one: one["type"] != "extra_forbidden")
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UsbenchError(f"{where}: {_words(found[0])}{more}") from error


_KEYS: dict[str, type[BaseModel]] = {
    "modalities": Scan,
    "classes": Part,
    "regions": Part,
    "groups": GroupTable,
}

_SHOULD_BE = {
    "string_type": "not text; put it in quotes",
    "int_type": "not a whole number; write a number such as 1",
    "int_from_float": "not a whole number; write a number such as 1",
    "float_type": "not a number; write a number such as 2.0",
    "finite_number": "not a finite number; write a number such as 2.0",
    "bool_type": "not true or false; write one of the two",
    "list_type": "not a list; write [1, 2]",
    "dict_type": "not names with values; write 'name: value', a line each",
    "too_short": "empty; name at least one",
    "greater_than": "out of range; choose a number above {gt}",
    "greater_than_equal": "out of range; choose {ge} or more",
    "less_than": "out of range; choose a number below {lt}",
    "literal_error": "not known; choose {expected}",
}


def _words(error: ErrorDetails) -> str:
    """An error of pydantic in words: the key, the value, and what to write."""
    place = [str(part) for part in error["loc"] if part not in ("[key]", "str", "GroupTable")]
    place = [part for part in place if not part.startswith("dict[")]
    key = ".".join(place)
    if "[key]" in error["loc"]:
        return f"'{key}' is the name {error['input']!r}, which YAML reads as no text; put it in quotes"
    if error["type"] == "extra_forbidden":
        model = TaskDocument if len(place) == 1 else _KEYS.get(place[0], TaskDocument)
        names = [field.alias or name for name, field in model.model_fields.items()]
        inside = f" in '{'.'.join(place[:-1])}'" if len(place) > 1 else ""
        return str(unknown(f"key{inside}", place[-1], names))
    if error["type"] == "missing":
        return f"'{key}' is missing; write the {_meaning(place)}"
    shown = " ".join(str(error["input"]).split())[:60]
    words = _SHOULD_BE.get(error["type"], f"not right ({error['msg']}); write the {_meaning(place)}")
    return f"'{key}' is {shown!r}, {words.format(**error.get('ctx', {}))}"


def _meaning(place: list[str]) -> str:
    model = TaskDocument if len(place) == 1 else _KEYS.get(place[0], TaskDocument)
    for name, field in model.model_fields.items():
        if (field.alias or name) == place[-1]:
            return str(field.description)
    return "value"
