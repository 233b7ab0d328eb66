"""What decides a result is a value: once it is made, nobody changes it."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import usbench.contracts
import usbench.fusions
import usbench.leaderboards.stats
import usbench.results
import usbench.scores
import usbench.submissions
from usbench.datasets import splits

ROOMS = (
    usbench.contracts,
    usbench.fusions,
    usbench.leaderboards.stats,
    usbench.results,
    usbench.scores,
    usbench.submissions,
)


def test_data_classes_of_what_decides_results_are_frozen() -> None:
    names = [f"{room.__name__}.{info.name}" for room in ROOMS for info in pkgutil.iter_modules(room.__path__)]
    modules = [*map(importlib.import_module, names), *ROOMS, splits]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    }
    assert len(found) > 30
    assert [one.__qualname__ for one in found if not one.__dataclass_params__.frozen] == []  # type: ignore[attr-defined]
