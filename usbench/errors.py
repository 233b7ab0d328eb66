"""The one exception that a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsbenchError(Exception):
    """A problem that the user can act on.

    The message is one line: it names the file or the value that is wrong and the remedy.
    The command line prints it and exits with code 1; the Python API raises it.
    """

    def __init__(self, message: str) -> None:
        text = " ".join(str(message).split())
        # Names of others may hold codes that a terminal would obey.
        super().__init__("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


LOGGED = "the traceback is in "
"""How the note on an error begins that says in which log its traceback is."""


def log_note(error: BaseException) -> str:
    """Where the traceback of an error was logged, as the end of a line; "" where it was not."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(LOGGED)]
    return f"; {notes[-1]}" if notes else ""


def unknown(kind: str, value: str, choices: Iterable[str], remedy: str = "") -> UsbenchError:
    """The error for a name that is not one of `choices`, with the nearest one proposed.

    `kind` is the word for what was named ("method", "task", "setting"); `remedy` replaces the
    closing list of the choices.
    """
    names = sorted(choices)
    near = difflib.get_close_matches(str(value).lower(), [n.lower() for n in names], n=1)
    hint = ""
    if near:
        hint = f", did you mean '{next(n for n in names if n.lower() == near[0])}'?"
    closing = remedy or ("choose one of: " + ", ".join(names) if names else "there is none to choose")
    return UsbenchError(f"unknown {kind} '{value}'{hint or ';'} {closing}")


def reason_of(error: Exception, where: object = "") -> str:
    """One line on what the file of somebody else brought about, for the list of what is left out.

    Which errors a reader raises on what nobody has thought of is not known, so whoever reads such a file
    among others catches every `Exception`.

    Args:
        error: What was raised.
        where: The file, where the line is to name it; a `UsbenchError` does so by itself.
    """
    if isinstance(error, UsbenchError):
        return str(error)
    text = getattr(error, "strerror", None) or str(error) or "no message"
    name = f"{where}: " if where else ""
    return str(UsbenchError(f"{name}cannot be read ({type(error).__name__}: {str(text)[:200]}); remove it"))
