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


def nested_case():
    """Three regions with one outline, another inside, and a thin one; as bits 1, 2, 4 and 8."""
    truth = np.zeros((64, 64), dtype=np.uint8)
    truth[8:56, 8:56] |= 0b0111  # the first three have the same outline
    truth[24:40, 24:40] |= 0b1000
    images = np.zeros((1, 64, 64), dtype=np.float16)
    return "1", images, truth, np.zeros_like(truth), {"a": 0.8}


def test_regions_are_drawn_from_the_largest_to_the_smallest():
    whole, core = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    whole[1:8, 1:8], core[2:4, 2:4] = 0b10, 0b01
    assert figures.drawing_order([whole | core, core], regions=True) == [(1, 1), (0, 0)]
    # Classes keep their order and their lines; a region that is nowhere is not drawn.
    assert figures.drawing_order([np.array([[3, 1]])], regions=False) == [(0, 0), (1, 0), (2, 0)]
    assert figures.drawing_order([np.array([[4, 0]])], regions=True) == [(2, 0)]
    assert figures.drawing_order([np.zeros((2, 2), np.uint8)] * 2, regions=True) == []


def near(pixels, colour):
    """How many pixels have nearly a colour: a thin line is blended with what is beside it."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted).max(axis=-1) < 40).sum())


def test_no_outline_of_a_region_hides_another(tmp_path):
    path = tmp_path / "cases.png"
    cases_figure(path, [nested_case()], ["t1"], ["a", "b", "c", "d"], regions=True)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    picture = pixels[: int(pixels.shape[0] * 0.75)]  # without the legend, which has all colours
    assert all(near(picture, colour) > 100 for colour in COLOURS[:4])


def test_no_outline_of_a_region_hides_another_on_the_page():
    import io

    from usbench.pages.case_pictures import draw_panel

    _, _, truth, _, _ = nested_case()
    for mask in (None, truth):
        content = draw_panel(np.zeros((64, 64), np.float32), truth, mask, regions=True)
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert all(near(pixels, colour) > 100 for colour in COLOURS[:4])


def test_picked_slice_shows_most_of_all_regions():
    truth = np.zeros((4, 10, 10), dtype=np.uint8)
    truth[1, :9] = 0b01
    truth[2, :6], truth[2, :3] = 0b01, 0b11  # 6/9 of the first region and all of the second
    assert pick_slice(truth, regions=True) == 2
    assert pick_slice(truth[[0, 1]], regions=True) == 1
    assert pick_slice(truth[:1], regions=True) == 0
