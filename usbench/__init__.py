"""usbench: a benchmark for union segmentation, several aligned scans of one patient in, one mask out.

    import usbench
    results = usbench.run(method="unet", fusion="late", task="chaos")
    table = usbench.matrix(methods="unet,zeus", tasks="chaos", seeds=(0, 1, 2))
    board = usbench.leaderboard("runs")
    verdicts = usbench.check("unet")
    result = usbench.load_result(results[0].path)

Importing usbench imports neither torch nor any other heavy package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.board import build as leaderboard
    from usbench.conformance.suite import check
    from usbench.datasets.base import Case, Modality, Reader, Structure, Task
    from usbench.grid.command import matrix
    from usbench.methods.contract import EncoderDecoder, Feature, Fusion, Method
    from usbench.results import load_result
    from usbench.running import run

__version__ = "0.1.0"

__all__ = [
    "Case",
    "EncoderDecoder",
    "Feature",
    "Fusion",
    "Method",
    "Modality",
    "Reader",
    "Structure",
    "Task",
    "UsbenchError",
    "__version__",
    "check",
    "leaderboard",
    "load_result",
    "matrix",
    "run",
]

_LAZY = {
    "Case": ("usbench.datasets.base", "Case"),
    "EncoderDecoder": ("usbench.methods.contract", "EncoderDecoder"),
    "Feature": ("usbench.methods.contract", "Feature"),
    "Fusion": ("usbench.methods.contract", "Fusion"),
    "Method": ("usbench.methods.contract", "Method"),
    "check": ("usbench.conformance.suite", "check"),
    "Modality": ("usbench.datasets.base", "Modality"),
    "Reader": ("usbench.datasets.base", "Reader"),
    "Structure": ("usbench.datasets.base", "Structure"),
    "Task": ("usbench.datasets.base", "Task"),
    "leaderboard": ("usbench.board", "build"),
    "load_result": ("usbench.results", "load_result"),
    "matrix": ("usbench.grid.command", "matrix"),
    "run": ("usbench.running", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'usbench' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
