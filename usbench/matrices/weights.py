"""Pretrained weights of a matrix: all that are absent are named before any data is looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from usbench.errors import UsbenchError
from usbench.results.io import has_results
from usbench.weights.needed import line, missing, require_weights
from usbench.weights.store import find_weight


def have_weights(
    needed: Mapping[str, Sequence[str]], runs_dir: Path, every: bool, fetch: bool
) -> tuple[dict[str, str], list[str]]:
    """Have the weights of some methods here, fetched where that is possible.

    Of methods with finished cells nothing is asked: perhaps none is to be computed.

    Args:
        needed: By name of a method, names of weights.
        runs_dir: Where results are.
        every: The methods were not named one by one.
        fetch: Else it is only said what is absent.

    Returns:
        By name of a method why it cannot be computed, where not all were named; and lines for the user.

    Raises:
        UsbenchError: For absent weights of methods that were named, all of them at once.
    """
    asked = {name: some for name, some in needed.items() if some and not has_results(runs_dir, "*", name)}
    names = list(dict.fromkeys(name for some in asked.values() for name in some))
    if not fetch:
        return {}, [f"weights absent: {line(one)}" for one in missing(map(find_weight, names))]
    if not every:
        require_weights(names)
        return {}, []
    why = {}
    for method, some in asked.items():
        try:
            require_weights(some)
        except UsbenchError as error:
            why[method] = " ".join(str(error).split())
    return why, []
