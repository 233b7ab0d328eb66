"""Text for a terminal or a log: names and messages of files, plugins and servers can command neither."""

from __future__ import annotations

import re

# Control characters (C0 without tab and line break, DEL, C1), what turns the direction of text about
# (Unicode's bidirectional controls), separators of lines that few know, half surrogate pairs, hidden tags.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def shown(text: str) -> str:
    """`text` with what a terminal would obey written out, such as \\u001b for the start of an escape.

    Tabs and line breaks stay. What is written out in JSON means what it meant before.
    """
    return _COMMANDS.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
