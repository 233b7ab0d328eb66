"""Finding methods: lazily, from files and from installed packages, with faults that stay where they are."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.installing import PLUGIN, install

from usbench.errors import UsbenchError
from usbench.methods.registry import find_methods, get_method, search, source_hash


def test_listing_imports_no_method() -> None:
    code = (
        "import sys; from usbench.methods.registry import find_methods; find_methods(); "
        "assert not {'torch', 'usbench.baselines.unet'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(UsbenchError, match="unknown method 'unett', did you mean 'unet'"):
        get_method("unett")


def test_plugin_file(tmp_path: Path) -> None:
    file = tmp_path / "tiny.py"
    file.write_text(PLUGIN)
    method, found = get_method("tiny", [file])
    assert found.origin == f"file {file}"
    first = source_hash(method)
    file.write_text(PLUGIN + "\n# changed\n")
    assert source_hash(get_method("tiny", [file])[0]) != first


def test_source_hash_follows_the_files_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, block: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "blocks.py").write_text(f"def block(x):\n    return x{block}\n")
        (folder / "unused.py").write_text(f"# {name}\n")
        (folder / "net.py").write_text(f"from {name}.blocks import block\n{PLUGIN}")
        module = importlib.import_module(f"{name}.net")
        return source_hash(module.METHOD)

    one, two = make("pack_a", ""), make("pack_b", " * 2")
    assert one != two
    (tmp_path / "pack_a" / "unused.py").write_text("# changed\n")
    method = sys.modules["pack_a.net"].METHOD  # type: ignore[attr-defined]
    assert source_hash(method) == one
    (tmp_path / "pack_a" / "blocks.py").write_text("def block(x):\n    return x * 3\n")
    assert source_hash(method) != one


def test_entry_point_and_a_broken_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "goodpackage", PLUGIN, "tiny")
    install(tmp_path, "badpackage", "raise RuntimeError('no licence server')", "broken")
    install(tmp_path, "leavingpackage", "import sys; sys.exit('bye')", "leaving")
    install(tmp_path, "liarpackage", PLUGIN, "other-name")
    install(tmp_path, "oddpackage", "from usbench import Method\nMETHOD = Method('m', 'p')", "odd")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_methods()
    assert found["tiny"].origin == "package goodpackage 1.2"
    assert found["tiny"].load().name == "tiny"
    with pytest.raises(UsbenchError, match=r"'broken' \(package badpackage 1.2\).*no licence server"):
        found["broken"].load()
    with pytest.raises(UsbenchError, match=r"'leaving' .* cannot be imported: SystemExit: bye"):
        found["leaving"].load()
    with pytest.raises(UsbenchError, match=r"'odd' \(package oddpackage 1.2\) cannot .*build_network"):
        found["odd"].load()
    with pytest.raises(UsbenchError, match="calls itself 'tiny'; give the entry point that name"):
        found["other-name"].load()
    assert get_method("unet")[0].name == "unet"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as on a terminal: what runs in the background, such as these tests at times, ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_package_that_interrupts_is_named_and_a_user_who_does_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "interrupting", "raise KeyboardInterrupt", "interrupting")
    ctrl_c = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)"
    install(tmp_path, "slowpackage", ctrl_c, "slow")
    monkeypatch.syspath_prepend(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(UsbenchError, match=r"'interrupting' .* cannot be imported: KeyboardInterrupt"):
        find_methods()["interrupting"].load()
    with pytest.raises(KeyboardInterrupt):
        find_methods()["slow"].load()
    (tmp_path / "slow.py").write_text(ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        search([tmp_path / "slow.py"])
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_package_cannot_take_a_built_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "thief", PLUGIN, "unet")
    monkeypatch.syspath_prepend(tmp_path)
    methods = search()
    assert methods.get("unet").origin == "built in"
    assert [p.text for p in methods.problems] == [
        "package thief 1.2: method 'unet' is there already (built in); rename yours"
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('boom')", "raised on import: ValueError: boom"),
        ("import nowhere_to_be_found", "raised on import: ModuleNotFoundError"),
        ("x = 1", "neither METHOD nor METHODS"),
        ("METHOD = 3", "is a int, not a usbench.Method"),
        ("def f(:", "raised on import: SyntaxError"),
        (
            "from usbench import Method\nMETHOD = Method('m', 'p')",
            "build_network, build_segmenter or pipeline",
        ),
        (
            "from usbench import Method\nMETHOD = Method('m', 'p', build_network=int, fusions=('none',))",
            "'none'",
        ),
        (PLUGIN.replace('"tiny"', '"unet"'), "'unet' is there already (built in)"),
        (PLUGIN.replace('"tiny"', '"../up"'), "method '../up' has no sound name; use letters, digits"),
        (PLUGIN + "METHODS = METHOD", "METHODS is a Method; make it a list"),
        ("import sys\nsys.exit('no licence')", "raised on import: SystemExit: no licence"),
        ("raise KeyboardInterrupt('of mine')", "raised on import: KeyboardInterrupt: of mine"),
        ("class Own(BaseException): pass\nraise Own('x')", "raised on import: Own: x"),
        ("class Own(Exception):\n def __str__(self): 1 / 0\nraise Own", "raised on import: Own: no message"),
        ("def __getattr__(name): raise KeyboardInterrupt", "raised when it was looked into: Keyboard"),
        ("class M:\n def __eq__(self, other): 1 / 0\nMETHODS, METHOD = [M()], M()", "looked into: ZeroDiv"),
    ],
)
def test_bad_plugin_files(tmp_path: Path, code: str, message: str) -> None:
    file, good = tmp_path / "bad.py", tmp_path / "good.py"
    file.write_text(code)
    good.write_text(PLUGIN)
    methods = search([file, good])
    (problem,) = methods.problems
    assert message in problem.text
    assert str(file) in problem.text
    assert methods.get("tiny").load().name == "tiny"
    assert methods.get("zeus").origin == "built in"
    with pytest.raises(UsbenchError) as caught:
        get_method(problem.name or "mine", [file])
    assert str(caught.value) == problem.text


@pytest.mark.slow
def test_plugin_passes_the_base_tests_and_runs(tmp_path: Path, small_prostate: Path) -> None:
    import usbench

    file = tmp_path / "tiny.py"
    file.write_text(PLUGIN)
    for fusion in ("early", "hybrid", "late"):
        (result,) = usbench.run(
            method="tiny",
            fusion=fusion,
            task="msd-prostate",
            data_dir=small_prostate,
            plugins=[file],
            preset="smoke",
            runs_dir=tmp_path / "runs",
            device="cpu",
        )
        assert result.data["method"]["source_hash"]
