"""Runs that are made in a moment and keep their network, for tests of what is done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import usbench
from kit.places import ROOT

FROZEN = ROOT / "tests" / "kit" / "frozen_method.py"
"""A plugin file with a method that has a frozen part."""


def kept_run(data: Path, runs: Path, **options: Any) -> Any:
    """The result of a run of one epoch at 32 pixels on prostate phantoms; its network is kept.

    Args:
        data: Folder of the data sets.
        runs: Where runs go.
        options: Of `usbench.run`, in place of the usual ones.
    """
    words: dict[str, Any] = {"method": "unext-small", "fusion": "early", "task": "msd-prostate"}
    words |= {"preset": "smoke", "device": "cpu", "data_dir": data, "runs_dir": runs, "keep_weights": True}
    words |= {"settings": {"train.epochs": 1, "data.size": 32}}
    return usbench.run(**{**words, **options})[0]
