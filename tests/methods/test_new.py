"""`usbench new`: what it writes is clean, works at once under its fusions, and overwrites nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kit.commands import Command
from kit.installing import pip_install, with_path
from kit.places import ROOT

import usbench
from usbench.errors import UsbenchError
from usbench.methods.registry import get_method
from usbench.methods.scaffold import KINDS, new
from usbench.testing import MethodTests


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, by kind, and a package."""
    folder = tmp_path_factory.mktemp("new")
    files = {kind: new(f"my-{kind}", kind, folder=folder)[0] for kind in KINDS}
    files |= {f"{kind}-3d": new(f"my-{kind}-3d", kind, folder=folder, dims=3)[0] for kind in KINDS}
    new("My-Pack2", "segmenter", pip=True, folder=folder)
    return {**files, "package": folder / "My-Pack2"}


class Tests(MethodTests):
    """The tests of a method, of one that `usbench new` wrote for the test."""

    kind: str
    sizes = ((32, 32), (30, 45))
    modalities = (2, 3)

    @pytest.fixture(autouse=True, scope="class")
    def written(self, request: pytest.FixtureRequest, made: dict[str, Path]) -> None:
        request.cls.method = get_method(f"my-{request.cls.kind}", [made[request.cls.kind]])[0]


class TestEncoderDecoder(Tests):
    kind = "encoder-decoder"


class TestSegmenter(Tests):
    kind = "segmenter"


class TestEncoderDecoderOfVolumes(Tests):
    kind = "encoder-decoder-3d"
    sizes = ((8, 16, 16), (5, 18, 27))


class TestSegmenterOfVolumes(Tests):
    kind = "segmenter-3d"
    sizes = ((8, 16, 16), (5, 18, 27))


del Tests

EVERY = (*KINDS, *(f"{kind}-3d" for kind in KINDS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY)
def test_a_file_runs_at_once_under_all_that_it_declares(
    made: dict[str, Path], kind: str, small_prostate: Path, tmp_path: Path
) -> None:
    whole = kind.startswith("encoder")
    fusions = {"early", "hybrid", "late"} if whole else {"hybrid", "late"}
    table = usbench.matrix(
        methods=f"my-{kind}",
        plugins=[made[kind]],
        tasks="msd-prostate",
        data_dir=small_prostate,
        preset="smoke",
        device="cpu",
        workers=1,
        runs_dir=tmp_path / "runs",
    )
    assert not table.failed
    assert {result.data["cell"]["fusion"] for result in table.results} == fusions
    assert {one.fusion for one in table.not_applicable} == {"early", "hybrid", "late"} - fusions


def test_what_it_writes_is_clean(made: dict[str, Path]) -> None:
    """Under ruff as it comes, and with more rules; in the package from its own folder."""
    if shutil.which("ruff", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("ruff is not installed")
    ruff = str(Path(sys.executable).with_name("ruff"))
    package = made["package"]
    files = [str(made[kind]) for kind in EVERY]
    for words, folder in (
        (["check", "--isolated", "--select", "F,W,I,B,UP,C4,SIM,RUF", *files], package.parent),
        (["check", "--isolated", *files], package.parent),
        (["format", "--check", "--isolated", *files], package.parent),
        (["check", "--select", "F,W,I,B,UP,C4,SIM,RUF,PT", "."], package),
        (["format", "--check", "."], package),
    ):
        done = subprocess.run(
            [ruff, *words, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_has_all_that_it_needs(made: dict[str, Path]) -> None:
    package = made["package"]
    found = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert found == {
        "pyproject.toml",
        "README.md",
        "src/my_pack2/__init__.py",
        "src/my_pack2/method.py",
        "tests/test_my_pack2.py",
    }
    text = "".join((package / name).read_text() for name in found)
    assert "@" not in text.replace("@property", "")
    assert 'license = "' in (package / "pyproject.toml").read_text()
    assert "MethodTests" in (package / "tests/test_my_pack2.py").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unet", "method 'unet' is there already (built in)"),
        ("UNet", "method 'unet' is there already (built in)"),
        ("a b", "'a b' cannot name a method"),
        ("../up", "cannot name a method"),
        ("two--hyphens", "cannot name a method"),
        ("-x", "cannot name a method"),
        ("1st", "cannot name a method"),
        ("", "cannot name a method"),
        ("n" * 51, "cannot name a method"),
        ("täst", "cannot name a method"),
    ],
)
def test_unsound_names_are_refused(tmp_path: Path, name: str, message: str) -> None:
    for pip in (False, True):
        with pytest.raises(UsbenchError) as caught:
            new(name, pip=pip, folder=tmp_path)
        assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["torch", "json", "class", "usbench"])
def test_a_package_hides_no_other_module(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsbenchError, match=f"Python has a module '{name}' already; choose another name"):
        new(name, pip=True, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pip", [False, True])
def test_nothing_is_overwritten(tmp_path: Path, pip: bool) -> None:
    target = tmp_path / ("mine" if pip else "mine.py")
    for _ in range(2):
        target.mkdir() if pip else target.write_text("precious")
        with pytest.raises(UsbenchError, match="is there already; choose another name, or another --folder"):
            new("mine", pip=pip, folder=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [target.name]
        target.rmdir() if pip else target.unlink()
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsbenchError, match="is there already"):
        new("mine", pip=pip, folder=tmp_path)


def test_an_installed_name_and_a_wrong_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "site" / "pack-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[usbench.methods]\nnamesake = pack:METHOD\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(UsbenchError, match=r"'namesake' is there already \(package pack 1.0\)"):
        new("namesake", folder=tmp_path)
    with pytest.raises(UsbenchError, match="--dims 4: choose 2"):
        new("mine", folder=tmp_path, dims=4)
    with pytest.raises(UsbenchError, match="unknown kind of method 'segmentor', did you mean 'segmenter'"):
        new("mine", "segmentor", folder=tmp_path)


def test_the_command_says_what_to_do_next(tmp_path: Path, command: Command) -> None:
    done = command("new", "my-net", "--folder", tmp_path / "deep" / "er")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "deep" / "er" / "my-net.py"
    assert f"written: {file}" in done.stdout
    assert f"usbench run --plugin {file} --method my-net --fusion hybrid" in done.stdout
    again = command("new", "my-net", "--folder", tmp_path / "deep" / "er")
    assert again.returncode == 1
    assert again.stderr == f"Error: {file} is there already; choose another name, or another --folder\n"


@pytest.mark.slow
def test_the_installed_package_runs_and_passes_its_own_tests(
    made: dict[str, Path], small_prostate: Path, tmp_path: Path, command: Command
) -> None:
    pip_install(made["package"], tmp_path / "site", tmp_path / "work")
    path = with_path(tmp_path / "site")
    words = ("--task", "msd-prostate", "--data-dir", small_prostate, "--preset", "smoke", "--device", "cpu")
    run = command("run", "--method", "My-Pack2", "--fusion", "hybrid", *words, "--runs-dir", tmp_path, **path)
    assert run.returncode == 0, run.stderr
    (file,) = tmp_path.rglob("result.json")
    assert json.loads(file.read_text())["method"]["origin"] == "package My-Pack2 0.1.0"
    listed = command("methods", "My-Pack2", "--task", "msd-prostate", "--preset", "smoke", "--json", **path)
    (row,) = json.loads(listed.stdout)
    assert row["error"] is None
    assert row["costs"]["early"] is None
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=made["package"],
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert tests.returncode == 0, tests.stdout


@pytest.mark.slow
def test_a_wheel_of_usbench_has_the_templates(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path / "usbench"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "usbench", copy / "usbench", ignore=shutil.ignore_patterns("__pycache__"))
    words = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(copy)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    folder = ROOT / "usbench" / "methods" / "templates"
    wanted = {f"usbench/methods/templates/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*.txt")}
    assert len(wanted) == 8
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())
