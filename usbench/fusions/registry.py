"""Where fusions are found: the three protocols, entry points in group `usbench.fusions`, and plugin files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.names import PROTOCOLS
from usbench.plugins import search as brought
from usbench.plugins.code_hash import code_hash, module_of
from usbench.plugins.search import Found, Searched

if TYPE_CHECKING:
    from usbench.contracts.fusion import Fusion


@dataclass(frozen=True)
class Brought:
    """A fusion that a plugin brings, where it was found, and the digest of its code.

    It pickles without the fusion, which the process that reads it loads for itself.
    """

    fusion: Fusion
    found: Found
    source_hash: str

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "fusion": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, fusion=state["found"].load())


def search_fusions(plugins: Sequence[str | Path] = ()) -> Searched:
    """The fusions that plugins bring, by name, and what is wrong with others; without the three protocols."""
    return brought.search(brought.FUSION, plugins, taken=PROTOCOLS)


def get_fusion(name: str, plugins: Sequence[str | Path] = ()) -> Brought | None:
    """The fusion called `name`, imported; None for early, hybrid and late.

    Raises `UsbenchError`, with the nearest name, for one that nobody brings, and where a plugin file brings
    one of that name that cannot be used.
    """
    if name in PROTOCOLS and not plugins:
        return None
    searched = search_fusions(plugins)
    if name in PROTOCOLS:
        searched.refuse(name)
        return None
    found = searched.get(name)
    fusion: Fusion = found.load()
    return Brought(fusion, found, code_hash(module_of(fusion.build)))
