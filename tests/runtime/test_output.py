"""Standard output in any encoding, on a full device, and closed: one clear line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAY = (
    "import sys, click\n"
    "import usbench.cli.main as m\n"
    "@m.main.command('speak')\n"
    "def speak():\n"
    "    click.echo('case \\u60a3\\u8005 \\u00e9')\n"
    "sys.argv = ['usbench', 'speak']\n"
    "m.entry()\n"
)


def speak(stdout: object, **env: str) -> subprocess.CompletedProcess[bytes]:
    words: dict[str, Any] = {"stdout": stdout, "stderr": subprocess.PIPE, "env": {**os.environ, **env}}
    return subprocess.run([sys.executable, "-c", SAY], check=False, **words)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "case 患者 é".encode()),
        ("cp1252", b"case \\u60a3\\u8005 \xe9"),
        ("latin-1", b"case \\u60a3\\u8005 \xe9"),
        ("shift_jis", "case 患者 ".encode("shift_jis") + b"\\xe9"),
    ],
)
def test_characters_that_an_encoding_lacks_are_escaped(encoding: str, said: bytes) -> None:
    done = speak(subprocess.PIPE, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(b"\r\n", b"\n").rstrip(b"\n") == said.rstrip(b"\n")
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = speak(full)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert "standard output: cannot be written (No space left on device)" in lines[0]


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = speak(pipe)
    assert b"Traceback" not in done.stderr
    assert b"unexpected" not in done.stderr
