"""Plugins that are broken, rude or changed: others work, what is wrong is listed, a change is a new cell."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.installing import PLUGIN, install

from usbench.errors import UsbenchError
from usbench.methods.registry import get_method, modules_of, search, source_hash
from usbench.plugins.code_hash import source_files

BAD = {
    "raises": "raise RuntimeError('no licence server')",
    "exits": "import sys; sys.exit(3)",
    "syntax": "def f(:",
    "nothing": "METHOD = None",
    "misnamed": PLUGIN,
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages: five broken ones, one that prints, one that takes a name, one without
    metadata."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, code in BAD.items():
        install(folder, f"{name}package", code, name)
    install(folder, "printingpackage", "print('hello from a plugin')\n" + PLUGIN, "tiny")
    install(folder, "thiefpackage", PLUGIN, "unext-small")
    bare = folder / "bare-1.0.dist-info"
    bare.mkdir()
    (bare / "entry_points.txt").write_text("[usbench.methods]\nbare = bare:METHOD\n")
    return folder


def environment(site: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.slow
def test_installed_plugins_are_listed_without_being_imported(command: Any, site: Path) -> None:
    for name in BAD:
        (site / f"{name}package.py").write_text("import os\nos._exit(9)\n")
    done = command("methods", "--json", **environment(site))
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {*BAD, "tiny", "bare", "unet", "zeus"} <= set(rows)
    assert rows["raises"] == {
        "name": "raises",
        "origin": "package raisespackage 1.2",
        "version": "1.2",
        "counted": False,
        "error": None,
    }
    assert rows["unext-small"]["origin"] == "built in"
    assert rows["unext-small"]["costs"]["early"]["parameters"] > 250_000
    assert "thiefpackage 1.2: method 'unext-small' is there already (built in); rename yours" in done.stderr


@pytest.mark.slow
def test_named_plugins_are_counted_or_say_what_is_wrong(command: Any, site: Path) -> None:
    done = command("methods", *BAD, "tiny", "unext-small", "--json", **environment(site))
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {*BAD, "tiny", "unext-small"}
    words = {
        "raises": "RuntimeError: no licence server",
        "exits": "SystemExit: 3",
        "syntax": "SyntaxError",
        "nothing": "is a NoneType, not a usbench.Method",
        "misnamed": "calls itself 'tiny'; give the entry point that name",
    }
    for name, text in words.items():
        assert text in rows[name]["error"]
        assert f"package {name}package 1.2" in rows[name]["error"]
    # 3 modalities: 4 x (3 x 9 + 1); 4 classes: 4 x (4 + 1).
    assert rows["tiny"]["costs"]["early"]["parameters"] == 112 + 20
    assert "hello from a plugin" in done.stderr
    unknown = command("methods", "tinny", **environment(site))
    assert unknown.returncode == 1
    assert "did you mean 'tiny'" in unknown.stderr


@pytest.mark.slow
def test_run_and_matrix_of_other_methods_go_on(
    command: Any, site: Path, tmp_path: Path, small_prostate: Path
) -> None:
    files = {name: tmp_path / f"{name}.py" for name in ("raises", "exits")}
    for name, file in files.items():
        file.write_text(BAD[name])
    plugins = [word for file in files.values() for word in ("--plugin", file)]
    words = ["--data-dir", small_prostate, "--preset", "smoke", "--runs-dir", tmp_path / "runs", *plugins]
    done = command(
        "run", "--method", "tiny", "--fusion", "early", "--task", "msd-prostate", *words, **environment(site)
    )
    assert done.returncode == 0, done.stderr
    assert f"not used: {files['exits']}: plugin raised on import: SystemExit: 3" in " ".join(
        done.stderr.split()
    )
    assert "hello from a plugin" not in done.stdout
    done = command(
        "matrix", "--methods", "all", "--fusions", "late", "--tasks", "msd-prostate", "--dry-run", *words,
        **environment(site),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed = " ".join(done.stdout.split())
    for text in ("RuntimeError: no licence server", "SystemExit: 3", "plugin raised on import", "misnamed"):
        assert text in listed
    assert "msd-prostate unet late" in listed
    assert "msd-prostate tiny late" in listed


def test_a_plugin_may_import_torchvision(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import torchvision.models\n" + PLUGIN)
    assert get_method("tiny", [file])[0].name == "tiny"


def test_a_file_that_takes_the_asked_name_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.replace('"tiny"', '"unet"'))
    with pytest.raises(UsbenchError, match=r"mine.py: method 'unet' is there already \(built in\)"):
        get_method("unet", [file])
    assert search([file]).get("unext").origin == "built in"


# What a changed plugin changes


def write_package(folder: Path, name: str) -> Path:
    """A package with its METHOD in one module and its code all over the place."""
    package = folder / name
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "unused.py").write_text("")
    (package / "constants.py").write_text("WIDTH = 4\n")
    (package / "late.py").write_text("def gain():\n    return 1\n")
    (package / "parts" / "__init__.py").write_text("")
    (package / "parts" / "blocks.py").write_text("from ..constants import WIDTH\nSTEPS = 2\n")
    body = PLUGIN.replace("def build(", "def unbound(") + (
        "import functools\nfrom . import constants\nimport " + name + ".parts.blocks as blocks\n"
        "def build(in_channels, classes, width=4, more=0):\n"
        "    from .late import gain\n    return unbound(in_channels, classes)\n"
    )
    (package / "net.py").write_text(
        body.replace('METHOD = Method("tiny"', 'OTHER = Method("other"').replace("=build,", "=unbound,")
    )
    (package / "plugin.py").write_text(
        "import functools\nfrom usbench import Method\nfrom .net import build\n"
        "METHOD = Method('packed', 'nobody', build_network=functools.partial(build, more=1))\n"
    )
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[usbench.methods]\npacked = {name}.plugin:METHOD\n")
    return package


def test_every_module_of_a_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_package(tmp_path, "packedpackage")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    method, found = get_method("packed")
    assert found.version == "1.0"
    used = ["__init__", "constants", "late", "net", "parts/__init__", "parts/blocks", "plugin"]
    names = [
        file.relative_to(package).with_suffix("").as_posix() for file in source_files(*modules_of(method))
    ]
    assert sorted(names) == used
    before = source_hash(method)
    for name in used:
        file = package / f"{name}.py"
        text = file.read_text()
        file.write_text(text + "# changed\n")
        assert source_hash(method) != before, name
        file.write_text(text)
    assert source_hash(method) == before
    (package / "unused.py").write_text("# changed\n")
    assert source_hash(method) == before


def test_what_lies_beside_a_plugin_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "besides.py").write_text("GAIN = 1\n")
    (tmp_path / "mine.py").write_text("import besides\n" + PLUGIN)
    method, _ = get_method("tiny", [tmp_path / "mine.py"])
    before = source_hash(method)
    (tmp_path / "besides.py").write_text("GAIN = 2\n")
    assert source_hash(method) != before
    sys.modules.pop("besides")


def test_a_changed_plugin_and_a_new_version_are_new_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_prostate: Path
) -> None:
    from usbench.contracts.request import Request
    from usbench.runs.plan import make_cells, make_plan

    package = write_package(tmp_path, "cellpackage")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()

    def key() -> str:
        request = Request(
            method="packed",
            fusion="early",
            task="msd-prostate",
            data_dir=small_prostate,
            folds="0",
            preset="smoke",
            device="cpu",
            runs_dir=tmp_path / "runs",
        )
        (cell,) = make_cells(make_plan(request))
        return cell.key

    first = key()
    assert key() == first
    (package / "constants.py").write_text("WIDTH = 5\n")
    changed = key()
    (tmp_path / "cellpackage-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: cellpackage\nVersion: 1.1\n"
    )
    assert len({first, changed, key()}) == 3
