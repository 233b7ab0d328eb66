"""What plugins bring: methods, tasks and fusions, from installed packages and from single files.

Listing imports no installed package. One that does not import breaks nothing but itself: it is listed
with its error, and asking for it raises that error. A name that is taken stays with who had it first.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from usbench.errors import UsbenchError


@dataclass(frozen=True)
class Kind:
    """One kind of thing that plugins bring.

    word: for messages. group: of entry points. one, many: the names under which a plugin file holds it.
    module, type: the class it must be an instance of.
    """

    word: str
    group: str
    one: str
    many: str
    module: str
    type: str

    def of_class(self, thing: Any) -> bool:
        """Whether `thing` is one; only its class' module is imported."""
        return isinstance(thing, getattr(importlib.import_module(self.module), self.type))


METHOD = Kind("method", "usbench.methods", "METHOD", "METHODS", "usbench.methods.contract", "Method")
TASK = Kind("task", "usbench.tasks", "TASK", "TASKS", "usbench.datasets.base", "Task")
FUSION = Kind("fusion", "usbench.fusions", "FUSION", "FUSIONS", "usbench.methods.contract", "Fusion")
KINDS = (METHOD, TASK, FUSION)


@dataclass(frozen=True)
class Found:
    """Something that can be asked for by name; `load` imports it.

    origin: "built in", "package NAME VERSION", or "file PATH". version: of the package, or "".
    """

    name: str
    origin: str
    version: str
    entry: EntryPoint | None = None
    path: Path | None = None
    kind: Kind = METHOD

    def load(self) -> Any:
        """Import it. Raises `UsbenchError` naming the plugin and what went wrong."""
        word = self.kind.word
        if self.path is not None:
            thing = next((t for t in things_in_file(self.path, self.kind) if t.name == self.name), None)
            if thing is None:
                raise UsbenchError(
                    f"{self.path}: defines no {word} '{self.name}'; "
                    f"name it in {self.kind.one} or {self.kind.many}"
                )
            return thing
        assert self.entry is not None
        where = f"{word} '{self.name}' ({self.origin})"
        try:
            thing = self.entry.load()
        except (Exception, SystemExit) as error:
            raise UsbenchError(
                f"{where} cannot be imported: {type(error).__name__}: {error}; "
                "repair or uninstall that package"
            ) from error
        if _checked(thing, self.kind, where).name != self.name:
            raise UsbenchError(f"{where}: calls itself '{thing.name}'; give the entry point that name")
        return thing


def find(kind: Kind, taken: Collection[str], plugins: Sequence[str | Path] = ()) -> dict[str, Found]:
    """What plugins bring of a kind, by name; `taken` are the names of built-in ones.

    Plugin files are imported here, since only they know their names. An installed package whose name is
    taken is left out; `shadowed` lists it. Raises `UsbenchError` where a plugin file fails to import, or
    brings a name that is taken.
    """
    found: dict[str, Found] = {}
    for entry in entry_points(group=kind.group):
        if entry.name not in taken:
            version = entry.dist.version if entry.dist else ""
            origin = f"package {entry.dist.name} {version}" if entry.dist else f"package {entry.value}"
            found.setdefault(entry.name, Found(entry.name, origin, version, entry, kind=kind))
    for path in map(Path, plugins):
        for thing in things_in_file(path, kind):
            if thing.name in found or thing.name in taken:
                origin = found[thing.name].origin if thing.name in found else "built in"
                raise UsbenchError(
                    f"{path}: {kind.word} '{thing.name}' is there already ({origin}); rename yours"
                )
            # Other processes may load it from another working directory.
            found[thing.name] = Found(thing.name, f"file {path}", "", path=path.absolute(), kind=kind)
    return found


def shadowed(kind: Kind, taken: Collection[str]) -> list[str]:
    """Entry points of a kind that are not used because their name is taken, one line each."""
    seen = set(taken)
    lines = []
    for entry in entry_points(group=kind.group):
        if entry.name in seen:
            package = entry.dist.name if entry.dist else entry.value
            line = f"package {package}: {kind.word} '{entry.name}' is there already; it must be renamed"
            lines.append(line)
        seen.add(entry.name)
    return lines


def things_in_file(path: Path, kind: Kind) -> list[Any]:
    """What a plugin file brings of a kind: its METHOD or METHODS, TASK or TASKS, FUSION or FUSIONS.

    Raises `UsbenchError` where the file does not import or brings nothing of any kind.
    """
    module = module_of(path)
    if not any(hasattr(module, name) for one in KINDS for name in (one.one, one.many)):
        raise UsbenchError(
            f"{path}: defines neither METHOD nor METHODS (nor TASK, nor FUSION); "
            "add METHOD = usbench.Method(...)"
        )
    many, one = getattr(module, kind.many, ()), getattr(module, kind.one, None)
    if not isinstance(many, list | tuple):
        raise UsbenchError(f"{path}: {kind.many} is a {type(many).__name__}; make it a list")
    # A file may hold the names of the protocols in FUSIONS, for its own use.
    things = [thing for thing in many if not (kind is FUSION and isinstance(thing, str))]
    things += [] if one is None or one in things else [one]
    return [_checked(thing, kind, str(path)) for thing in things]


def module_of(path: Path) -> ModuleType:
    """A plugin file as a module, imported once for its path and content.

    Raises `UsbenchError` naming the file and what it raised.
    """
    if not path.is_file():
        raise UsbenchError(f"{path}: no such plugin file; check --plugin")
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"usbench_plugin_{digest}"
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, path)
        if specification is None or specification.loader is None:
            raise UsbenchError(f"{path}: not a Python file; a plugin ends in .py")
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module  # Before executing, so that its classes can be pickled.
        try:
            specification.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, KeyboardInterrupt):
                raise
            if isinstance(error, UsbenchError):
                raise UsbenchError(f"{path}: {error}") from error
            raise UsbenchError(
                f"{path}: plugin raised on import: {type(error).__name__}: {error}; "
                "repair it (--debug shows where)"
            ) from error
    return sys.modules[name]


def is_name(text: object) -> bool:
    """Whether `text` is a sound name for a command line and a folder: letters, digits and hyphens."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text) is not None


def code_hash(module: str) -> str:
    """SHA-256 over the file of an imported module, and those of its package that it takes anything from."""
    names: list[str] = []
    _follow(module, names)
    digest = hashlib.sha256()
    for name in sorted(names):
        file = getattr(sys.modules[name], "__file__", None)
        digest.update(Path(file).read_bytes() if file and Path(file).is_file() else b"")
    return digest.hexdigest()


def _follow(name: str, seen: list[str]) -> None:
    if name in seen or name not in sys.modules:
        return
    seen.append(name)
    package = name.rpartition(".")[0]
    taken = {getattr(value, "__module__", None) or "" for value in vars(sys.modules[name]).values()}
    for other in sorted(taken):
        if package and other.startswith(f"{package}."):
            _follow(other, seen)


def _checked(thing: Any, kind: Kind, where: str) -> Any:
    if not kind.of_class(thing):
        raise UsbenchError(
            f"{where}: is a {type(thing).__name__}, not a usbench.{kind.type}; "
            f"make {kind.one} = {kind.type}(...)"
        )
    return thing
