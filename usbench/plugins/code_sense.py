"""A digest of what code does: comments, docstrings and formatting do not count.

`usbench.plugins.code_hash` takes the bytes of files, which is right for what is computed in an hour. Prepared
data of hundreds of patients should not be made anew for a comma in a comment.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from usbench.plugins.code_hash import imports, parsed
from usbench.storage.files import digest_of


def consists_of(modules: Iterable[str], within: tuple[str, ...]) -> list[Path]:
    """The files of modules of usbench and of all that they import, in order of the modules' names.

    Imports within functions count too; nothing is imported for it but packages.

    Args:
        modules: Names of modules.
        within: How the names begin of those that are followed.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or not name.startswith(within):
            continue
        file = file_of(name)
        if file is not None:
            found[name] = file
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            waiting += imports(parsed(file.read_bytes()), package)
    return [found[name] for name in sorted(found)]


def file_of(module: str) -> Path | None:
    """The file of a module; None where the name is that of something within a module."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


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
        return _plain(parsed(code))
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
