"""usbench: a benchmark for union segmentation, several aligned scans of one patient in, one mask out.

    import usbench
    results = usbench.run(method="unet", fusion="late", task="chaos")
    table = usbench.matrix(methods="unet,zeus", tasks="chaos", seeds=(0, 1, 2))
    board = usbench.leaderboard("runs")
    verdicts = usbench.check("unet")
    result = usbench.load_result(results[0].path)
    usbench.prune("runs", networks=True)  # what would be removed; yes=True removes it

Importing usbench imports neither torch nor any other heavy package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.checks.suite import check
    from usbench.contracts.data import (
        Case,
        Download,
        ExaminingReader,
        Layout,
        Modality,
        Phantom,
        Reader,
        Structure,
        Task,
    )
    from usbench.contracts.fusion import Fusion
    from usbench.contracts.method import EncoderDecoder, Feature, Method, Supervised
    from usbench.contracts.pipeline import Pipeline, PipelineFolder, PipelineMasks, PipelineWatcher
    from usbench.contracts.problem import DataProblem
    from usbench.contracts.request import Request
    from usbench.contracts.watcher import Watcher
    from usbench.leaderboards.board import build as leaderboard
    from usbench.matrices.start import matrix
    from usbench.matrices.status import status
    from usbench.pages.paper_figure import figure
    from usbench.predictions.start import predict
    from usbench.results.io import load_result
    from usbench.runs.network import load_network
    from usbench.runs.prune import prune
    from usbench.runs.start import run
    from usbench.submissions.elsewhere import score

__version__ = "0.2.0"

__all__ = [
    "Case",
    "DataProblem",
    "Download",
    "EncoderDecoder",
    "ExaminingReader",
    "Feature",
    "Fusion",
    "Layout",
    "Method",
    "Modality",
    "Phantom",
    "Pipeline",
    "PipelineFolder",
    "PipelineMasks",
    "PipelineWatcher",
    "Reader",
    "Request",
    "Structure",
    "Supervised",
    "Task",
    "UsbenchError",
    "Watcher",
    "__version__",
    "check",
    "evaluate",
    "figure",
    "leaderboard",
    "load_network",
    "load_result",
    "matrix",
    "predict",
    "prune",
    "run",
    "score",
    "status",
]

_LAZY = {
    "Case": ("usbench.contracts.data", "Case"),
    "DataProblem": ("usbench.contracts.problem", "DataProblem"),
    "Download": ("usbench.contracts.data", "Download"),
    "ExaminingReader": ("usbench.contracts.data", "ExaminingReader"),
    "EncoderDecoder": ("usbench.contracts.method", "EncoderDecoder"),
    "Feature": ("usbench.contracts.method", "Feature"),
    "Fusion": ("usbench.contracts.fusion", "Fusion"),
    "Layout": ("usbench.contracts.data", "Layout"),
    "Method": ("usbench.contracts.method", "Method"),
    "check": ("usbench.checks.suite", "check"),
    "Modality": ("usbench.contracts.data", "Modality"),
    "Phantom": ("usbench.contracts.data", "Phantom"),
    "Pipeline": ("usbench.contracts.pipeline", "Pipeline"),
    "PipelineFolder": ("usbench.contracts.pipeline", "PipelineFolder"),
    "PipelineMasks": ("usbench.contracts.pipeline", "PipelineMasks"),
    "PipelineWatcher": ("usbench.contracts.pipeline", "PipelineWatcher"),
    "Reader": ("usbench.contracts.data", "Reader"),
    "Request": ("usbench.contracts.request", "Request"),
    "Structure": ("usbench.contracts.data", "Structure"),
    "Supervised": ("usbench.contracts.method", "Supervised"),
    "Task": ("usbench.contracts.data", "Task"),
    "Watcher": ("usbench.contracts.watcher", "Watcher"),
    "evaluate": ("usbench.tracks.evaluate", "evaluate"),
    "figure": ("usbench.pages.paper_figure", "figure"),
    "leaderboard": ("usbench.leaderboards.board", "build"),
    "load_network": ("usbench.runs.network", "load_network"),
    "load_result": ("usbench.results.io", "load_result"),
    "matrix": ("usbench.matrices.start", "matrix"),
    "predict": ("usbench.predictions.start", "predict"),
    "prune": ("usbench.runs.prune", "prune"),
    "run": ("usbench.runs.start", "run"),
    "score": ("usbench.submissions.elsewhere", "score"),
    "status": ("usbench.matrices.status", "status"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'usbench' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """The names of the API, for dir() and for completion."""
    return sorted(__all__)
