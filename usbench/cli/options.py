"""Options that several commands share; those of a request become options of click here."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from usbench.cli.echo import echo
from usbench.contracts.options import Option, options_of, written
from usbench.contracts.request import Request
from usbench.storage.tables import number, whole

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _loudness(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Say less or more from now on; the two cannot be asked for together, wherever they stand."""
    if not value or context.resilient_parsing:
        return
    if context.meta.setdefault("usbench.loudness", parameter.name) != parameter.name:
        raise click.UsageError("--quiet and --verbose are opposites; give one of them")
    from usbench.runtime.console import detail, set_loudness

    if parameter.name == "quiet":
        set_loudness("quiet")
        return
    from usbench import __version__
    from usbench.storage.files import cache_dir

    set_loudness("verbose")
    data = os.environ.get("USBENCH_DATA") or "none named"
    detail(f"usbench {__version__}, Python {platform.python_version()}, cache {cache_dir()}, data {data}")


def _everywhere() -> list[click.Option]:
    """The options that every command has."""
    shared: dict[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True}
    return [
        click.Option(["-q", "--quiet"], help="Say errors and results alone.", callback=_loudness, **shared),
        click.Option(["-v", "--verbose"], help="Say more of what is done.", callback=_loudness, **shared),
        # Its value is looked for in the words of the command line, since a wrong line has no context.
        click.Option(["--debug"], help="Show the traceback of an error.", **shared),
    ]


def add_everywhere(command: click.Command) -> None:
    """Give a command, and those below it, what all have: -q, -v and --debug."""
    command.params.extend(_everywhere())
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        add_everywhere(inner)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


def print_json(value: Any) -> None:
    """Print a value as a JSON document on standard output; paths become texts."""
    import json

    echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def split_names(text: str | None) -> list[str] | None:
    """Comma-separated names as a list, None where nothing was given."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _parsed(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> dict[str, Any]:
    """Settings by name: those of a file of words, and those of the command line, which win."""
    from usbench.config import parse_assignments

    return {**context.meta.get("usbench.settings", {}), **parse_assignments(value)}


class _AsWritten:
    """Digits of other alphabets and "1_000", which Python reads as numbers, are none on a command line."""

    read: Callable[[str], float]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As `click.ParamType.convert`."""
        kind: Any = self
        if isinstance(value, str):
            try:
                type(self).read(value)
            except ValueError:
                kind.fail(f"{value!r} is not a valid {kind.name}.", param, ctx)
        return super().convert(value, param, ctx)  # type: ignore[misc]


class Whole(_AsWritten, click.types.IntParamType):
    """A whole number."""

    read = staticmethod(whole)


class WholeRange(_AsWritten, click.IntRange):
    """A whole number in a range."""

    read = staticmethod(whole)


class Number(_AsWritten, click.types.FloatParamType):
    """A finite number."""

    read = staticmethod(number)


class NumberRange(_AsWritten, click.FloatRange):
    """A finite number in a range."""

    read = staticmethod(number)


_TYPES: dict[str, Any] = {
    "path": click.Path(path_type=Path),
    "whole": Whole(),
    "number": Number(),
}


def click_option(name: str, one: Option) -> Decorator:
    """The option of a command line that fills the field `name` of a request."""
    facts: dict[str, Any] = {"help": one.help, "metavar": one.metavar}
    if one.kind == "switch":
        words = f"--{one.flag}/--no-{one.flag}" if one.default else f"--{one.flag}"
        return click.option(words, name, is_flag=True, default=one.default, show_default=one.default, **facts)
    facts["type"] = _TYPES.get(one.kind, click.STRING)
    if one.kind == "settings":
        return click.option(f"--{one.flag}", name, multiple=True, callback=_parsed, **facts)
    if one.repeated:
        return click.option(f"--{one.flag}", name, multiple=True, **facts)
    # Where nothing is asked for, nothing stands as the default.
    text = None if one.default in (None, ()) else written(one.default)
    return click.option(f"--{one.flag}", name, default=text, show_default=text is not None, **facts)


def request_options(options: Mapping[str, Option]) -> Decorator:
    """All `options`, by name of the field, for a command, in order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, one in reversed(list(options.items())):
            command = click_option(name, one)(command)
        return command

    return add


def some_options(*names: str) -> Decorator:
    """Some of the options of `usbench run`, by name of the field, for another command."""
    return request_options({name: options_of(Request)[name] for name in names})


data_dir_option = some_options("data_dir")
plugin_option = some_options("plugins")
