"""Figures: what they show, read back from the picture."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from kit.pictures import has_colour
from PIL import Image

from usbench.errors import UsbenchError
from usbench.pages import figures
from usbench.pages.figures import COLOURS, cases_figure, history_figure, pick_slice


def a_case(name="1", modalities=2, size=64, classes=2):
    rng = np.random.default_rng(0)
    truth = np.zeros((size, size), dtype=np.uint8)
    for label in range(1, classes + 1):
        truth[8 * label : 8 * label + 6, 20:40] = label
    prediction = np.roll(truth, 3, axis=1)
    images = rng.standard_normal((modalities, size, size)).astype(np.float16)
    return name, images, truth, prediction, {f"organ {i}": 0.8 for i in range(classes)}


def test_picked_slice_shows_most_of_all_classes():
    truth = np.zeros((5, 10, 10), dtype=np.uint8)
    assert pick_slice(truth) == 2
    truth[1, :6] = 1
    assert pick_slice(truth) == 1
    truth[3, :4], truth[3, 6:9] = 1, 2  # 4/6 of the first class and all of the second
    truth[4, :6], truth[4, 9, :1] = 1, 2  # all of the first and a speck, 1/30, of the second
    assert pick_slice(truth) == 3


def test_cases_figure_shows_every_case_modality_and_class(tmp_path):
    path = tmp_path / "figures" / "cases.png"
    cases_figure(path, [a_case("1"), a_case("2")], ["t1", "t2"], ["liver", "spleen"])
    assert has_colour(path, COLOURS[0])
    assert has_colour(path, COLOURS[1])
    assert not has_colour(path, COLOURS[3])
    assert [p.name for p in path.parent.iterdir()] == ["cases.png"]
    width, height = Image.open(path).size
    cases_figure(path, [a_case("1", 3)], ["t1", "t2", "flair"], ["liver", "spleen"])
    wider, lower = Image.open(path).size
    assert wider > width
    assert lower < height


def test_cases_without_prediction_or_truth_or_signal_are_drawn(tmp_path):
    name, images, truth, prediction, _ = a_case()
    nothing, flat = np.zeros_like(truth), np.zeros_like(images)
    cases = [
        (name, images, truth, nothing, {"a": 0.0}),
        (name, images, nothing, nothing, {"a": math.nan}),
        (name, flat, np.ones_like(truth), prediction, {"a": 0.3}),
        (name, np.full_like(images, np.nan), truth, truth, {"a": 1.0}),
    ]
    cases_figure(tmp_path / "cases.png", cases, ["t1", "t2"], [f"organ {i}" for i in range(9)])
    assert has_colour(tmp_path / "cases.png", COLOURS[0])


def test_view_holds_all_foreground_and_stays_inside():
    truth, prediction = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    assert figures.view_around(truth, prediction) == (0, 100, 0, 100)
    truth[2:12, 90:99] = 1
    assert figures.view_around(truth, prediction) == (0, 50, 50, 100)
    prediction[95, 3] = 2
    assert figures.view_around(truth, prediction) == (0, 100, 0, 100)


def test_unfit_cases_are_refused_by_name(tmp_path):
    with pytest.raises(UsbenchError, match="no case"):
        cases_figure(tmp_path / "cases.png", [], ["t1"], ["liver"])
    with pytest.raises(UsbenchError, match="case 7 has images"):
        cases_figure(tmp_path / "cases.png", [a_case("7")], ["t1"], ["liver"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("epochs", [0, 1, 20])
def test_history_figure(tmp_path, epochs):
    rows = [
        {
            "epoch": e,
            "loss": 1 / (e + 1),
            "dice_loss": 0.5 / (e + 1),
            "bce_loss": 0.5,
            "lr": 1e-3,
            "slices": 3,
        }
        for e in range(epochs)
    ]
    history_figure(rows, tmp_path / "history.png")
    assert Image.open(tmp_path / "history.png").size[0] > 800
    assert has_colour(tmp_path / "history.png", COLOURS[5]) == bool(epochs)


def test_importing_figures_does_not_import_matplotlib():
    code = "import sys, usbench.pages.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
