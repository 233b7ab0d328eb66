"""What commands print: the one way to standard output and standard error."""

from __future__ import annotations

import click

from usbench.runtime.terminal_text import shown


def echo(text: str = "", nl: bool = True, err: bool = False) -> None:
    """Print a text, in which no name or message can command the terminal.

    Args:
        text: One line or several.
        nl: Whether a line break follows.
        err: Whether it goes to standard error.
    """
    click.echo(shown(str(text)), nl=nl, err=err)
