"""Where methods are found: built in, entry points in group `usbench.methods`, and plugin files.

Listing imports none of them. A plugin that does not import breaks nothing but itself: it is
listed with its error, and asking for it raises that error.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from usbench import plugins as brought
from usbench.errors import unknown
from usbench.plugins import Found

if TYPE_CHECKING:
    from usbench.methods.contract import Method

__all__ = ["BUILT_IN", "GROUP", "Found", "find_methods", "get_method", "shadowed", "source_hash"]

GROUP = brought.METHOD.group

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


def find_methods(plugins: Sequence[Path] = ()) -> dict[str, Found]:
    """Every method by name. Plugin files are imported here, since only they know their names.

    Raises `UsbenchError` where a plugin file fails to import, or brings a name that is taken.
    """
    from usbench import __version__

    found = {
        name: Found(name, "built in", __version__, entry=EntryPoint(name, target, GROUP))
        for name, target in BUILT_IN.items()
    }
    return {**found, **brought.find(brought.METHOD, BUILT_IN, plugins)}


def shadowed() -> list[str]:
    """Installed methods, tasks and fusions that are not used because their name is taken, one line each."""
    from usbench.datasets.tasks import task_names
    from usbench.methods.fusions import PROTOCOLS

    names = ((brought.METHOD, BUILT_IN), (brought.TASK, task_names()), (brought.FUSION, PROTOCOLS))
    return [line for kind, taken in names for line in brought.shadowed(kind, taken)]


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
    return brought.code_hash(method.builder_module)
