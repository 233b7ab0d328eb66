"""The code that a method, a fusion or a reader consists of, as files: a change in one makes a new cell.

Imports are followed as they are written, in functions too, so that a module that is only reached through
its name, a constant or a late import counts; nothing is imported for it. Modules whose name is put together
at run time are not seen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PLUGIN = "usbench_plugin_"
"""Modules of plugin files are called so, with a digest behind it."""


def code_hash(*modules: str) -> str:
    """SHA-256 over the files of imported modules and what those import of the same package.

    For a built-in method that is its own folder, for others their top-level package, for a plugin file the
    folder that it lies in.
    """
    digest = hashlib.sha256()
    for file in source_files(*modules):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def source_files(*modules: str) -> list[Path]:
    """The files that `code_hash` reads, in order of the names of their modules."""
    found: dict[str, Path] = {}
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and Path(file).is_file():
            _follow(name, Path(file), found)
    return [found[name] for name in sorted(found)]


def module_of(part: Callable[..., Any]) -> str:
    """The module in which a function, a partial of one, a bound method or a callable object is written."""
    while isinstance(part, functools.partial):
        part = part.func
    part = getattr(part, "__func__", part)
    return str(getattr(part, "__module__", None) or type(part).__module__)


def of_usbench(part: Callable[..., Any]) -> bool:
    """Whether a function or a class is written in usbench itself, and not in a plugin."""
    return module_of(part).partition(".")[0] == "usbench"


def _follow(name: str, file: Path, found: dict[str, Path]) -> None:
    """Add a module and what it imports, as far as that belongs to the method."""
    if name in found:
        return
    found[name] = file
    is_package = file.name == "__init__.py"
    depth = len(name.split(".")) - (not is_package)
    root = file.resolve().parents[depth]
    try:
        tree = parsed(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = name if is_package else name.rpartition(".")[0]
    for imported in imports(tree, package):
        parts = imported.split(".")
        for end in range(1, len(parts) + 1):
            inner = ".".join(parts[:end])
            if _belongs(inner, name) and (place := _place(root.joinpath(*parts[:end]))):
                _follow(inner, place, found)


@functools.lru_cache(maxsize=64)
def parsed(code: bytes) -> ast.Module:
    """The syntax tree of Python code, which nobody changes: the same files are asked for several times.

    Raises:
        SyntaxError, ValueError: where it is no Python.
    """
    return ast.parse(code)


def _belongs(name: str, to: str) -> bool:
    top = to.partition(".")[0]
    if top == "usbench":
        return name.startswith(to.rpartition(".")[0] + ".")
    if top.startswith(PLUGIN):
        return name.partition(".")[0] != "usbench"
    return name == top or name.startswith(f"{top}.")


def _place(path: Path) -> Path | None:
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def imports(tree: ast.Module, package: str) -> Iterator[str]:
    """The full names of all that is imported; a name taken from a package may be a module of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module:
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
