"""Where methods are found: built in, entry points in group `usbench.methods`, and plugin files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError
from usbench.plugins import search as brought
from usbench.plugins.code_hash import code_hash, module_of
from usbench.plugins.search import Found, PluginProblem, Searched

if TYPE_CHECKING:
    from usbench.contracts.method import Method

__all__ = [
    "BUILT_IN",
    "GROUP",
    "Found",
    "all_problems",
    "find_methods",
    "get_method",
    "methods_in_file",
    "modules_of",
    "search",
    "source_hash",
]

GROUP = brought.METHOD.group

BUILT_IN = {
    "attunet": "usbench.baselines.attunet:METHOD",
    "dynunet": "usbench.baselines.dynunet:METHOD",
    "ivdnet": "usbench.baselines.ivdnet:METHOD",
    "medvisionllama": "usbench.methods.medvisionllama.model:METHOD",
    "missformer": "usbench.baselines.missformer:METHOD",
    "mist": "usbench.methods.mist.method:METHOD",
    "mmformer": "usbench.baselines.mmformer:METHOD",
    "mmformer3d": "usbench.baselines.mmformer:VOLUMES",
    "mulmodseg": "usbench.methods.mulmodseg.model:METHOD",
    "nnunet": "usbench.methods.nnunet.method:METHOD",
    "resunet": "usbench.baselines.resunet:METHOD",
    "segresnet": "usbench.baselines.segresnet:METHOD",
    "swin-unetr": "usbench.baselines.swin_unetr:METHOD",
    "transunet": "usbench.baselines.transunet:METHOD",
    "unet": "usbench.baselines.unet:METHOD",
    "unet-classic": "usbench.baselines.unet_classic:METHOD",
    "unet3d": "usbench.baselines.unet3d:METHOD",
    "unetpp": "usbench.baselines.unetpp:METHOD",
    "unetr": "usbench.baselines.unetr:METHOD",
    "unext": "usbench.baselines.unext:METHOD",
    "unext-small": "usbench.baselines.unext:SMALL",
    "zeus": "usbench.methods.zeus.model:METHOD",
}


def search(plugins: Sequence[str | Path] = ()) -> Searched:
    """Every method, by name, and the problems of the others. Plugin files are imported here."""
    from usbench import __version__

    built_in = {
        name: Found(name, "built in", __version__, entry=EntryPoint(name, target, GROUP))
        for name, target in BUILT_IN.items()
    }
    return brought.search(brought.METHOD, plugins, built_in=built_in)


def find_methods(plugins: Sequence[str | Path] = ()) -> dict[str, Found]:
    """Every method that can be asked for, by name."""
    return search(plugins).found


def get_method(name: str, plugins: Sequence[str | Path] = ()) -> tuple[Method, Found]:
    """The method called `name`, imported, and where it was found. Raises as `Searched.get` and `load` do."""
    found = search(plugins).get(name)
    return found.load(), found


def methods_in_file(path: Path) -> list[Method]:
    """The methods of a plugin file. Raises `UsbenchError` that names it where it fails or has none."""
    methods = brought.things_in_file(path, brought.METHOD)
    if not methods:
        raise UsbenchError(f"{path}: brings no method; add METHOD = usbench.Method(...)")
    return methods


def all_problems(plugins: Sequence[str | Path] = ()) -> list[PluginProblem]:
    """What is wrong with methods, tasks and fusions of plugins, each line once."""
    from usbench.datasets.tasks import search_tasks
    from usbench.fusions.registry import search_fusions

    searched = (search(plugins), search_tasks(plugins), search_fusions(plugins))
    return list({problem.text: problem for one in searched for problem in one.problems}.values())


def source_hash(method: Method) -> str:
    """SHA-256 over the code of a method: a change in it makes a new cell.

    That is the files of its builder or of its pipeline's functions, of its features, of what it says it is
    made of and, for a plugin, of its METHOD, and what those import of the same package, see
    `usbench.plugins.code_hash.code_hash`.
    """
    return code_hash(*modules_of(method))


def modules_of(method: Method) -> list[str]:
    """The modules in which a method is written.

    Raises:
        UsbenchError: For a module of `made_of` that cannot be imported.
    """
    outside = method.pipeline
    own = (outside.train_and_predict, outside.check, outside.label) if outside is not None else ()
    parts = (method.build_network, method.build_segmenter, method.features, *own)
    for name in method.made_of:
        # Only of an imported module it is known where its file lies.
        try:
            import_module(name)
        except ImportError as error:
            raise UsbenchError(
                f"method '{method.name}' is made of '{name}', which cannot be imported ({error}); correct "
                "made_of"
            ) from error
    return [method.home, *(module_of(part) for part in parts if part is not None), *method.made_of]
