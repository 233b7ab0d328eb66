"""Settings of a run: the presets, `--set key=value`, YAML files, and the effective configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.settings import DataSettings, TrainSettings, VolumeSettings
from usbench.errors import UsbenchError, unknown
from usbench.storage.tables import number, whole
from usbench.storage.texts import load_yaml, read_yaml

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
        sections |= {"fusion": self.fusion, "method": self.method}
        return {name: _plain(section) for name, section in sections.items()}


def _plain(section: dict[str, Any]) -> dict[str, Any]:
    """A section with lists for tuples, as JSON gives it back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}


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

OF_VOLUMES: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {"train": {"batch": 2}},
    "quick": {"train": {"batch": 2}, "volume": {"shape": (32, 64, 64), "patch": (16, 64, 64)}},
    "smoke": {"train": {"batch": 2}, "volume": {"shape": (8, 32, 32), "patch": (8, 32, 32), "patches": 2}},
}
"""What the presets are besides for a method of volumes, whose batches count volumes or patches."""

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
            values[key.strip()] = load_yaml(value) if value.strip() else ""
        except yaml.YAMLError as error:
            why = f" ({problem})" if (problem := getattr(error, "problem", None)) else ""
            raise UsbenchError(
                f"--set {key.strip()}: value '{value[:80]}' cannot be read{why}; quote it"
            ) from error
    return values


def read_config_file(path: Path) -> dict[str, Any]:
    """A YAML file of settings, nested (`train: {epochs: 5}`) or flat (`train.epochs: 5`), flattened."""
    return flatten(read_mapping(path, "settings", "train: {epochs: 5}"))


def read_mapping(path: Path, what: str, example: str) -> dict[str, Any]:
    """A YAML file of `what`, a mapping by name; errors name the file and show the `example`."""
    content = read_yaml(path, f"the {what}", "check the path", f"write {what} as '{example}'")
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
    dims: int = 2,
) -> Config:
    """The effective configuration: preset, then the method's and the fusion's own defaults, then `overrides`.

    Args:
        preset: Its name.
        method_settings: Names and defaults of the method's settings.
        method_presets: Other defaults of the method, by preset: of its own settings by their names, of others
            as "section.key".
        overrides: Values by "section.key".
        fusion: Whose settings the section "fusion" has; without one it has none.
        dims: `Method.dims`. Only a method of volumes, 3, has the section "volume".

    Returns:
        The configuration.

    Raises:
        UsbenchError: For unknown keys, wrong types and values out of range; it names the key and the value.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    of_method = method_presets.get(preset, {})
    sections: dict[str, dict[str, Any]] = {
        "data": {**dataclasses.asdict(DataSettings()), **PRESETS[preset]["data"]},
        "train": {**dataclasses.asdict(TrainSettings()), **PRESETS[preset]["train"]},
        "fusion": {} if fusion is None else dict(fusion.settings),
        "method": {**method_settings, **{key: v for key, v in of_method.items() if "." not in key}},
    }
    if dims == 3:
        sections["volume"] = dataclasses.asdict(VolumeSettings())
        for name, section in OF_VOLUMES[preset].items():
            sections[name] |= section
    known = [f"{name}.{key}" for name, section in sections.items() for key in section]
    elsewhere = {key: value for key, value in of_method.items() if "." in key}
    for key, value in [*elsewhere.items(), *overrides.items()]:
        if key.startswith("volume.") and dims != 3:
            raise UsbenchError(
                f"setting {key}: a network of slices has no such setting, only one of volumes has (dims=3); "
                "leave it out"
            )
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
        volume=VolumeSettings(**sections["volume"]) if dims == 3 else None,
    )


def _like(key: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`, or an error."""
    if default is None or (value is None and not isinstance(default, tuple)):
        return value
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, float):
        value = _number(value)
        fits = isinstance(value, float)
    elif isinstance(default, tuple):
        value = _three(value)
        fits = isinstance(value, tuple)
    else:
        fits = isinstance(value, type(default))
    if not fits:
        kind = {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "str": "a word",
            "tuple": "three whole numbers such as 32,64,64",
        }
        wanted = kind.get(type(default).__name__, type(default).__name__)
        raise UsbenchError(f"setting {key}: '{value}' is not {wanted}; its default is {default}")
    return value


def _number(value: Any) -> Any:
    # YAML reads 1e-4 as text.
    if isinstance(value, bool):
        return value
    try:
        return number(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _three(value: Any) -> Any:
    """Three whole numbers as a tuple, from a list or from a text such as "32,64,64"; else `value`."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) != 3:
        return value
    try:
        if any(isinstance(part, bool | float) for part in parts):
            return value
        return tuple(whole(part) if isinstance(part, str) else int(part) for part in parts)
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
    volume = sections.get("volume")
    if volume is not None:
        choices["volume.mode"] = (volume["mode"], ("whole", "patch"))
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
        "train.warmup": (train["warmup"], 0, 100_000),
    }
    if volume is not None:
        limits |= {
            "volume.spacing": (volume["spacing"] or 0.1, 0.1, 100),
            "volume.overlap": (volume["overlap"], 0, 0.9),
            "volume.foreground": (volume["foreground"], 0, 1),
            "volume.patches": (volume["patches"], 1, 100_000),
        }
        for key in ("shape", "patch"):
            limits |= {f"volume.{key} {volume[key]}": (n, 1, 1024) for n in volume[key] if not 1 <= n <= 1024}
    for key, (value, low, high) in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsbenchError(f"setting {key}: {value} is out of range; choose from {low} to {high}")
