"""What of nnU-Net a user may set, what is refused, and what a row of it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usbench import UsbenchError

EPOCHS, ITERATIONS = 1000, 250
"""nnU-Net's own."""
SETTINGS: dict[str, Any] = {
    "configuration": "2d",
    "epochs": EPOCHS,
    "iterations": ITERATIONS,
    "batch": 0,
    "planner": "default",
    "patch": 0,
    "mirror": "task",
    "plan_on": "train",
    "python": "",
    "threads": 0,
    "silent_minutes": 60,
}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 20, "iterations": 10, "batch": 8, "patch": 128},
    "smoke": {"epochs": 1, "iterations": 2, "batch": 2, "patch": 64},
}
_CHOICES = {
    "configuration": ("2d", "3d_fullres"),
    "planner": ("default", "resenc-m", "resenc-l"),
    "mirror": ("task", "all", "none"),
    "plan_on": ("train", "all"),
}
_WORDS = {"resenc-m": "nnU-Net ResEnc M", "resenc-l": "nnU-Net ResEnc L"}
# From which on they mean something; a patch has 8 pixels at least in nnU-Net's coarsest map but one.
_LEAST = {"epochs": 1, "iterations": 1, "batch": 0, "patch": 0, "threads": 0, "silent_minutes": 1}
_LEAST_PATCH = 16


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises `UsbenchError` for the first setting that cannot work."""
    for key, choices in _CHOICES.items():
        if settings[key] not in choices:
            raise UsbenchError(f"method.{key}={settings[key]}: not known; choose from {', '.join(choices)}")
    for key, least in _LEAST.items():
        value = settings[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsbenchError(f"method.{key}={value}: not a whole number of {least} or more")
    if 0 < settings["patch"] < _LEAST_PATCH:
        raise UsbenchError(
            f"method.patch={settings['patch']}: too small for a network with two halvings; "
            f"use {_LEAST_PATCH} or more, or 0 for the patch that nnU-Net plans"
        )


def label(settings: Mapping[str, Any]) -> str:
    """What the row is called, such as "nnU-Net 2d (20 epochs of 10)".

    The iterations of an epoch stand there where they are not nnU-Net's 250, and the planner where it is not
    the default.
    """
    name = _WORDS.get(settings["planner"], "nnU-Net")
    epochs = settings["epochs"]
    words = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    if settings["iterations"] != ITERATIONS:
        words += f" of {settings['iterations']}"
    return f"{name} {settings['configuration']} ({words})"
