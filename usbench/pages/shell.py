"""The frame of a page that is one file: style, scripts and data inline, all else forbidden."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usbench.contracts.score import Score


def shell(title: str, body: str, scripts: Sequence[str], data: Any = None) -> str:
    """A whole HTML page.

    The page's policy lets exactly its style and its scripts run, shows images from data URIs alone, and
    forbids every request.

    Args:
        title: Plain text.
        body: HTML, already escaped.
        scripts: Names of files beside this one, run in order after the body.
        data: JSON-like values for them, in an element with the id "data".
    """
    style = _part("page.css")
    codes = [_part(name) for name in scripts]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            f"script-src {' '.join(map(_hash, codes))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="referrer" content="no-referrer">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        body,
        *([] if data is None else [f'<script type="application/json" id="data">{embed(data)}</script>']),
        *(f"<script>{code}</script>" for code in codes),
        "</body>",
        "</html>",
    ]
    # A name on disk may hold bytes that are no UTF-8; they become question marks.
    return "\n".join(parts).encode("utf-8", "replace").decode("utf-8") + "\n"


def first_sort(score: Score) -> str:
    """Which way a column of a score sorts first, "up" or "down": the best value on top."""
    return "down" if score.direction == "higher" else "up"


def escape(value: Any) -> str:
    """A value as text that is safe between tags and in quoted attributes."""
    return html.escape(str(value), quote=True)


def embed(data: Any) -> str:
    """JSON-like values as JSON that is safe inside a script element; NaN is refused."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a data URI of media type `kind`, as "image/jpeg"."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _part(name: str) -> str:
    return files("usbench.pages").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source expression that allows an inline element of this text (CSP Level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
