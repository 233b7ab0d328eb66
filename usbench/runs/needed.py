"""Weights that a run needs, known from its method and settings, before any data is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.config import make_config

if TYPE_CHECKING:
    from usbench.contracts.request import Request
    from usbench.results.result import Result


def weights_of_request(request: Request) -> tuple[str, ...]:
    """Names, in the table of weights, of all that a request needs; nothing is fetched, no data is looked for.

    Raises:
        UsbenchError: For a method, fusion or setting that is not there.
    """
    from usbench.fusions.registry import get_fusion
    from usbench.methods.registry import get_method
    from usbench.runs.plan import read_settings

    method, _ = get_method(request.method, request.plugins)
    if method.pipeline is not None:
        return ()
    fusion = get_fusion(request.fusion, request.plugins).fusion
    # Which preset it will be may depend on the data; where it does, the run asks again.
    preset, settings = request.preset or "quick", read_settings(request)
    config = make_config(preset, method.settings, method.presets, settings, fusion, method.dims)
    return tuple(method.needed_weights(config.method))


def weights_of_result(result: Result, plugins: Sequence[str | Path] = ()) -> tuple[str, ...]:
    """The same of the network that a run trained.

    Raises:
        UsbenchError: Where its method is not there.
    """
    from usbench.methods.registry import get_method
    from usbench.runs.of_result import config_of, plugin_files

    files = [Path(file) for file in plugins] or plugin_files(result.data)
    method, _ = get_method(result.data["cell"]["method"], files)
    return tuple(method.needed_weights(config_of(result).method))
