"""Where fusions are found: built in, entry points in group `usbench.fusions`, and plugin files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError, unknown
from usbench.plugins.code_hash import code_hash, module_of
from usbench.plugins.search import FUSION, Found, Searched, search

if TYPE_CHECKING:
    from usbench.contracts.fusion import Fusion

BUILT_IN = {
    "early": "usbench.fusions.early:FUSION",
    "hybrid": "usbench.fusions.hybrid:FUSION",
    "late": "usbench.fusions.late:FUSION",
}


@dataclass(frozen=True)
class FoundFusion:
    """A fusion, where it was found, and the digest of its code ("" for those built in).

    It pickles without the fusion, which the process that reads it loads for itself.
    """

    fusion: Fusion
    found: Found
    source_hash: str

    @property
    def name(self) -> str:
        """The name of the fusion."""
        return self.found.name

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "fusion": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, fusion=state["found"].load())


def search_fusions(plugins: Sequence[str | Path] = ()) -> Searched:
    """Every fusion, by name, and what is wrong with others. Plugin files are imported here."""
    from usbench import __version__

    built_in = {
        name: Found(name, "built in", __version__, entry=EntryPoint(name, target, FUSION.group), kind=FUSION)
        for name, target in BUILT_IN.items()
    }
    return search(FUSION, plugins, built_in=built_in)


def get_fusion(name: str, plugins: Sequence[str | Path] = ()) -> FoundFusion:
    """The fusion called `name`, imported.

    Args:
        name: early, hybrid, late, or one of a plugin.
        plugins: Python files that may bring fusions.

    Returns:
        The fusion with where it was found.

    Raises:
        UsbenchError: With the nearest name, for one that nobody brings, and where a plugin file brings one of
            that name that cannot be used.
    """
    found = search_fusions(plugins).get(name)
    fusion: Fusion = found.load()
    return FoundFusion(fusion, found, "" if found.origin == "built in" else source_hash(fusion))


def source_hash(fusion: Fusion) -> str:
    """SHA-256 over the code of a plugin's fusion: a change in it makes a new cell."""
    return code_hash(module_of(fusion.build))


def declared(name: str) -> Fusion:
    """The built-in fusion of that name, else a fusion that a segmenter declares and does by itself."""
    from usbench.contracts.fusion import Fusion

    if name in BUILT_IN:
        return get_fusion(name).fusion
    return Fusion(name, "declared by a method", build=_of_segmenters_alone)


def _of_segmenters_alone(*_: Any) -> Any:
    raise NotImplementedError("only a segmenter that declares this fusion runs under it")


def settings_of(fusion: Fusion, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, by "section.key", that a run under the fusion takes: all but those of other fusions."""
    own = {f"fusion.{key}" for key in fusion.settings}
    return {key: v for key, v in settings.items() if not key.startswith("fusion.") or key in own}


def require_settings(fusions: Sequence[FoundFusion], settings: Mapping[str, Any]) -> None:
    """Raise `UsbenchError` for a setting "fusion.KEY" that none of the fusions has; it names who has it."""
    known = {f"fusion.{key}" for one in fusions for key in one.fusion.settings}
    for key in sorted(key for key in settings if key.startswith("fusion.") and key not in known):
        named = " and ".join(one.name for one in fusions)
        others = [
            name for name in BUILT_IN if key.removeprefix("fusion.") in get_fusion(name).fusion.settings
        ]
        if others:
            raise UsbenchError(
                f"setting {key}: fusion {named} has no such setting, {' and '.join(others)} fusion has; "
                f"leave it out, or use --fusion {others[0]}"
            )
        raise unknown(f"setting of fusion {named}", key, known)
