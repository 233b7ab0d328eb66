"""Where methods are found: built in, entry points in group `usbench.methods`, and plugin files.

Listing imports none of them, except plugin files, since only they know their names. A plugin breaks nothing
but itself: what is wrong with it is listed, and asking for it raises that as an error. What a plugin prints
while it is imported goes to standard error.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError, unknown
from usbench.methods.source import PLUGIN
from usbench.methods.source import source_hash as source_hash

if TYPE_CHECKING:
    from usbench.methods.contract import Method

GROUP = "usbench.methods"

BUILT_IN = {
    "attunet": "usbench.baselines.attunet:METHOD",
    "missformer": "usbench.baselines.missformer:METHOD",
    "resunet": "usbench.baselines.resunet:METHOD",
    "transunet": "usbench.baselines.transunet:METHOD",
    "unet": "usbench.baselines.unet:METHOD",
    "unet-classic": "usbench.baselines.unet_classic:METHOD",
    "unetpp": "usbench.baselines.unetpp:METHOD",
    "unext": "usbench.baselines.unext:METHOD",
    "unext-small": "usbench.baselines.unext:SMALL",
    "zeus": "usbench.methods.zeus.model:METHOD",
}


@dataclass(frozen=True)
class Found:
    """A method that can be asked for by name; `load` imports it.

    origin: "built in", "package NAME VERSION", or "file PATH". version: of the package, or "".
    """

    name: str
    origin: str
    version: str
    entry: EntryPoint | None = None
    path: Path | None = None

    @property
    def installed(self) -> bool:
        """Whether it is of another package: that is imported only where somebody asks for it."""
        return self.entry is not None and self.origin != "built in"

    def load(self) -> Method:
        """Import the method. Raises `UsbenchError` naming the plugin and what went wrong."""
        if self.path is not None:
            method = next((m for m in methods_in_file(self.path) if m.name == self.name), None)
            if method is None:
                raise UsbenchError(
                    f"{self.path}: defines no method '{self.name}'; name it in METHOD or METHODS"
                )
            return method
        assert self.entry is not None
        where = f"method '{self.name}' ({self.origin})"
        try:
            with _foreign_code() if self.installed else contextlib.nullcontext():
                method = self.entry.load()
        except (Exception, SystemExit) as error:
            raise UsbenchError(
                f"{where} cannot be imported: {type(error).__name__}: {error}; "
                "repair or uninstall that package"
            ) from error
        if not self.installed:
            return _checked(method, where)
        checked = _checked(method, where, self.entry.module)
        if checked.name != self.name:
            raise UsbenchError(
                f"{where} calls itself '{checked.name}'; give its entry point and its METHOD the same name"
            )
        return checked


@dataclass(frozen=True)
class Problem:
    """A plugin, or a method of one, that cannot be used.

    origin: "package NAME VERSION" or "file PATH". name: of the method, "" where it is not known. text: one
    line, what is wrong and what to do.
    """

    origin: str
    name: str
    text: str

    @property
    def of_file(self) -> bool:
        return self.origin.startswith("file ")


@dataclass
class Methods:
    """Every method that can be asked for, by name, and what is wrong with the others."""

    found: dict[str, Found] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def get(self, name: str) -> Found:
        """The method of that name.

        Raises `UsbenchError` where there is none, and where a plugin file has one of that name that cannot
        be used: whoever names the file means that one.
        """
        for problem in self.problems:
            if problem.of_file and problem.name == name:
                raise UsbenchError(problem.text)
        if name not in self.found:
            for problem in self.problems:
                if problem.name == name or (problem.of_file and not problem.name):
                    raise UsbenchError(problem.text)
            raise unknown("method", name, self.found)
        return self.found[name]


def search(plugins: Sequence[Path] = ()) -> Methods:
    """Look for methods. Plugin files are imported here; one that fails is among the problems."""
    from usbench import __version__

    methods = Methods(
        {n: Found(n, "built in", __version__, entry=EntryPoint(n, t, GROUP)) for n, t in BUILT_IN.items()}
    )
    for entry, package, version in _entries():
        _add(methods, Found(entry.name, f"package {package}", version, entry=entry))
    for path in dict.fromkeys(Path(p) for p in plugins):
        try:
            for method in methods_in_file(path):
                _add(methods, Found(method.name, f"file {path}", "", path=path))
        except UsbenchError as error:
            methods.problems.append(Problem(f"file {path}", "", str(error)))
    return methods


def _add(methods: Methods, one: Found) -> None:
    there = methods.found.setdefault(one.name, one)
    if there is not one:
        where = str(one.path) if one.path else one.origin
        text = f"{where}: method '{one.name}' is there already ({there.origin}); rename yours"
        methods.problems.append(Problem(one.origin, one.name, text))


def _entries() -> Iterator[tuple[EntryPoint, str, str]]:
    """The entry points of installed packages, with the name and version of the package, and its version."""
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        try:
            assert entry.dist is not None
            name, version = entry.dist.name, entry.dist.version
        except Exception:  # Without metadata a package has neither.
            name, version = entry.value, ""
        yield entry, f"{name or entry.value} {version or ''}".strip(), version or ""


def find_methods(plugins: Sequence[Path] = ()) -> dict[str, Found]:
    """Every method that can be asked for, by name."""
    return search(plugins).found


def get_method(name: str, plugins: Sequence[Path] = ()) -> tuple[Method, Found]:
    """The method called `name`, imported, and where it was found. Raises as `Methods.get` and `load` do."""
    found = search(plugins).get(name)
    return found.load(), found


@contextlib.contextmanager
def _foreign_code() -> Iterator[None]:
    """For importing a plugin: it may import torchvision, and what it prints is no output of usbench."""
    from usbench.torchvision_cpu import make_importable

    make_importable()
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _checked(method: Any, where: str, home: str = "") -> Method:
    from usbench.methods.contract import Method

    if not isinstance(method, Method):
        raise UsbenchError(
            f"{where}: is a {type(method).__name__}, not a usbench.Method; make METHOD = Method(...)"
        )
    return replace(method, home=home) if home else method


def methods_in_file(path: Path) -> list[Method]:
    """The methods of a plugin file: its METHOD, or its METHODS.

    A file is imported once, as long as it does not change. Raises `UsbenchError` that names it where it is
    absent, fails to import, or has no method.
    """
    if not path.is_file():
        raise UsbenchError(f"{path}: no such plugin file; check the path")
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"{PLUGIN}{digest}"
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, path)
        if specification is None or specification.loader is None:
            raise UsbenchError(f"{path}: not a Python file; a plugin ends in .py")
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module  # Before executing, so that its classes can be pickled.
        try:
            with _foreign_code():
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
    module = sys.modules[name]
    methods = list(getattr(module, "METHODS", ())) or [getattr(module, "METHOD", None)]
    if methods == [None]:
        raise UsbenchError(f"{path}: defines neither METHOD nor METHODS; add METHOD = usbench.Method(...)")
    return [_checked(method, str(path), name) for method in methods]
