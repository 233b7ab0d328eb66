"""Digests of cells: what two rows must share, and what makes a cell another one.

Since version 3 of the protocol a digest covers the settings that differ from their default in `DEFAULTS`, and
nothing of those that do not: a new setting whose default is what was done before it came changes no digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from usbench.contracts.few import few_of
from usbench.results.io import PROTOCOL_VERSION
from usbench.storage.files import digest_of

DEFAULTS: dict[int, dict[str, dict[str, Any]]] = {
    3: {
        "data": {"size": 256, "resize": "area", "normalise": "zscore", "plane": "axial"},
        "train": {
            "epochs": 300,
            "batch": 10,
            "lr": 1e-3,
            "weight_decay": 5e-4,
            "poly_power": 0.9,
            "patience": 75,
            "empty": 1.0,
            "min_batches": 1,
            "augment": "none",
            "mirror": False,
            "views": 4,
            "clip": 0.0,
            "modality_dropout": 0.0,
            "warmup": 0,
        },
        "volume": {
            "mode": "patch",
            "shape": [128, 128, 128],
            "patch": [32, 96, 96],
            "spacing": 0.0,
            "overlap": 0.5,
            "foreground": 0.5,
            "patches": 4,
        },
        "fusion.early": {},
        "fusion.hybrid": {"hybrid": "conv1x1"},
        "fusion.late": {"merge": "mean-logits", "absent": "skip"},
    }
}
"""By version of the protocol, the value of each setting that a digest leaves out.

Nothing that stands here is ever changed. A new setting is added with the value that does what was done before
it came. Where the default of a setting changes later, the value here stays: older digests stay true.
"""


LATER: frozenset[str] = frozenset({"train.modality_dropout", "train.warmup", "fusion.absent"})
"""Settings, as "section.key", newer than some results of the newest version, which lack them."""

OF_ROWS: frozenset[str] = frozenset({"train.modality_dropout", "train.warmup"})
"""Settings of the data or of training that two rows of a table need not share.

They are what a table compares, as the settings of a method are: part of a cell's key and of a row's name, and
not of the protocol. Of a network of volumes all settings of training are such, and those of its volumes.
"""


def without_later(config: Mapping[str, Any], fusion: str) -> dict[str, dict[str, Any]]:
    """The settings of a result without those of `LATER` that do what was done before they came.

    So an older result and a newer one of the same cell say the same.

    Args:
        config: As in result.json.
        fusion: The name of its fusion.

    Returns:
        The sections of `config`.
    """
    usual = DEFAULTS[PROTOCOL_VERSION]

    def as_before(part: str, key: str, value: Any) -> bool:
        defaults = usual.get(f"fusion.{fusion}" if part == "fusion" else part, {})
        return f"{part}.{key}" in LATER and key in defaults and bool(value == defaults[key])

    return {
        part: {key: value for key, value in section.items() if not as_before(part, key, value)}
        for part, section in config.items()
    }


def differing(settings: Mapping[str, Any], section: str, version: int) -> dict[str, Any]:
    """The settings of a section that differ from their default in that version of the protocol.

    Args:
        settings: All of the section, as in result.json; older results may lack newer settings.
        section: "data", "train", "volume", or "fusion.NAME" for one of the built-in fusions.
        version: Of the protocol, 3 or later.

    Returns:
        The others, by name.
    """
    usual = DEFAULTS[version][section]
    return {key: value for key, value in settings.items() if key not in usual or value != usual[key]}


def _digested(config: Mapping[str, Any], section: str, version: int) -> Any:
    # Version 2 took whole sections.
    return config[section] if version < 3 else differing(config[section], section, version)


def _shared(settings: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The settings of a section without those that are of rows."""
    return {key: value for key, value in settings.items() if f"{section}.{key}" not in OF_ROWS}


def protocol_of(
    task: str,
    modalities: Sequence[str],
    classes: Sequence[str],
    config: Mapping[str, Any],
    split_digest: str,
    limit: int | None,
    precision: str,
    nsd_tolerance_mm: float | None = None,
    version: int = PROTOCOL_VERSION,
    regions: Mapping[str, float] | None = None,
    definition: str | None = None,
    few: Mapping[str, float | int] | None = None,
    outside: bool = False,
    volumes: bool = False,
) -> str:
    """Digest of all that two rows must share to be compared.

    Networks of volumes share the data with each other, and not the training: their batches, epochs and
    learning rates count other things than those of slices, and of volumes of another size.

    Args:
        task: Its name.
        modalities: The modalities used.
        classes: The foreground classes.
        config: As in result.json.
        split_digest: Digest of the folds.
        limit: How many cases were used, None for all.
        precision: Of the training.
        nsd_tolerance_mm: Of the task of a plugin, None for other tasks.
        version: Of the protocol that the cell was computed by.
        regions: The threshold of each class where they are regions, None where they exclude each other.
        definition: `Task.definition`, for a task that a file describes.
        few: `FewPatients.facts` of a cell that is trained on a part of its training patients, None for
            others.
        outside: Whether it is of masks that another program made, which has no settings of data and training
            of usbench, and no precision.
        volumes: Give what a cell shares with networks of volumes, of whichever kind its own is.

    Returns:
        Twelve hexadecimal digits.
    """
    shared: dict[str, Any] = {
        "version": version,
        "task": task,
        "modalities": modalities,
        "classes": classes,
        "split": split_digest,
        "limit": limit,
    }
    if outside:
        shared["outside"] = True
    else:
        shared["data"] = _digested(config, "data", version)
        if volumes or "volume" in config:
            shared["volumes"] = True
        else:
            shared["train"] = _shared(_digested(config, "train", version), "train")
        shared["precision"] = precision
    if nsd_tolerance_mm is not None:
        shared["nsd_tolerance_mm"] = nsd_tolerance_mm
    if regions is not None:
        shared["regions"] = dict(regions)
    if definition is not None:
        shared["definition"] = definition
    shared.update(few or {})
    return digest_of(shared)[:12]


def frame_of_result(data: Mapping[str, Any]) -> str:
    """Digest of what a result shares with masks of other programs that stand in its table.

    Args:
        data: A result.json.

    Returns:
        Twelve hexadecimal digits: the protocol that a result of outside masks would state.
    """
    return protocol_of_result(data, frame=True)


def volumes_of_result(data: Mapping[str, Any]) -> str:
    """Digest of what a result shares with those of networks of volumes that stand in its table.

    Args:
        data: A result.json of a network.

    Returns:
        Twelve hexadecimal digits: the protocol that a network of volumes on the same data would state.
    """
    return protocol_of_result(data, volumes=True)


def protocol_of_result(
    data: Mapping[str, Any], all_patients: bool = False, frame: bool = False, volumes: bool = False
) -> str:
    """The protocol that a result should state, from what else it states.

    Args:
        data: A result.json.
        all_patients: Give that of the same cells trained on all training patients.
        frame: Leave out the settings of data and training and the precision, see `frame_of_result`.
        volumes: Leave out the settings of training, see `volumes_of_result`.

    Returns:
        Twelve hexadecimal digits.
    """
    task = data["task"]
    plugin_task = task.get("origin", "folder") not in ("built in", "folder")
    few = None if all_patients else few_of(data["split"])
    return protocol_of(
        task["name"],
        task["modalities"],
        task["classes"],
        data["config"],
        data["split"]["digest"],
        data["data"]["limit"],
        data["cost"]["precision"],
        task["nsd_tolerance_mm"] if plugin_task else None,
        data.get("protocol_version", 2),
        task.get("regions"),
        task.get("definition"),
        None if few is None else few.facts,
        frame or "outside" in data,
        volumes,
    )


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
    version: int = PROTOCOL_VERSION,
) -> str:
    """Digest of everything that changes the outcome of a cell.

    The settings of the method stand in it whole: whoever adds one changes the code of the method, whose
    digest is part of this one. So it is with the settings of a plugin's fusion.

    Args:
        protocol: What `protocol_of` gives.
        fingerprint: Of the data.
        method: As in result.json.
        fusion: Its name.
        fold: The test fold.
        seed: Of every random draw.
        config: As in result.json.
        devices: How many trained together.
        of_plugins: What `of_plugins` gives.
        version: Of the protocol that the cell was computed by.

    Returns:
        A SHA-256, 64 hexadecimal digits.
    """
    settings = config
    if version >= 3:
        names = [name for name in ("data", "train", "volume") if name in config]
        settings = {name: _digested(config, name, version) for name in names}
        own, section = config["fusion"], f"fusion.{fusion}"
        settings["fusion"] = differing(own, section, version) if section in DEFAULTS[version] else own
        settings["method"] = config["method"]
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
            "config": settings,
            "weights": method["weights"],
            "devices": devices,
            **of_plugins,
        }
    )


def of_plugins(
    fusion: Mapping[str, Any] | None, words: Mapping[str, Any] | None, patterns: str | None = None
) -> dict[str, Any]:
    """What changes the outcome of a cell whose fusion or task a plugin brings; for others nothing.

    fusion: that of the plugin, as in result.json, None for the three protocols. words: those of the task of
    the plugin or of the file, as in result.json, None for other tasks. patterns: `Task.patterns`.
    """
    extra: dict[str, Any] = {}
    if fusion is not None:
        extra["fusion_source"] = fusion["source_hash"]
        extra["fusion_package"] = fusion["version"]
    if words is not None:
        extra["words"] = [words["modalities"], words["classes"]]
    if patterns is not None:
        extra["patterns"] = patterns
    return extra
