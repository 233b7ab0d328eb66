"""The command line as tests call it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Command = Callable[..., subprocess.CompletedProcess[str]]
"""`usbench ...` as a process of its own: words in, what it did out."""
