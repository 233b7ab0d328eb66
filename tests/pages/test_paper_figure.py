"""The figure of a paper: what its file holds, read by others, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from kit.kept_runs import kept_run
from kit.pictures import has_colour
from PIL import Image

import usbench
from usbench.errors import UsbenchError
from usbench.pages.figures import COLOURS


@pytest.fixture(scope="module")
def runs(small_prostate, tmp_path_factory, cache):
    """The folder of two runs of one epoch on the same fold."""
    folder = tmp_path_factory.mktemp("paper")
    for fusion in ("early", "late"):
        kept_run(small_prostate, folder, fusion=fusion, keep_weights=False)
    return folder


def results_of(runs):
    return [usbench.load_result(file) for file in sorted(runs.rglob("result.json"))]


def words_of(svg):
    """The texts of an SVG picture, by a reader of XML."""
    root = ElementTree.parse(svg).getroot()
    return ["".join(one.itertext()).strip() for one in root.iter("{http://www.w3.org/2000/svg}text")]


def test_svg_has_a_row_a_patient_and_the_dsc_of_each_mask(runs, tmp_path):
    early, late = results_of(runs)
    cases = early.data["split"]["test"][:2]
    path = usbench.figure(runs, [f"{cases[0]}:1", *cases[1:]], tmp_path / "fig.svg")
    words = words_of(path)
    for head in ("t2", "adc", "truth", "unext-small-early", "unext-small-late"):
        assert head in words or all(part in words for part in head.rsplit("-", 1))
    assert "slice 1" in words
    for result in (early, late):
        for case in cases:
            own = result.cases[result.cases["case"] == case]["dsc"].dropna()
            assert (f"DSC {own.mean():.3f}" if len(own) else "not scored") in words
    assert sum(word.startswith(("DSC", "not scored")) for word in words) == 2 * len(cases)
    again = usbench.figure(runs, [f"{cases[0]}:1", *cases[1:]], tmp_path / "again.svg")
    assert path.read_bytes() == again.read_bytes()


def test_png_has_the_size_that_was_asked_for_and_the_colours_of_the_truth(runs, tmp_path):
    case = results_of(runs)[0].data["split"]["test"][0]
    words = {"methods": ["unext-small-late"], "modalities": ["t2"], "width": 3.5}
    path = usbench.figure([runs], [case], tmp_path / "fig.png", **words)
    picture = Image.open(path)
    assert picture.width == round(3.5 * 300)
    assert has_colour(path, COLOURS[0])
    assert np.asarray(picture.convert("L")).std() > 10


def test_pdf_opens_and_embeds_truetype_fonts(runs, tmp_path, command):
    case = results_of(runs)[0].data["split"]["test"][0]
    done = command(
        "figure", runs, "--cases", case, "--out", tmp_path / "fig.pdf", "--methods", "unext-small-early"
    )
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "fig.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/CIDFontType2" in content
    assert b"/Type3" not in content
    if shutil.which("pdffonts") and shutil.which("pdftoppm"):
        fonts = subprocess.run(
            ["pdffonts", tmp_path / "fig.pdf"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        assert "CID TrueType" in fonts
        subprocess.run(
            ["pdftoppm", "-png", "-r", "50", tmp_path / "fig.pdf", tmp_path / "page"], timeout=60, check=True
        )
        (page,) = tmp_path.glob("page*.png")
        assert Image.open(page).width == 7 * 50


def test_what_runs_do_not_have_is_refused(runs, tmp_path, monkeypatch):
    first = results_of(runs)[0]
    case = first.data["split"]["test"][0]
    trained = first.data["split"]["train"][0]
    out = tmp_path / "fig.png"
    for cases, words, message in (
        (["nobody"], {}, "unknown case 'nobody'"),
        ([f"{case}:999"], {}, f"case {case}: has no slice 999; choose one from 1 to"),
        ([f"{case}:x"], {}, "'x' is no number of a slice"),
        ([trained], {}, f"case {trained}: no run of unext-small-early tested it"),
        ([case], {"methods": ["unet-early"]}, "unknown method of the runs 'unet-early'"),
        ([case], {"modalities": ["flair"]}, "unknown modality 'flair'"),
        ([case], {"width": 1.0}, "5 columns do not fit into 1 inches"),
        ([], {}, "no case is named"),
    ):
        with pytest.raises(UsbenchError, match=message):
            usbench.figure(runs, cases, out, **words)
    with pytest.raises(UsbenchError, match=r"unknown kind of figure '\.gif'"):
        usbench.figure(runs, [case], tmp_path / "fig.gif")
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(UsbenchError, match="the prepared scans of task msd-prostate are not in the cache"):
        usbench.figure(runs, [case], out)
    assert not out.exists()


def test_a_changed_mask_is_not_drawn(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    first = results_of(tmp_path / "runs")[0]
    case = first.data["split"]["test"][0]
    (first.path / "predictions" / f"{case}.nii.gz").write_bytes(b"")
    with pytest.raises(UsbenchError, match="the mask was not kept, or changed since the run"):
        usbench.figure(tmp_path / "runs", [case], tmp_path / "fig.png")
