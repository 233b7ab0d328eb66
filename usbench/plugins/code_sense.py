"""A digest of what code does: comments, docstrings and formatting do not count.

`usbench.plugins.code_hash` takes the bytes of files, which is right for what is computed in an hour. Prepared
data of hundreds of patients should not be made anew for a comma in a comment.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from usbench.storage.files import digest_of


def sense_hash(files: Iterable[Path]) -> str:
    """SHA-256 over the syntax trees of Python files, in their order.

    The same for every version of Python that parses a file into the same tree. A file that is no Python
    counts by its bytes. Texts within the code, such as messages, count.

    Args:
        files: The files.
    """
    return digest_of([_sense(Path(file).read_bytes()) for file in files])


def _sense(code: bytes) -> Any:
    try:
        return _plain(ast.parse(code))
    except (SyntaxError, ValueError):
        return hashlib.sha256(code).hexdigest()


def _plain(node: Any) -> Any:
    """A part of a syntax tree as lists and words, without places in the file and without docstrings."""
    if isinstance(node, list):
        return [_plain(one) for one in node if not _is_docstring(one)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Constant):
        return ["Constant", repr(node.value)]
    # Newer versions of Python have fields that older ones lack; empty ones say nothing.
    kept = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    return [type(node).__name__, [[name, _plain(value)] for name, value in kept.items()]]


def _is_docstring(node: Any) -> bool:
    """Whether a statement is a text alone, which does nothing."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)
