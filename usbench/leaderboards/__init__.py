"""The leaderboard: finished runs collected, averaged, ranked, compared and printed.

from usbench.leaderboards import build, render
print(render(build("runs"), "md"))
"""

from __future__ import annotations

from usbench.leaderboards.board import Leaderboard, build
from usbench.leaderboards.formats import FORMATS, render, write
from usbench.leaderboards.kept import check, write_kept
from usbench.leaderboards.table import Row, Table
from usbench.leaderboards.view import View
from usbench.results.usable import LeftOut

__all__ = [
    "FORMATS",
    "Leaderboard",
    "LeftOut",
    "Row",
    "Table",
    "View",
    "build",
    "check",
    "render",
    "write",
    "write_kept",
]
