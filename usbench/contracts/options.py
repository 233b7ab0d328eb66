"""Options: what a user may ask for, said once for the command line, YAML files and Python.

An option is a field of a frozen dataclass that derives from `Options`, made by `option`. Its `Option` says
how it is called, explained, read and checked; everything that shows or takes options walks over these.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from usbench.errors import UsbenchError, unknown
from usbench.storage.tables import number, whole

Kind = Literal["text", "path", "names", "folds", "whole", "wholes", "number", "numbers", "switch", "settings"]
Command = Literal["run", "matrix"]
Asked = TypeVar("Asked", bound="Options")


@dataclass(frozen=True)
class Option:
    """How one field is called, explained, read and checked.

    Attributes:
        default: of the field.
        help: what `--help` says, in a sentence.
        kind: what a value is. "names" are several names ("a,b" or a list), "folds" the same with numbers or
            "all", "wholes" and "numbers" several of them, "settings" pairs KEY=VALUE or a mapping. A "switch"
            that is on by default is turned off by --no-FLAG.
        flag: the name on the command line and in YAML files, without dashes; by default the field's name with
            hyphens.
        metavar: what stands for the value in `--help`.
        repeated: may be given several times; the field holds a tuple.
        choices: the values there are, where they are few; a wrong one is answered with the nearest.
        called: what an error about a wrong choice calls the value; by default "value of --FLAG".
        least, most: the range of a number, both ends included.
        wrong: what an error says after a number out of range, or names that name nothing, in place of the
            usual words.
        commands: which of `usbench run` and `usbench matrix` have it.
        instead_of: for an option of `usbench matrix`, the one of `usbench run` whose place it takes.
        always: stands in the words of a command even where it has its default.
    """

    default: Any
    help: str
    kind: Kind = "text"
    flag: str = ""
    metavar: str | None = None
    repeated: bool = False
    choices: tuple[str, ...] = ()
    called: str = ""
    least: float | None = None
    most: float | None = None
    wrong: str = ""
    commands: tuple[Command, ...] = ("run", "matrix")
    instead_of: str = ""
    always: bool = False


def option(default: Any, help: str, **facts: Any) -> Any:
    """A field of `Options`.

    Args:
        default: of the field; {} for settings.
        help: what `--help` says of it.
        facts: the other attributes of `Option`.
    """
    metadata = {"option": Option(default, help, **facts)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(kind: type[Options]) -> dict[str, Option]:
    """The options of a class by name of the field, in order, each with its flag."""
    if kind not in _KNOWN:
        found = {one.name: one.metadata["option"] for one in fields(kind) if "option" in one.metadata}
        _KNOWN[kind] = {
            name: replace(one, flag=one.flag or name.replace("_", "-")) for name, one in found.items()
        }
    return _KNOWN[kind]


_KNOWN: dict[type[Options], dict[str, Option]] = {}


@dataclass(frozen=True)
class Options:
    """The base of what a user asks for: values are read and checked when the object is made.

    Values may come as a command line gives them (text, "a,b" for several names) or as Python has them; the
    fields hold one form of each. None stands for the default.
    """

    def __post_init__(self) -> None:
        for name, one in options_of(type(self)).items():
            given = getattr(self, name)
            value = None if given is None else _read(one, given)
            if value is None and one.default is not None:
                value = _read(one, one.default)
            _check(one, value)
            object.__setattr__(self, name, value)

    def with_(self: Asked, **changes: Any) -> Asked:
        """A copy with some fields changed, checked as a new object is."""
        return replace(self, **changes)


def command_words(asked: Options) -> tuple[str, ...]:
    """The words of a command line, after the command's name, that ask for the same.

    An option that has its default is left out, unless it is to stand there `always`.

    Raises:
        UsbenchError: for a value of a setting that no command line can hold.
    """
    words: list[str] = []
    for name, one in options_of(type(asked)).items():
        value = getattr(asked, name)
        if one.always or value != one.default:
            words += _words(one, value)
    return tuple(words)


def written(value: Any) -> str:
    """A value that is given once, as text: "a,b" for several names or numbers."""
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def _words(one: Option, value: Any) -> list[str]:
    """The words of one option on a command line."""
    flag = f"--{one.flag}"
    if value is None:
        return []
    if one.kind == "switch":
        return [flag] if value else [f"--no-{one.flag}"] if one.default else []
    if one.kind == "settings":
        return [word for key, inner in value.items() for word in (flag, f"{key}={_yaml(flag, key, inner)}")]
    if one.repeated:
        return [word for inner in value for word in (flag, str(inner))]
    return [flag, written(value)]


def _yaml(flag: str, key: str, value: Any) -> str:
    """A value of a setting as text that YAML reads back."""
    import yaml

    style = '"' if isinstance(value, str) else None
    try:
        text = yaml.safe_dump(
            value, default_flow_style=True, default_style=style, width=float("inf"), sort_keys=False
        )
    except yaml.YAMLError as error:
        kind = type(value).__name__
        raise UsbenchError(
            f"{flag} {key}: a value of type {kind} cannot stand on a command line; use text or numbers"
        ) from error
    return str(text).removesuffix("\n").removesuffix("\n...")


def _read(one: Option, value: Any) -> Any:
    """A value in the form that the field holds."""
    if one.repeated:
        several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
        return tuple(_READERS[one.kind](one, inner) for inner in several)
    return _READERS[one.kind](one, value)


def _path(one: Option, value: Any) -> Any:
    from usbench.storage.files import at_home

    return None if value == "" else at_home(value)


def _text(one: Option, value: Any) -> str:
    return str(value)


def _switch(one: Option, value: Any) -> bool:
    if isinstance(value, str):
        known = {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}
        if value.strip().lower() not in known:
            raise _wrong(one, value, "is neither yes nor no; write true or false")
        return known[value.strip().lower()]
    return bool(value)


_YES, _NO = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off", "")


def _parts(value: Any) -> list[str]:
    """ "a,b", a list, or one value as its parts."""
    if isinstance(value, str):
        return value.split(",")
    return [str(part) for part in value] if hasattr(value, "__iter__") else [str(value)]


def _names(one: Option, value: Any) -> tuple[str, ...] | None:
    found = tuple(dict.fromkeys(part.strip() for part in _parts(value) if part.strip()))
    if not found and value:
        raise _wrong(one, value, one.wrong or "names nothing; write names such as a,b")
    return found or None


def _folds(one: Option, value: Any) -> str:
    # Whether each is a fold is known with the data: see `usbench.runs.plan.parse_folds`.
    return ",".join(_parts(value))


def _wholes(one: Option, value: Any) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(whole(part) for part in _parts(value)))
    except ValueError as error:
        raise _wrong(one, value, f"is not a list of numbers; write {_example(one)}") from error
    if not found and one.default:
        raise UsbenchError(f"--{one.flag} names no number; write {_example(one)}")
    return found


def _example(one: Option) -> str:
    """Numbers that the option can have, as a remedy says them."""
    return "0, or 0,1,2" if not one.least else "2, or 2,5"


def _whole(one: Option, value: Any) -> int:
    words = "is not a whole number; write a number such as 2"
    if isinstance(value, bool):
        raise _wrong(one, value, words)
    try:
        return whole(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError) as error:
        raise _wrong(one, value, words) from error


def _number(one: Option, value: Any) -> float:
    try:
        return number(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(one, value, "is not a number; write a number such as 0.5") from error


def _numbers(one: Option, value: Any) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(number(part) for part in _parts(value)))
    except ValueError as error:
        raise _wrong(one, value, "is not a list of numbers; write 0.3, or 0.1,0.3,1") from error


def _settings(one: Option, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(one, value, "holds no settings; write {'train.epochs': 5}")
    return {str(key): inner for key, inner in value.items()}


_READERS: dict[Kind, Callable[[Option, Any], Any]] = {
    "text": _text,
    "path": _path,
    "names": _names,
    "folds": _folds,
    "whole": _whole,
    "wholes": _wholes,
    "number": _number,
    "numbers": _numbers,
    "switch": _switch,
    "settings": _settings,
}


def _wrong(one: Option, value: Any, words: str) -> UsbenchError:
    return UsbenchError(f"--{one.flag} '{value}' {words}")


def _check(one: Option, value: Any) -> None:
    """Raise `UsbenchError` for a value that is none of the choices, or out of range."""
    for inner in value if one.repeated else (value,):
        if one.choices and inner is not None and inner not in one.choices:
            raise unknown(one.called or f"value of --{one.flag}", inner, one.choices)
    if one.kind not in ("whole", "wholes", "number", "numbers") or value is None:
        return
    low, high = one.least, one.most
    for inner in value if isinstance(value, tuple) else (value,):
        if not ((low is None or inner >= low) and (high is None or inner <= high)):
            upto = f"choose from {low} to {high}" if high is not None else f"choose {low} or more"
            number = f"{inner:g}" if isinstance(inner, float) else str(inner)
            raise UsbenchError(f"--{one.flag} {number} {one.wrong or f'is out of range; {upto}'}")
