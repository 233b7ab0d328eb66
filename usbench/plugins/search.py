"""What plugins bring: methods, tasks and fusions, from installed packages and from single files.

Listing imports no installed package; plugin files are imported, since only they know their names. A plugin
breaks nothing but itself: what is wrong with it is listed, and asking for it raises that as an error. A name
that is taken stays with who had it first. What a plugin prints while it is imported goes to standard error.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from usbench.errors import UsbenchError, unknown
from usbench.plugins.code_hash import PLUGIN
from usbench.runtime.stopping import Terminated, interrupts_noted


@dataclass(frozen=True)
class Kind:
    """One kind of thing that plugins bring.

    Attributes:
        word: For messages.
        group: Of entry points.
        one: The name under which a plugin file holds one thing.
        many: The name under which it holds several.
        module: Of the class that a thing must be an instance of.
        type: Name of that class.
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


METHOD = Kind("method", "usbench.methods", "METHOD", "METHODS", "usbench.contracts.method", "Method")
TASK = Kind("task", "usbench.tasks", "TASK", "TASKS", "usbench.contracts.data", "Task")
FUSION = Kind("fusion", "usbench.fusions", "FUSION", "FUSIONS", "usbench.contracts.fusion", "Fusion")
KINDS = (METHOD, TASK, FUSION)


@dataclass(frozen=True)
class Found:
    """Something that can be asked for by name; `load` imports it.

    Attributes:
        name: Its name.
        origin: "built in", "package NAME VERSION", or "file PATH".
        version: Of the package, or "".
        entry: How it is loaded.
        path: The plugin file, if it is in one.
        kind: What kind of thing it is.
    """

    name: str
    origin: str
    version: str
    entry: EntryPoint | None = None
    path: Path | None = None
    kind: Kind = METHOD

    @property
    def installed(self) -> bool:
        """Whether it is of another package: that is imported only where somebody asks for it."""
        return self.entry is not None and self.origin != "built in"

    def load(self) -> Any:
        """Import it.

        Raises:
            UsbenchError: Naming the plugin and what went wrong.
        """
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
        with _named(f"{where} cannot be imported", "repair or uninstall that package"):
            with _foreign_code() if self.installed else contextlib.nullcontext():
                try:
                    thing = self.entry.load()
                except UsbenchError as error:
                    raise UsbenchError(f"{where} cannot be imported: {error}") from error
            if not self.installed:
                return thing
            name = _checked(thing, self.kind, where).name
        if name != self.name:
            raise UsbenchError(f"{where}: calls itself '{name}'; give the entry point that name")
        return _at_home(thing, self.kind, self.entry.module)


@dataclass(frozen=True)
class PluginProblem:
    """A plugin, or a thing of one, that cannot be used.

    Attributes:
        origin: "package NAME VERSION" or "file PATH".
        name: Of the thing, "" where it is not known.
        text: One line, what is wrong and what to do.
    """

    origin: str
    name: str
    text: str

    @property
    def of_file(self) -> bool:
        """Whether it is about a plugin file, and not about an installed package."""
        return self.origin.startswith("file ")


@dataclass
class Searched:
    """What there is of a kind, by name, and what is wrong with the rest.

    Attributes:
        kind: The kind.
        taken: Names of built-in things that are not among the found.
        found: The things by name.
        problems: What cannot be used, and why.
    """

    kind: Kind
    taken: Collection[str] = ()
    found: dict[str, Found] = field(default_factory=dict)
    problems: list[PluginProblem] = field(default_factory=list)

    def refuse(self, name: str) -> None:
        """Raise where a plugin file has a thing of that name that cannot be used.

        Whoever names the file means that one.
        """
        for problem in self.problems:
            if problem.of_file and problem.name == name:
                raise UsbenchError(problem.text)

    def get(self, name: str) -> Found:
        """The thing of a name.

        Raises:
            UsbenchError: Where there is none, or it cannot be used.
        """
        self.refuse(name)
        if name not in self.found:
            for problem in self.problems:
                if problem.name == name or (problem.of_file and not problem.name):
                    raise UsbenchError(problem.text)
            raise unknown(self.kind.word, name, (*self.taken, *self.found))
        return self.found[name]

    def add(self, one: Found) -> None:
        """Add a thing, or the problem that its name is taken."""
        there = self.found.get(one.name)
        if there is None and one.name not in self.taken:
            self.found[one.name] = one
            return
        where = one.origin.removeprefix("file ")
        by = "built in" if there is None else there.origin
        text = f"{where}: {self.kind.word} '{one.name}' is there already ({by}); rename yours"
        self.problems.append(PluginProblem(one.origin, one.name, text))


def search(
    kind: Kind,
    plugins: Sequence[str | Path] = (),
    taken: Collection[str] = (),
    built_in: Mapping[str, Found] | None = None,
) -> Searched:
    """Look for things of a kind; a plugin that fails is among the problems, and nothing is raised.

    Args:
        kind: The kind.
        plugins: Plugin files.
        taken: Names that nobody else may have.
        built_in: The things of usbench itself.

    Returns:
        Built-in things, those of installed packages, and those of plugin files.
    """
    searched = Searched(kind, taken, dict(built_in or {}))
    for entry in sorted(entry_points(group=kind.group), key=lambda e: (e.name, e.value)):
        name, version = _package(entry)
        searched.add(Found(entry.name, f"package {name} {version}".strip(), version, entry, kind=kind))
    for path in dict.fromkeys(map(Path, plugins)):
        try:
            for thing in things_in_file(path, kind):
                # Other processes may load it from another working directory.
                searched.add(Found(thing.name, f"file {path}", "", path=path.absolute(), kind=kind))
        except UsbenchError as error:
            searched.problems.append(PluginProblem(f"file {path}", "", str(error)))
    return searched


def _package(entry: EntryPoint) -> tuple[str, str]:
    """Name and version of the package of an entry point."""
    try:
        assert entry.dist is not None
        return entry.dist.name or entry.value, entry.dist.version or ""
    except Exception:  # Without metadata a package has neither.
        return entry.value, ""


@contextlib.contextmanager
def _foreign_code() -> Iterator[None]:
    """For importing a plugin: it may import torchvision, and what it prints is no output of usbench."""
    from usbench.runtime.torchvision_cpu import make_importable

    make_importable()
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _named(what: str, remedy: str) -> Iterator[None]:
    """Make anything that a plugin raises one line about it, an exit and an interruption of its own too.

    What the user interrupts, or a signal ends, still ends; and so does an error that names the plugin.
    """
    with interrupts_noted() as user:
        try:
            yield
        except BaseException as error:
            if user.yes or isinstance(error, UsbenchError | Terminated):
                raise
            raise UsbenchError(f"{what}: {type(error).__name__}: {_said(error)}; {remedy}") from error


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # What an error says of itself is code of the plugin as well.
        return "no message"


def things_in_file(path: Path, kind: Kind) -> list[Any]:
    """What a plugin file brings of a kind: its METHOD or METHODS, TASK or TASKS, FUSION or FUSIONS.

    Raises:
        UsbenchError: Where the file does not import or brings nothing of any kind.
    """
    module = module_in_file(path)
    with _named(f"{path}: plugin raised when it was looked into", _REPAIR):
        return _things_of(module, path, kind)


_REPAIR = "repair it (--debug shows where)"


def _things_of(module: ModuleType, path: Path, kind: Kind) -> list[Any]:
    if not any(hasattr(module, name) for one in KINDS for name in (one.one, one.many)):
        raise UsbenchError(
            f"{path}: defines neither METHOD nor METHODS (nor TASK, nor FUSION); "
            "add METHOD = usbench.Method(...)"
        )
    many, one = getattr(module, kind.many, ()), getattr(module, kind.one, None)
    if not isinstance(many, list | tuple):
        raise UsbenchError(f"{path}: {kind.many} is a {type(many).__name__}; make it a list")
    # A file may hold the names of the protocols in FUSIONS, for its own use.
    things = [thing for thing in many if not (kind == FUSION and isinstance(thing, str))]
    things += [] if one is None or one in things else [one]
    return [_at_home(_checked(thing, kind, str(path)), kind, module.__name__) for thing in things]


def require_files(paths: Sequence[str | Path]) -> None:
    """Raise `UsbenchError` for a plugin file that is not there: whoever named it made a slip."""
    for path in map(Path, paths):
        if not path.is_file():
            raise UsbenchError(f"{path}: no such plugin file; check the path")


def module_in_file(path: Path) -> ModuleType:
    """A plugin file as a module, imported once for its path and content.

    Raises:
        UsbenchError: Naming the file and what it raised.
    """
    require_files([path])
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"{PLUGIN}{digest}"
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, path)
        if specification is None or specification.loader is None:
            raise UsbenchError(f"{path}: not a Python file; a plugin ends in .py")
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module  # Before executing, so that its classes can be pickled.
        try:
            with _named(f"{path}: plugin raised on import", _REPAIR), _foreign_code():
                try:
                    specification.loader.exec_module(module)
                except UsbenchError as error:
                    raise UsbenchError(f"{path}: {error}") from error
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return sys.modules[name]


def _at_home(thing: Any, kind: Kind, module: str) -> Any:
    """A method that knows in which module of a plugin it was found: its settings there are code of it too."""
    return replace(thing, home=module) if kind == METHOD else thing


def _checked(thing: Any, kind: Kind, where: str) -> Any:
    if not kind.of_class(thing):
        raise UsbenchError(
            f"{where}: is a {type(thing).__name__}, not a usbench.{kind.type}; "
            f"make {kind.one} = {kind.type}(...)"
        )
    return thing
