"""Every public function says what it does, and the shape of the arrays that it takes or gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import usbench

ROOT = Path(usbench.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ARRAYS = ("ndarray", "NDArray", "Tensor")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Public(NamedTuple):
    """A public function with its dotted name and the class that it belongs to."""

    name: str
    node: Function
    owner: ast.ClassDef | None


def public(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[Public]:
    """The public functions of a module, and the public, `__init__` and `__call__` methods of its classes."""
    prefix = f"{owner.name}." if owner else ""
    for node in body:
        if isinstance(node, Function) and (not node.name.startswith("_") or node.name in special(owner)):
            yield Public(f"{prefix}{node.name}", node, owner)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, node)


def special(owner: ast.ClassDef | None) -> tuple[str, ...]:
    return ("__init__", "__call__") if owner else ()


def takes_arrays(node: Function) -> bool:
    """Whether the annotations of a function's arguments or of what it returns name a kind of array."""
    own = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    notes = [argument.annotation for argument in own if argument.annotation]
    notes += [node.returns] if node.returns else []
    text = " ".join(ast.unparse(note) for note in notes)
    return any(re.search(rf"\b{kind}\b", text) for kind in ARRAYS)


def says_a_shape(text: str) -> bool:
    """Whether a text has a shape in square brackets, or says that any will do.

    Dimensions are letters, words or sums and products of them, or numbers from 1; an interval such as
    [0, 1] or [-2, 4] is no shape.
    """
    if re.search(r"\bany\s+shape\b", text):
        return True
    for inside in re.findall(r"\[([^\[\]]*)\]", text):
        dimensions = [part.strip() for part in inside.split(",")]
        word = re.compile(r"\.{1,3}|[A-Za-z1-9][\w' *+/^().]*(\[\w+\])?")
        if inside == "" or all(word.fullmatch(dimension) for dimension in dimensions):
            return True
    return False


def documentation(function: Public) -> str:
    """The docstring of a function; of a constructor that of its class too, where its arguments stand."""
    own = ast.get_docstring(function.node) or ""
    of_class = ast.get_docstring(function.owner) if function.owner else None
    return f"{of_class or ''}\n{own}" if function.node.name == "__init__" else own


def is_property_of_another(node: Function) -> bool:
    """Whether a function is the setter of a property, or one of several signatures of a function."""
    return any(ast.unparse(mark).endswith((".setter", "overload")) for mark in node.decorator_list)


def classes_of(sources: list[str]) -> dict[str, ast.ClassDef]:
    """The classes of some modules by name."""
    return {
        node.name: node
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def is_told_above(function: Public, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a class that a method's class inherits from has that method, with a docstring."""
    waiting = [ast.unparse(base) for base in function.owner.bases] if function.owner else []
    while waiting:
        found = classes.get(waiting.pop())
        if found is None:
            continue
        for above in public(found.body, found):
            if above.node.name == function.node.name and ast.get_docstring(above.node):
                return True
        waiting += [ast.unparse(base) for base in found.bases]
    return False


def faults(source: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    """What is wrong with the docstrings of a module, a line each; `classes`: those to inherit from."""
    found = []
    for function in public(ast.parse(source).body):
        name, node, _ = function
        if is_property_of_another(node):
            continue
        text = documentation(function)
        if not text.strip() and is_told_above(function, classes):
            continue
        where = f"line {node.lineno}: {name}"
        if not text.strip() and (node.name != "__init__" or takes_arrays(node)):
            found.append(f"{where} has no docstring")
        elif takes_arrays(node) and not says_a_shape(text):
            found.append(f"{where} takes or gives an array, and its docstring says no shape of one")
    return found


CLASSES = classes_of([file.read_text(encoding="utf-8") for file in FILES])


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_public_functions_say_what_they_do_and_the_shapes_of_arrays(file: Path) -> None:
    assert faults(file.read_text(encoding="utf-8"), CLASSES) == []


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("Logits [B, K, H, W].", True),
        ("Feature maps [B, channels[i], H / 2^i, W / 2^i].", True),
        ("An affine [4, 4].", True),
        ("Embeddings [..., width].", True),
        ("Positions [height * width, 256].", True),
        ("One number [].", True),
        ("An array of any shape.", True),
        ("Values in [0, 1].", False),
        ("Mapped from [-2, 4].", False),
        ("The mean of a volume.", False),
    ],
)
def test_a_shape_is_told_from_an_interval(text: str, shape: bool) -> None:
    assert says_a_shape(text) is shape


def test_what_lacks_a_docstring_or_a_shape_is_found() -> None:
    source = '''
class Layer:
    """A layer [B, C]."""
    def __init__(self, start: Tensor) -> None: ...
    def forward(self, x: "torch.Tensor") -> None:
        """Runs."""
    def __repr__(self) -> str: ...
class Deep(Layer):
    def forward(self, x: Tensor) -> None: ...
    def other(self) -> None: ...
class _Hidden:
    def forward(self, x: Tensor) -> Tensor: ...
def fine(x: np.ndarray) -> float:
    """Of values [N]."""
def plain(x: int) -> int:
    """One more."""
def bare(x: int) -> int: ...
def shapeless() -> dict[str, NDArray[np.float32]]:
    """The arrays."""
'''
    assert [line.partition(": ")[2].split()[0] for line in faults(source, classes_of([source]))] == [
        "Layer.forward",
        "Deep.other",
        "bare",
        "shapeless",
    ]
