"""Names and messages of others cannot command a terminal, wherever they are printed."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from usbench.cli.echo import echo
from usbench.runtime.console import listening, say
from usbench.runtime.safe_console import SafeConsole
from usbench.runtime.terminal_text import shown

EVIL = "a\x1b[2J\x1b]0;title\x07b\rc\x9bd\u202ee\u2066f\u2028g\x7fh"
SAFE = r"a\u001b[2J\u001b]0;title\u0007b\u000dc\u009bd\u202ee\u2066f\u2028g\u007fh"


def test_what_a_terminal_obeys_is_written_out():
    assert shown(EVIL) == SAFE
    assert shown("患者 é\tβ\n\u200d") == "患者 é\tβ\n\u200d"
    assert shown("\U000e0041\ud800") == r"\udb40\udc41\ud800"
    assert json.loads(shown(json.dumps({"name": EVIL}, ensure_ascii=False))) == {"name": EVIL}
    # Beside what is usual, nothing of it is left in all of Unicode's controls.
    every = "".join(map(chr, range(0x3000)))
    left = re.sub(r"[\t\n]", "", shown(every))
    assert not [one for one in left if ord(one) < 32 or 0x7F <= ord(one) < 0xA0]


def test_commands_and_messages_go_through_it(capsys):
    echo(EVIL)
    echo(EVIL, err=True)
    heard: list[str] = []
    with listening(heard.append):
        say(EVIL)
    printed = capsys.readouterr()
    assert printed.out == SAFE + "\n"
    assert heard == [SAFE]
    assert "\x1b" not in printed.err
    assert "\r" not in printed.err


def test_tables_and_bars_keep_their_styles_alone():
    out = io.StringIO()
    console = SafeConsole(file=out, width=200, force_terminal=True, color_system="standard")
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL, style="bold")
    console.print(table)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(EVIL)
    text = out.getvalue()
    assert "\x1b[1m" in text
    assert r"a\u001b[2J\u001b]0;title" in text
    assert not set("\x07\x9b\u202e\u2066\u2028\x7f") & set(text)
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert "\rc" not in text


@pytest.mark.parametrize("word", [r"click\.s?echo\(", r"(?<![\w.])print\(", r"(?<!\w)Console\((?!\))"])
def test_nothing_else_prints(word):
    room = Path(__file__).parents[2] / "usbench"
    allowed = {"cli/echo.py", "runtime/safe_console.py"}
    found = [
        str(file.relative_to(room))
        for file in sorted(room.rglob("*.py"))
        if "_program" not in str(file) and "templates" not in file.parts
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.match(rf"\s+.*{word}", line)
    ]
    assert not set(found) - allowed
