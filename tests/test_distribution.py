"""The source distribution and the wheel: whole, and at work outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from kit.places import ROOT

OWN = (".ci", "LICENSE", "Makefile", "benchmarks", "docs", "examples", "leaderboards", "tests", "usbench")
DATA = (".css", ".js", ".csv", ".json", ".txt", ".typed")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source distribution, and the wheel that was built from it alone."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("distribution")
    source = folder / "source"
    waste = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for entry in ROOT.iterdir():
        if entry.name in OWN and entry.is_dir():
            shutil.copytree(entry, source / entry.name, ignore=waste)
        elif entry.name in OWN or entry.suffix in (".md", ".toml", ".txt", ".cff", ".in", ".yml"):
            source.mkdir(exist_ok=True)
            shutil.copy(entry, source)
    call = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (archive,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return archive, wheel


def files_below(folder: str) -> set[str]:
    """The files of a folder of the checkout, without what Python leaves there."""
    found = (
        file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts
    )
    return {file.relative_to(ROOT).as_posix() for file in found}


@pytest.mark.slow
def test_a_source_distribution_holds_all_tests_and_what_they_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("tests", "examples", "docs", "leaderboards", "benchmarks"):
        assert not files_below(folder) - held, folder


@pytest.mark.slow
def test_a_wheel_holds_all_data_of_the_package(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        held = set(wheel.namelist())
    wanted = {name for name in files_below("usbench") if name.endswith((".py", *DATA))}
    assert not wanted - held
    assert not [name for name in held if name.startswith(("tests", "docs"))]


@pytest.mark.slow
def test_a_wheel_runs_outside_the_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / "installed"
    words = ["install", "-q", "--no-deps", "--no-index", "--target", str(place), str(built[1])]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(place), "USBENCH_CACHE": str(tmp_path / "cache")}
    where = [sys.executable, "-c", "import usbench; print(usbench.__file__)"]
    said = subprocess.run(where, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert said.stdout.startswith(str(place))
    run = ["run", "--method", "unext-small", "--fusion", "late", "--task", "chaos", "--preset", "smoke"]
    call = [sys.executable, "-m", "usbench", *run]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").rglob("figures/cases.png"))
    board = [sys.executable, "-m", "usbench", "leaderboard", "--out", "board"]
    subprocess.run(board, capture_output=True, env=environment, cwd=tmp_path, timeout=300, check=True)
    assert "usbench leaderboard" in (tmp_path / "board" / "leaderboard.html").read_text()


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Tests are imported by the file's name alone: of two with one name, pytest refuses the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
