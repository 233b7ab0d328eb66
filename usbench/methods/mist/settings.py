"""What of MIST a user may set, what is refused, and what a row of it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usbench import UsbenchError

EPOCHS, STEPS = 1000, 250
"""MIST's own."""
SETTINGS: dict[str, Any] = {
    "network": "nnunet",
    "epochs": EPOCHS,
    "steps": STEPS,
    "warmup": 20,
    "batch": 2,
    "patch": 0,
    "overlap": 0.5,
    "tta": True,
    "workers": 8,
    "python": "",
    "silent_minutes": 60,
}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "network": "nnunet-pocket", "epochs": 10, "steps": 8, "warmup": 1, "patch": 32, "overlap": 0.25,
        "tta": False, "workers": 0,
    },
    "smoke": {
        "network": "nnunet-pocket", "epochs": 1, "steps": 2, "warmup": 0, "batch": 1, "patch": 32,
        "overlap": 0.25, "tta": False, "workers": 0,
    },
}  # fmt: skip
NETWORKS = (
    "nnunet", "nnunet-pocket", "mednext-small", "mednext-base", "mednext-medium", "mednext-large", "fmgnet",
    "wnet", "swinunetr-small", "swinunetr-base", "swinunetr-large",
)  # fmt: skip
_LEAST = {"epochs": 1, "steps": 1, "warmup": 0, "batch": 1, "patch": 0, "workers": 0, "silent_minutes": 1}
_HALVINGS = 32


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises `UsbenchError` for the first setting that cannot work."""
    if settings["network"] not in NETWORKS:
        raise UsbenchError(
            f"method.network={settings['network']}: not known to MIST; choose from {', '.join(NETWORKS)}"
        )
    for key, least in _LEAST.items():
        value = settings[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsbenchError(f"method.{key}={value}: not a whole number of {least} or more")
    if settings["warmup"] >= settings["epochs"]:
        raise UsbenchError(
            f"method.warmup={settings['warmup']}: must be fewer than the {settings['epochs']} epochs"
        )
    if settings["patch"] % _HALVINGS:
        raise UsbenchError(
            f"method.patch={settings['patch']}: MIST halves it five times; use a multiple of {_HALVINGS}, "
            "or 0 for the patch that MIST chooses"
        )
    overlap = settings["overlap"]
    if not isinstance(overlap, (int, float)) or isinstance(overlap, bool) or not 0 <= overlap < 1:
        raise UsbenchError(f"method.overlap={overlap}: not a part of a patch; use 0 or more and less than 1")
    if not isinstance(settings["tta"], bool):
        raise UsbenchError(f"method.tta={settings['tta']}: use true or false")


def label(settings: Mapping[str, Any]) -> str:
    """What the row is called, such as "MIST nnunet-pocket (10 epochs of 8)".

    The steps of an epoch stand there where they are not MIST's 250.
    """
    epochs = settings["epochs"]
    words = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    if settings["steps"] != STEPS:
        words += f" of {settings['steps']}"
    return f"MIST {settings['network']} ({words})"
