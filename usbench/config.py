"""Settings of a run: the presets, `--set key=value`, YAML files, and the effective configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.settings import DataSettings, TrainSettings, VolumeSettings
from usbench.errors import UsbenchError, unknown
from usbench.storage.texts import load_yaml

if TYPE_CHECKING:
    from usbench.contracts.fusion import Fusion


@dataclass(frozen=True)
class Config:
    """The effective configuration of a run; `as_dict` is what results store.

    Attributes:
        preset: Its name.
        data: How slices are made.
        train: How the network is trained.
        fusion: The settings of the fusion of the run.
        method: The settings of the method of the run.
        volume: What a network of volumes sees; None for a method of slices.
    """

    preset: str
    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    fusion: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    volume: VolumeSettings | None = None

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The settings by section ("data", "train", "fusion", "method"), as a result stores them.

        A method of volumes has "volume" too.
        """
        names = ("data", "train") if self.volume is None else ("data", "train", "volume")
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in names}
        return {**sections, "fusion": dict(self.fusion), "method": dict(self.method)}


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "data": {"size": 256, "resize": "nearest"},
        "train": {},
    },
    "quick": {
        "data": {"size": 96, "resize": "area"},
        "train": {
            "epochs": 14,
            "batch": 8,
            "weight_decay": 1e-5,
            "empty": 0.2,
            "min_batches": 20,
            "augment": "light",
            "clip": 5.0,
        },
    },
    "smoke": {
        "data": {"size": 32, "resize": "area"},
        "train": {"epochs": 2, "batch": 8, "weight_decay": 1e-5, "empty": 0.0},
    },
}

DEFAULT_FOLDS = {"paper": "all", "quick": "0", "smoke": "0"}


def preset_names() -> list[str]:
    """The names of the presets, the largest first."""
    return list(PRESETS)


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """`["train.epochs=3"]` as `{"train.epochs": 3}`; values are read as YAML scalars."""
    import yaml

    values: dict[str, Any] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise UsbenchError(
                f"--set '{text}' has no value; write it as key=value, for example train.epochs=5"
            )
        try:
            values[key.strip()] = yaml.safe_load(value) if value.strip() else ""
        except yaml.YAMLError as error:
            raise UsbenchError(f"--set {key.strip()}: value '{value}' cannot be read; quote it") from error
    return values


def read_config_file(path: Path) -> dict[str, Any]:
    """A YAML file of settings, nested (`train: {epochs: 5}`) or flat (`train.epochs: 5`), flattened."""
    return flatten(read_mapping(path, "settings", "train: {epochs: 5}"))


def read_mapping(path: Path, what: str, example: str) -> dict[str, Any]:
    """A YAML file of `what`, a mapping by name; errors name the file and show the `example`."""
    import yaml

    try:
        content = load_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsbenchError(f"{path}: cannot read the {what} ({error}); check the path") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        why = f" ({problem})" if (problem := getattr(error, "problem", None)) else ""
        raise UsbenchError(f"{path}: not valid YAML{where}{why}; write {what} as '{example}'") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsbenchError(f"{path}: holds a {type(content).__name__}, not {what}; write '{example}'")
    return {str(key): value for key, value in content.items()}


def flatten(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Settings nested by section (`{"train": {"epochs": 5}}`) or flat, flat (`{"train.epochs": 5}`).

    Raises:
        UsbenchError: for a setting that is there in both ways.
    """
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, dict)
        found = {f"{key}.{inner}": item for inner, item in value.items()} if nested else {str(key): value}
        if twice := sorted(set(found) & set(flat)):
            raise UsbenchError(f"setting '{twice[0]}' is given twice, nested and flat; keep one of the two")
        flat.update(found)
    return flat


def make_config(
    preset: str,
    method_settings: Mapping[str, Any],
    method_presets: Mapping[str, Mapping[str, Any]],
    overrides: Mapping[str, Any],
    fusion: Fusion | None = None,
) -> Config:
    """The effective configuration: preset, then the method's and the fusion's own defaults, then `overrides`.

    Args:
        preset: Its name.
        method_settings: Names and defaults of the method's settings.
        method_presets: Other defaults of the method, by preset.
        overrides: Values by "section.key".
        fusion: Whose settings the section "fusion" has; without one it has none.

    Returns:
        The configuration.

    Raises:
        UsbenchError: For unknown keys, wrong types and values out of range; it names the key and the value.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    sections: dict[str, dict[str, Any]] = {
        "data": {**dataclasses.asdict(DataSettings()), **PRESETS[preset]["data"]},
        "train": {**dataclasses.asdict(TrainSettings()), **PRESETS[preset]["train"]},
        "fusion": {} if fusion is None else dict(fusion.settings),
        "method": {**method_settings, **method_presets.get(preset, {})},
    }
    known = [f"{name}.{key}" for name, section in sections.items() for key in section]
    for key, value in overrides.items():
        if key not in known:
            word = f"setting of fusion {fusion.name}" if fusion and key.startswith("fusion.") else "setting"
            raise unknown(word, key, known)
        name, _, inner = key.partition(".")
        sections[name][inner] = _like(key, value, sections[name][inner])
    _check(sections, {} if fusion is None else fusion.choices)
    return Config(
        preset=preset,
        data=DataSettings(**sections["data"]),
        train=TrainSettings(**sections["train"]),
        fusion=sections["fusion"],
        method=sections["method"],
    )


def _like(key: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`, or an error."""
    if default is None or value is None:
        return value
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, float):
        value = _number(value)
        fits = isinstance(value, float)
    else:
        fits = isinstance(value, type(default))
    if not fits:
        kind = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}
        wanted = kind.get(type(default).__name__, type(default).__name__)
        raise UsbenchError(f"setting {key}: '{value}' is not {wanted}; its default is {default}")
    return value


def _number(value: Any) -> Any:
    # YAML reads 1e-4 as text.
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _check(sections: dict[str, dict[str, Any]], of_fusion: Mapping[str, Sequence[str]]) -> None:
    data, train, fusion = sections["data"], sections["train"], sections["fusion"]
    choices = {
        "data.resize": (data["resize"], ("area", "nearest")),
        "data.normalise": (data["normalise"], ("zscore", "minmax", "none")),
        "data.plane": (data["plane"], ("axial", "coronal", "sagittal")),
        "train.augment": (train["augment"], ("none", "light")),
        **{f"fusion.{key}": (fusion[key], tuple(allowed)) for key, allowed in of_fusion.items()},
    }
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise unknown(f"value of {key}", str(value), allowed)
    limits = {
        "data.size": (data["size"], 16, 4096),
        "train.epochs": (train["epochs"], 1, 100_000),
        "train.batch": (train["batch"], 1, 100_000),
        "train.lr": (train["lr"], 1e-12, 100),
        "train.weight_decay": (train["weight_decay"], 0, 10),
        "train.poly_power": (train["poly_power"], 0, 10),
        "train.patience": (train["patience"], 1, 100_000),
        "train.min_batches": (train["min_batches"], 1, 100_000),
        "train.views": (train["views"], 0, 100),
        "train.empty": (train["empty"], 0, 1),
        "train.clip": (train["clip"], 0, 1e6),
        "train.modality_dropout": (train["modality_dropout"], 0, 0.99),
    }
    for key, (number, low, high) in limits.items():
        if not low <= number <= high:
            raise UsbenchError(f"setting {key}: {number} is out of range; choose from {low} to {high}")
