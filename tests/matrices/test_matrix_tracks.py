"""`usbench matrix --track`: finished cells are tested too, once, and a failure stops nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import usbench
from usbench.matrices.summary import summary
from usbench.results.tracks import load_track, track_folders


def test_every_finished_cell_is_tested_once(words: dict[str, Any]) -> None:
    asked = {**words, "folds": "0", "keep_weights": True, "tracks": ["robustness", "external"]}
    made = usbench.matrix(**asked)
    assert not made.failed
    assert made.evaluated == 2 * len(made.cells)
    assert f"tracks: {made.evaluated} computed, 0 failed" in summary(made)
    for planned in made.cells:
        found = [
            load_track(folder, planned.result.data["digest"]) for folder in track_folders(planned.folder)
        ]
        assert [one.data["name"] for one in found] == ["external-msd-prostate-scanner2", "robustness"]
    again = usbench.matrix(**asked)
    assert (again.computed, again.evaluated, again.failed) == (0, 0, {})


def test_a_track_that_fails_is_named_and_stops_no_other(words: dict[str, Any], tmp_path: Path) -> None:
    made = usbench.matrix(**{**words, "folds": "0", "keep_weights": True})
    first, *others = made.cells
    (first.folder / "network.safetensors").unlink()
    again = usbench.matrix(**words, tracks=["robustness"])
    (reason,) = (why for name, why in again.lost.items() if name == f"{first.name}, robustness")
    assert "network.safetensors" in reason
    assert again.evaluated >= len(others)
    assert again.failed == again.lost
