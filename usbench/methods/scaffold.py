"""`usbench new`: a method that works, as one file or as a package, to be changed into one's own."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path

from usbench.errors import UsbenchError, unknown
from usbench.storage.files import atomic_folder, write_text

KINDS = ("encoder-decoder", "segmenter")
DIMS = (2, 3)


def new(
    name: str,
    kind: str = "encoder-decoder",
    pip: bool = False,
    folder: Path = Path("."),
    dims: int = 2,
) -> list[Path]:
    """Write a method called `name` into `folder` and return the files, the one with the network first.

    kind: "encoder-decoder" or "segmenter". pip: an installable package in a folder of that name with an
    entry point, a test and a README; else the one file NAME.py. dims: 2 for a network that sees slices, 3 for
    one that sees volumes. Raises `UsbenchError`, one line with the remedy, for a name that is not sound or
    that a method has, for what is there already (nothing is ever overwritten), and where nothing can be
    written.
    """
    if kind not in KINDS:
        raise unknown("kind of method", kind, KINDS)
    if dims not in DIMS:
        raise UsbenchError(f"--dims {dims}: choose 2 (slices) or 3 (volumes)")
    network = f"{kind.replace('-', '_')}{'_3d' if dims == 3 else ''}.py.txt"
    _require_free(name)
    module = name.lower().replace("-", "_")
    target = Path(folder) / (name if pip else f"{name}.py")
    if target.exists() or target.is_symlink():
        raise UsbenchError(f"{target} is there already; choose another name, or another --folder")
    if not pip:
        words = f"--plugin {target} --method {name}"
        write_text(target, _filled(network, name, module, words, f"usbench check {target}"))
        return [target]
    _require_free_module(name, module)
    parts = {
        f"src/{module}/method.py": network,
        f"src/{module}/__init__.py": "package/init.py.txt",
        f"tests/test_{module}.py": "package/test.py.txt",
        "pyproject.toml": "package/pyproject.toml.txt",
        "README.md": "package/README.md.txt",
    }
    with atomic_folder(target) as temporary:
        for path, template in parts.items():
            text = _filled(template, name, module, f"--method {name}", f"usbench check {name}")
            write_text(temporary / path, text)
    return [target / path for path in parts]


def run_command(words: str) -> str:
    """The command that tries a method, named by `words`, on a phantom within seconds."""
    return f"usbench run {words} --fusion hybrid --task msd-prostate --preset smoke"


def _require_free(name: str) -> None:
    from usbench.methods.registry import find_methods

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*", name) or len(name) > 50:
        raise UsbenchError(
            f"'{name}' cannot name a method; use letters, digits and single hyphens, a letter first"
        )
    for other, found in find_methods().items():
        if other.lower() == name.lower():
            raise UsbenchError(f"method '{other}' is there already ({found.origin}); choose another name")


def _require_free_module(name: str, module: str) -> None:
    """A package that hides another module, or cannot be imported, would work for nobody."""
    taken = keyword.iskeyword(module) or module in sys.stdlib_module_names
    if taken or importlib.util.find_spec(module) is not None:
        raise UsbenchError(f"--pip {name}: Python has a module '{module}' already; choose another name")


def _filled(template: str, name: str, module: str, words: str, check: str) -> str:
    text = files("usbench.methods").joinpath("templates", template).read_text(encoding="utf-8")
    values = {"@NAME@": name, "@MODULE@": module, "@RUN@": run_command(words), "@CHECK@": check}
    for key, value in values.items():
        text = text.replace(key, value)
    return text
