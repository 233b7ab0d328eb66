"""Digests of cells: what two rows must share, and what makes a cell another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from usbench.results.io import PROTOCOL_VERSION
from usbench.storage.files import digest_of


def protocol_of(
    task: str,
    modalities: Sequence[str],
    classes: Sequence[str],
    config: Mapping[str, Any],
    split_digest: str,
    limit: int | None,
    precision: str,
    nsd_tolerance_mm: float | None = None,
) -> str:
    """Digest of all that two rows must share to be compared; config: as in result.json.

    nsd_tolerance_mm: of the task of a plugin, None for other tasks.
    """
    shared = {
        "version": PROTOCOL_VERSION,
        "task": task,
        "modalities": modalities,
        "classes": classes,
        "data": config["data"],
        "train": config["train"],
        "split": split_digest,
        "limit": limit,
        "precision": precision,
    }
    if nsd_tolerance_mm is not None:
        shared["nsd_tolerance_mm"] = nsd_tolerance_mm
    return digest_of(shared)[:12]


def key_of(
    protocol: str,
    fingerprint: str,
    method: Mapping[str, Any],
    fusion: str,
    fold: int,
    seed: int,
    config: Mapping[str, Any],
    devices: int,
    of_plugins: Mapping[str, Any],
) -> str:
    """Digest of everything that changes the outcome of a cell; method, config: as in result.json.

    of_plugins: what `of_plugins` gives.
    """
    return digest_of(
        {
            "protocol": protocol,
            "data": fingerprint,
            "method": method["name"],
            "source": method["source_hash"],
            "package": "" if method["origin"] == "built in" else method["version"],
            "fusion": fusion,
            "fold": fold,
            "seed": seed,
            "config": config,
            "weights": method["weights"],
            "devices": devices,
            **of_plugins,
        }
    )


def of_plugins(fusion: Mapping[str, Any] | None, words: Mapping[str, Any] | None) -> dict[str, Any]:
    """What changes the outcome of a cell whose fusion or task a plugin brings; for others nothing.

    fusion: that of the plugin, as in result.json, None for the three protocols. words: those of the task of
    the plugin, as in result.json, None for other tasks.
    """
    extra: dict[str, Any] = {}
    if fusion is not None:
        extra["fusion_source"] = fusion["source_hash"]
        extra["fusion_package"] = fusion["version"]
    if words is not None:
        extra["words"] = [words["modalities"], words["classes"]]
    return extra
