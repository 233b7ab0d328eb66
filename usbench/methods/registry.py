"""Where methods are found: built in, entry points in group `usbench.methods`, and plugin files.

Listing imports none of them. A plugin that does not import breaks nothing but itself: it is
listed with its error, and asking for it raises that error.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError, unknown

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
        try:
            method = self.entry.load()
        except Exception as error:
            raise UsbenchError(
                f"method '{self.name}' ({self.origin}) cannot be imported: {type(error).__name__}: {error}; "
                "repair or uninstall that package"
            ) from error
        return _checked(method, f"method '{self.name}' ({self.origin})")


def find_methods(plugins: Sequence[Path] = ()) -> dict[str, Found]:
    """Every method by name. Plugin files are imported here, since only they know their names.

    Raises `UsbenchError` where a plugin file fails to import, or where two methods share a name.
    """
    from usbench import __version__

    found = {
        name: Found(name, "built in", __version__, entry=EntryPoint(name, target, GROUP))
        for name, target in BUILT_IN.items()
    }
    for entry in entry_points(group=GROUP):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        if entry.name in BUILT_IN:
            continue  # A package cannot take over a built-in method; `shadowed` lists it.
        found.setdefault(
            entry.name,
            Found(entry.name, f"package {package}", entry.dist.version if entry.dist else "", entry=entry),
        )
    for path in plugins:
        for method in methods_in_file(Path(path)):
            if method.name in found:
                raise UsbenchError(
                    f"{path}: method '{method.name}' is there already ({found[method.name].origin}); "
                    "rename yours"
                )
            found[method.name] = Found(method.name, f"file {path}", "", path=Path(path))
    return found


def shadowed() -> list[str]:
    """Entry points that are not used because their name is taken, one line each."""
    seen: set[str] = set(BUILT_IN)
    lines = []
    for entry in entry_points(group=GROUP):
        if entry.name in seen:
            package = entry.dist.name if entry.dist else entry.value
            lines.append(f"package {package}: method '{entry.name}' is there already; it must be renamed")
        seen.add(entry.name)
    return lines


def get_method(name: str, plugins: Sequence[Path] = ()) -> tuple[Method, Found]:
    """The method called `name`, imported, and where it was found."""
    found = find_methods(plugins)
    if name not in found:
        raise unknown("method", name, found)
    return found[name].load(), found[name]


def source_hash(method: Method) -> str:
    """SHA-256 over the code of a method: a change in it makes a new cell.

    That is the file of its builder, and those files of the same package that it takes anything from.
    """
    names: list[str] = []
    _follow(method.builder_module, names)
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


def _checked(method: Any, where: str) -> Method:
    from usbench.methods.contract import Method

    if not isinstance(method, Method):
        raise UsbenchError(
            f"{where}: is a {type(method).__name__}, not a usbench.Method; make METHOD = Method(...)"
        )
    return method


def methods_in_file(path: Path) -> list[Method]:
    """The methods of a plugin file: its METHOD, or its METHODS."""
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
    module = sys.modules[name]
    methods = list(getattr(module, "METHODS", ())) or [getattr(module, "METHOD", None)]
    if methods == [None]:
        raise UsbenchError(f"{path}: defines neither METHOD nor METHODS; add METHOD = usbench.Method(...)")
    return [_checked(method, str(path)) for method in methods]
