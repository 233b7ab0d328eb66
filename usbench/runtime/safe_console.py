"""The console of rich, which passes on escapes within a text; this one shows them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from usbench.runtime.terminal_text import shown


class SafeConsole(Console):
    """Styles come from usbench alone: texts, cells and descriptions of bars go through `shown`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As `rich.console.Console.render`."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(shown(part.text), part.style)
