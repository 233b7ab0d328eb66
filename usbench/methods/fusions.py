"""Where fusions are found: the three protocols, entry points in group `usbench.fusions`, and plugin files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench import plugins as brought
from usbench.errors import unknown
from usbench.plugins import Found

if TYPE_CHECKING:
    from usbench.methods.contract import Fusion

# Beside `contract.FUSIONS`, which comes with torch.
PROTOCOLS = ("early", "hybrid", "late")


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


def find_fusions(plugins: Sequence[str | Path] = ()) -> dict[str, Found]:
    """The fusions that plugins bring, by name; the three protocols are not among them.

    Raises `UsbenchError` where a plugin file fails to import, or brings a name that is taken.
    """
    return brought.find(brought.FUSION, PROTOCOLS, plugins)


def get_fusion(name: str, plugins: Sequence[str | Path] = ()) -> Brought | None:
    """The fusion called `name`, imported; None for early, hybrid and late, which `usbench.fusion` builds.

    Raises `UsbenchError`, with the nearest name, for one that nobody brings.
    """
    if name in PROTOCOLS and not plugins:
        return None
    found = find_fusions(plugins)
    if name in PROTOCOLS:
        return None
    if name not in found:
        raise unknown("fusion", name, (*PROTOCOLS, *found))
    fusion: Fusion = found[name].load()
    return Brought(fusion, found[name], brought.code_hash(fusion.builder_module))
