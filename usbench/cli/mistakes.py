"""What is said of a command line that cannot be read: one line, and the line that was probably meant."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import click

from usbench.contracts.request import run_options
from usbench.matrices.request import matrix_options


def is_bare_group(error: click.ClickException) -> bool:
    """Whether a group was called without a command: no mistake, its help is what is wanted."""
    # Of click 8.2 and later; earlier ones print the help by themselves.
    kind = getattr(click.exceptions, "NoArgsIsHelpError", None)
    return kind is not None and isinstance(error, kind)


def explain(error: click.ClickException, main: click.Group, words: Sequence[str]) -> str:
    """The line for a command line that click refuses.

    Args:
        error: What click says.
        main: The command `usbench`.
        words: The command line after `usbench`.

    Returns:
        What is wrong, and where it says what is right.
    """
    said = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return said
    if isinstance(error, click.NoSuchOption):
        found = _of_the_other(error.option_name, context.command, words)
        if found:
            return found
        if elsewhere := _commands_with(error.option_name, main):
            said += f"; it is an option of {_listed(elsewhere)}"
    end = f"ee {context.command_path} --help"
    return f"{said} S{end}" if said.endswith(("?", "?)", "')")) else f"{said}; s{end}"


def _plurals() -> dict[str, str]:
    """Options of `usbench run` by their flag, with what `usbench matrix` calls them where that differs."""
    own = run_options()
    pairs = [
        (own[one.instead_of].flag, one.flag) for one in matrix_options().values() if one.instead_of in own
    ]
    return {f"--{run}": f"--{matrix}" for run, matrix in pairs if run != matrix}


def _of_the_other(option: str, command: click.Command, words: Sequence[str]) -> str:
    """What is said of an option that `run` and `matrix` spell differently, or that one of them has alone."""
    plurals = _plurals()
    singulars = {plural: single for single, plural in plurals.items()}
    if command.name == "run":
        if option in singulars:
            one = singulars[option]
            right = _as_matrix(words, plurals)
            return (
                f"usbench run computes one {one[2:]}, with {one}; for several there is usbench matrix, with "
                f"{option}: {right}"
            )
        if option in {f"--{one.flag}" for one in matrix_options().values()}:
            return f"{option} is an option of usbench matrix: {_as_matrix(words, plurals)}"
    if command.name == "matrix":
        if option in plurals:
            right = _as_matrix(words, plurals)
            return f"usbench matrix takes several, with {plurals[option]} and not {option}: {right}"
        if option in {f"--{one.flag}" for one in run_options().values()}:
            return f"{option} is an option of usbench run, which computes one cell; leave it out"
    return ""


def _as_matrix(words: Sequence[str], plurals: Mapping[str, str]) -> str:
    """The same line for `usbench matrix`."""
    rest = list(words)
    for name in ("run", "matrix"):
        if name in rest:
            rest.remove(name)
            break
    right = []
    for word in rest:
        flag, sign, value = word.partition("=")
        right.append(f"{plurals.get(flag, flag)}{sign}{value}" if word.startswith("--") else word)
    return shlex.join(("usbench", "matrix", *right))


def _commands_with(option: str, command: click.Command, path: str = "usbench") -> list[str]:
    """The commands that have an option of that name."""
    if isinstance(command, click.Group):
        return [
            found
            for name, inner in command.commands.items()
            for found in _commands_with(option, inner, f"{path} {name}")
        ]
    return [path] if any(option in one.opts for one in command.params) else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
