"""What the project says of itself: no text of the program names a file that an installed package lacks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.places import ROOT

FILES = sorted((ROOT / "usbench").rglob("*.py"))


def texts(file: Path) -> Iterator[str]:
    """The texts of a module that are no docstrings: messages, help, what pages show."""
    tree = ast.parse(file.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_messages_name_no_document_of_the_checkout(file: Path) -> None:
    # A text on its own below an assignment documents a name, as a docstring does.
    own = {node.value.value for node in ast.walk(ast.parse(file.read_text())) if is_comment(node)}
    for text in texts(file):
        if text not in own:
            assert not re.search(r"docs/|\b(ARCHITECTURE|CONTRIBUTING|CHANGELOG)\.md", text), text


def is_comment(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def test_pages_name_no_document_of_the_checkout() -> None:
    for file in (ROOT / "usbench" / "pages" / "assets").iterdir():
        assert not re.search(r"docs/", file.read_text()), file.name


def test_every_document_of_the_index_is_there() -> None:
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text()
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
