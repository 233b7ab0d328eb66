"""DICOM folders: one series is one series, of one patient; remedies that fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from kit.synthetic import SERIES_UID, Grid, scene, write_chaos_case, write_series
from pydicom.encaps import encapsulate

from usbench.contracts.problem import DataError, DataProblem, fail
from usbench.datasets.check import check
from usbench.datasets.readers.dicom import read_series
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.tasks import get_task

CHAOS = get_task("chaos")
NAMES = [f"IMG-{k:05d}" for k in range(10)]
T1_IN, T2 = "T1DUAL/DICOM_anon/InPhase", "T2SPIR/DICOM_anon"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, scene, Grid(), NAMES)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "series")


def edit(file: Path, **values: object) -> None:
    """Set elements; None removes one."""
    data = pydicom.dcmread(file)
    for name, value in values.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(file)


def problem_of(folder: Path) -> DataProblem:
    with pytest.raises(DataError) as error:
        read_series(folder, "2", fail)
    assert "\n" not in str(error.value)
    return error.value.problem


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("SeriesInstanceUID", SERIES_UID, "1.2.3"),
        ("FrameOfReferenceUID", SERIES_UID + ".2", "1.2.4"),
        ("StudyInstanceUID", SERIES_UID + ".1", "1.2.5"),
        ("PatientID", "x", "y"),
        ("PatientID", "x", ""),
        ("SeriesInstanceUID", SERIES_UID, None),
    ],
)
@pytest.mark.parametrize("which", [range(1, 10, 2), [9]])
def test_two_values_in_a_folder_are_named_with_a_file_each(folder, name, one, other, which):
    for k in which:
        edit(folder / f"{NAMES[k]}.dcm", **{name: other})
    problem = problem_of(folder)
    count = len(which)
    expected = f"slices of 2 scans: {name} {one} ({10 - count} files, such as {NAMES[0]}.dcm) and "
    expected += (
        f"{other or 'none'} ({count} {'file' if count == 1 else 'files'}, such as {NAMES[which[0]]}.dcm)"
    )
    assert problem == DataProblem(
        "2", folder, expected, "keep the files of one series in this folder, with its annotation"
    )


def test_interleaved_scans_are_not_shuffled_into_one(folder):
    """Every other slice is another scan, at even distances: nothing but the identity tells."""
    between = Grid(first=(-24, -28, -17.5))
    write_series(folder, lambda p: 3 * scene(p), between, [f"OTHER-{k}" for k in range(10)])
    with_one_uid = read_series(folder, "2", fail)
    assert with_one_uid is not None
    assert with_one_uid.volume.shape[2] == 20
    for k in range(10):
        edit(folder / f"OTHER-{k}.dcm", SeriesInstanceUID="1.2.3")
    assert "slices of 2 scans: SeriesInstanceUID" in problem_of(folder).what
    for k in range(10):
        edit(folder / f"OTHER-{k}.dcm", SeriesInstanceUID=SERIES_UID, EchoTime="90")
        edit(folder / f"{NAMES[k]}.dcm", EchoTime=f"{20 + 0.01 * k}")
    assert (
        "EchoTime 20.0 ms (10 files, such as IMG-00000.dcm) and 90.0 ms (10 files" in problem_of(folder).what
    )


@pytest.mark.parametrize("value", ["", None])
def test_files_without_any_identity_are_one_series(folder, value):
    for file in folder.iterdir():
        names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
        edit(file, **dict.fromkeys(names, value))
    series = read_series(folder, "2", fail)
    assert series is not None
    assert set(series.identity.values()) == {""}


def test_three_series_are_counted(folder):
    for k, uid in ((3, "1.2.3"), (4, "1.2.4")):
        edit(folder / f"{NAMES[k]}.dcm", SeriesInstanceUID=uid)
    assert problem_of(folder).what.startswith("slices of 3 scans: SeriesInstanceUID ")
    assert problem_of(folder).what.endswith("and 1 more")


COMPRESSED = {
    "1.2.840.10008.1.2.4.70": ("JPEG Lossless", "pip install pylibjpeg pylibjpeg-libjpeg"),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS", "pip install pylibjpeg pylibjpeg-libjpeg"),
    "1.2.840.10008.1.2.4.201": ("High-Throughput JPEG 2000", "pip install pylibjpeg pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.100": ("MPEG2", "convert the series with gdcmconv --raw"),
}


def _compress(file: Path, syntax: str) -> None:
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    data.PixelData = encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)])
    data["PixelData"].VR = "OB"
    data.save_as(file)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_codec_that_is_not_installed_is_no_broken_file(folder, syntax, monkeypatch):
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    _compress(folder / f"{NAMES[0]}.dcm", syntax)
    problem = problem_of(folder)
    words, remedy = COMPRESSED[syntax]
    assert problem.file == folder / f"{NAMES[0]}.dcm"
    assert words in problem.what
    assert remedy in problem.remedy
    assert "gdcmconv --raw" in problem.remedy
    assert "extract" not in problem.remedy


def test_compressed_pixels_that_are_broken_name_both_remedies(folder):
    _compress(folder / f"{NAMES[0]}.dcm", "1.2.840.10008.1.2.4.90")
    problem = problem_of(folder)
    assert "JPEG 2000" in problem.what
    assert "extract or download the series again; if the file is whole, install" in problem.remedy


def test_a_codec_that_is_installed_is_used(folder):
    expected = read_series(folder, "2", fail)
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        data.compress(pydicom.uid.RLELossless)
        data.save_as(file)
    found = read_series(folder, "2", fail)
    assert expected is not None
    assert found is not None
    assert np.array_equal(found.volume, expected.volume)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"PixelSpacing": None}, "it lacks PixelSpacing"),
        ({"RescaleSlope": "NaN"}, "NaN"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "perpendicular"),
        ({"NumberOfFrames": 2}, "more than one frame"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colours"),
    ],
)
def test_a_whole_file_is_not_told_to_be_extracted_again(folder, values, words):
    edit(folder / f"{NAMES[2]}.dcm", **values)
    problem = problem_of(folder)
    assert words in problem.what
    assert "extract" not in problem.remedy
    assert "again" not in problem.remedy


def _edit_series(folder: Path, **values: object) -> None:
    for file in folder.iterdir():
        edit(file, **values)


@pytest.fixture(scope="module")
def chaos_case(tmp_path_factory):
    root = tmp_path_factory.mktemp("chaos")
    write_chaos_case(root, "1")
    return root


def test_phases_that_share_a_uid_are_two_series(chaos_case):
    case = open_reader(CHAOS, chaos_case).read("1")
    assert case.images.shape[0] == 3
    assert case.notices == ()


def test_two_patients_in_one_case_are_a_problem(chaos_case, tmp_path):
    root = shutil.copytree(chaos_case, tmp_path / "copy")
    _edit_series(root / "Train_Sets/MR/1" / T2, PatientID="y")
    with pytest.raises(
        DataError, match=rf"MR/1: series of two patients: PatientID x in {T1_IN}, y in {T2}; "
    ):
        open_reader(CHAOS, root).read("1")
    _edit_series(root / "Train_Sets/MR/1" / T2, PatientID="")
    assert open_reader(CHAOS, root).read("1").notices == ()


def test_another_session_is_noticed_once_a_case_and_read(chaos_case, tmp_path, capsys):
    root = shutil.copytree(chaos_case, tmp_path / "copy")
    expected = open_reader(CHAOS, root).read("1")
    values = {"FrameOfReferenceUID": "1.2.4", "StudyInstanceUID": "1.2.5"}
    _edit_series(root / "Train_Sets/MR/1" / T2, **values)
    case = open_reader(CHAOS, root).read("1")
    assert np.array_equal(case.images, expected.images)
    assert capsys.readouterr().err == ""
    assert check(CHAOS, root / "Train_Sets/MR") == []
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("case 1: ")]
    assert len(said) == 1
    assert "t1-in and t2-spir differ in StudyInstanceUID and FrameOfReferenceUID; t1-out and" in said[0]
